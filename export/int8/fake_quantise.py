"""INT8 simulated in PyTorch for quantisation-aware distillation.

The nodes are those that `export.graphs.policy` chooses in the student's float graph. Activations have one symmetric
range each, the largest absolute value on calibration windows, weights one for each output: the form for TensorRT, the
coarser one of the two. Rounding passes gradients straight through, except where a value is clipped.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from distill.scoring import batches
from distill.student import Student
from edge_runtime.sources.audio import Pcm
from edge_runtime.windows import WindowPolicy
from export.graphs.float_graph import export_graph
from export.graphs.policy import choose

_ATTENTION = "edgeemo_int8"
_OPERANDS = ("query", "key", "probabilities", "value")


class FakeActivation(nn.Module):
    """Rounds a tensor to 8 bits, symmetric, one scale; until its range is fixed it only records the largest value."""

    limit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("limit", torch.zeros(()), persistent=False)
        self.recording = True

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` as INT8 holds it."""
        if self.recording:
            self.limit = torch.maximum(self.limit, x.detach().abs().max())
            return x
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(
            x, _scale(self.limit.to(x.device)), _ZERO.to(x.device), -128, 127
        )
        return rounded


class FakeWeight(nn.Module):
    """Rounds a weight to 8 bits, one scale for each output; zeros of a mask stay zeros."""

    mask: Tensor | None

    def __init__(self, mask: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.recording = True

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as INT8 holds it."""
        kept = weight if self.mask is None else weight * self.mask
        if self.recording:
            return kept
        limit = kept.detach().abs().flatten(1).amax(dim=1)
        zeros = torch.zeros(len(kept), dtype=torch.int32, device=kept.device)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(kept, _scale(limit), zeros, 0, -127, 127)
        return rounded


_ZERO = torch.zeros((), dtype=torch.int32)


def _scale(limit: Tensor) -> Tensor:
    return limit.clamp(min=1e-8) / 127.0


def quantised_modules(student: Student, policy: WindowPolicy) -> dict[str, str]:
    """Return the modules whose nodes are quantised, by name in the student: ``layer`` or ``attention``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # Export changes how attention is computed and which positions there are.
        export_graph(copy.deepcopy(student), policy, path)
        choices = choose(onnx.load(path))
    found = {}
    for name in dict.fromkeys(choice.node.partition("/")[0] for choice in choices if choice.quantise):
        module = student.get_submodule(name)
        found[name] = "layer" if isinstance(module, (nn.Linear, nn.Conv1d)) else "attention"
    return found


@contextmanager
def simulated_int8(
    student: Student, modules: Mapping[str, str], windows: Sequence[Pcm], masks: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Simulate INT8 in a student while the block runs; its weights are float, and their updates persist.

    Args:
        student: the student.
        modules: result of `quantised_modules`.
        windows: of training speakers, for the ranges of activations.
        masks: of sparse layers, by name.
    """
    hooks: list[Any] = []
    fakes: list[FakeActivation | FakeWeight] = []
    layers = [(name, student.get_submodule(name)) for name, kind in modules.items() if kind == "layer"]
    attentions = [student.get_submodule(name) for name, kind in modules.items() if kind == "attention"]
    for name, layer in layers:
        activation, weight = FakeActivation(), FakeWeight((masks or {}).get(name))
        hooks.append(layer.register_forward_pre_hook(_first_input(activation)))
        parametrize.register_parametrization(layer, "weight", weight)
        fakes += [activation, weight]
    for attention in attentions:
        operands = {name: FakeActivation() for name in _OPERANDS}
        # Not registered as children: checkpoints hold the student's own weights only.
        attention.__dict__["int8_operands"] = operands
        fakes += operands.values()
    config = student.encoder.config
    before = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attention)
    config._attn_implementation = _ATTENTION
    try:
        student.eval()
        with torch.no_grad():
            for batch in batches(windows):
                student(**batch)
        for fake in fakes:
            fake.recording = False
        yield
    finally:
        for hook in hooks:
            hook.remove()
        config._attn_implementation = before
        for attention in attentions:
            del attention.__dict__["int8_operands"]
        for name, layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            if masks and name in masks:
                with torch.no_grad():
                    layer.weight.mul_(masks[name])  # type: ignore[operator]


def _first_input(fake: FakeActivation) -> Any:
    def round_it(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (fake(inputs[0]), *inputs[1:])

    return round_it


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend as Hugging Face's eager attention does, with both products' operands rounded."""
    fakes = module.__dict__.get("int8_operands") or {name: nn.Identity() for name in _OPERANDS}
    scores = torch.matmul(fakes["query"](query), fakes["key"](key).transpose(2, 3))
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1)
    probabilities = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    mixed = torch.matmul(fakes["probabilities"](probabilities), fakes["value"](value))
    return mixed.transpose(1, 2).contiguous(), probabilities
