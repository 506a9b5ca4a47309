"""Which nodes get Q/DQ, and why not the others. One page, for every INT8 form.

Only MatMul, Gemm and Conv are quantised: residual Add, LayerNorm and Softmax in INT8 wreck an audio encoder. What stays
in float beside them:

* the front end (DFT convolution, mel product): a log follows, which turns small absolute errors into large ones;
* grouped convolutions (HuBERT's positional one): slower in INT8 than in float;
* anything with fewer than 16 channels (a raw waveform's first convolution, WavLM's gates), which gains nothing;
* the last classifier, whose few weights decide.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx

QUANTISED_OPERATORS = ("MatMul", "Gemm", "Conv")
SMALLEST_CHANNELS = 16
FRONT_END = frozenset({"log_mel", "level"})


class Choice(NamedTuple):
    """Whether a node is quantised, and the reason if it is not."""

    node: str
    quantise: bool
    reason: str


def choose(model: onnx.ModelProto) -> list[Choice]:
    """Return a choice for every MatMul, Gemm and Conv of a graph, in graph order."""
    weights = {item.name: item for item in model.graph.initializer}
    logits = model.graph.output[0].name
    return [_choose(node, weights, logits) for node in model.graph.node if node.op_type in QUANTISED_OPERATORS]


def _choose(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], logits: str) -> Choice:
    if FRONT_END.intersection(node.name.partition("/")[0].split(".")):
        return Choice(node.name, False, "front end")
    if logits in node.output:
        return Choice(node.name, False, "last classifier")
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    if group > 1:
        return Choice(node.name, False, "grouped convolution")
    weight = next((weights[name] for name in node.input if name in weights and len(weights[name].dims) > 1), None)
    if weight is not None and min(weight.dims[0], weight.dims[1]) < SMALLEST_CHANNELS:
        return Choice(node.name, False, f"fewer than {SMALLEST_CHANNELS} channels")
    return Choice(node.name, True, "")
