"""Which nodes are quantised in every INT8 form, and the reasons for the others.

Only MatMul, Gemm and Conv are quantised: residual Add, LayerNorm and Softmax in INT8 destroy the accuracy of an audio
encoder. These stay in float too:

* the front end (products of DFT and mel filters): a log follows, which turns small absolute errors into large ones;
* means and deviations over time, products of the hidden states and the weights of frames: everything after them
  is computed from these;
* grouped convolutions (HuBERT's positional one): slower in INT8 than in float;
* anything with fewer than 16 channels (a raw waveform's first convolution, WavLM's gates), which gains nothing;
* the last classifier and the LDA head, all summands of the logits, and the regression of dimensions;
* groups that `edgeemo export --keep-float` selects, since INT8 costs most there.

A group (`group_of`) is one of: the projections of one attention, its two products of activations, one feed-forward
part, one convolution, the branches, the head.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import onnx

from edge_runtime.engines.engine import DIMENSIONS_OUTPUT

QUANTISED_OPERATORS = ("MatMul", "Gemm", "Conv")
SMALLEST_CHANNELS = 16
FRONT_END = frozenset({"log_mel", "level"})
POOLING = "student/"
"""Nodes in no module of the student: between its encoder and its branches."""


class Choice(NamedTuple):
    """Whether a node is quantised, and the reason if it is not."""

    node: str
    quantise: bool
    reason: str


def choose(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> list[Choice]:
    """Return a choice for every MatMul, Gemm and Conv of a float graph, in graph order.

    Its nodes are named by module; the groups in ``keep_float`` stay in float.
    """
    weights = {item.name: item for item in model.graph.initializer}
    logits = _summands(model)
    choices = [_choose(node, weights, logits) for node in model.graph.node if node.op_type in QUANTISED_OPERATORS]
    return [
        Choice(each.node, False, "kept in float") if each.quantise and group_of(each.node) in keep_float else each
        for each in choices
    ]


def groups(choices: list[Choice]) -> dict[str, int]:
    """Return the groups that are quantised, in graph order, and how many nodes each has."""
    return dict(Counter(group_of(choice.node) for choice in choices if choice.quantise))


def group_of(node: str) -> str:
    """Return the group of a node by its name, such as ``encoder.layers.0.fc1/MatMul_12``.

    >>> group_of("encoder.layers.0.fc1/MatMul_12"), group_of("encoder.encoder.layers.3.attention/MatMul_7")
    ('block 0 feed-forward', 'block 3 attention products')
    """
    module = node.partition("/")[0]
    block = re.search(r"\blayers\.(\d+)\.(.+)", module)
    if block:
        number, part = block.groups()
        if "attn" not in part and "attention" not in part:
            return f"block {number} feed-forward"
        return f"block {number} attention {'projections' if part.endswith('_proj') else 'products'}"
    convolution = re.search(r"\bconv(?:_layers\.)?(\d+)", module)
    if convolution:
        return f"convolution {convolution[1]}"
    if module.startswith("encoder."):
        return "feature projection" if "projection" in module else module.removeprefix("encoder.")
    return "head" if module.startswith(("head", "lda_head", "dimension_head")) else "branches"


def _summands(model: onnx.ModelProto) -> set[str]:
    """Return the names of the logits, of the dimensions, and of what is added up to them."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [
        model.graph.output[0].name,
        *(each.name for each in model.graph.output if each.name == DIMENSIONS_OUTPUT),
    ]
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name in made_by and made_by[name].op_type == "Add":
            waiting += made_by[name].input
    return found


def _choose(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], logits: set[str]) -> Choice:
    if FRONT_END.intersection(node.name.partition("/")[0].split(".")):
        return Choice(node.name, False, "front end")
    if node.name.startswith(POOLING):
        return Choice(node.name, False, "statistics over time")
    if logits.intersection(node.output):
        return Choice(node.name, False, "last classifier")
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    if group > 1:
        return Choice(node.name, False, "grouped convolution")
    weight = next((weights[name] for name in node.input if name in weights and len(weights[name].dims) > 1), None)
    if weight is not None and min(weight.dims[0], weight.dims[1]) < SMALLEST_CHANNELS:
        return Choice(node.name, False, f"fewer than {SMALLEST_CHANNELS} channels")
    return Choice(node.name, True, "")
