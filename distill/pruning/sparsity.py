"""2:4 sparsity: two zeros in every four neighbouring weights, which sparse tensor cores (Ampere on) skip.

Weights go by the product of their size and the norm of the input that they are multiplied with (Wanda, Sun et al.
2023). Groups of four run along a layer's inputs, the dimension that a matrix product sums over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from distill.scoring import batches
from distill.student import Student
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import Pcm

TWO_OF_FOUR = "2:4"
SMALLEST_CHANNELS = 16
"""A layer with fewer inputs or outputs gains nothing from sparsity, nor from INT8 (`export.graphs.policy`)."""


def sparse_layers(student: Student) -> dict[str, nn.Linear]:
    """Return the linear layers of the encoder's blocks whose inputs come in fours, by their names in the student."""
    blocks = {module for block in student.encoder.blocks for module in block.modules()}
    return {
        name: module
        for name, module in student.named_modules()
        if isinstance(module, nn.Linear)
        and module in blocks
        and module.in_features % 4 == 0
        and min(module.in_features, module.out_features) >= SMALLEST_CHANNELS
    }


def masks(student: Student, windows: Sequence[Pcm]) -> dict[str, Tensor]:
    """Return the mask ``[out, in]`` of each sparse layer, 1 for weights that stay.

    Raises:
        WrongUseError: the encoder has no layer that could be sparse.
    """
    layers = sparse_layers(student)
    if not layers:
        raise WrongUseError("--sparsity 2:4: no layer of this student's blocks has inputs in groups of four")
    squares = {name: torch.zeros(layer.in_features) for name, layer in layers.items()}
    hooks = []
    for name, layer in layers.items():

        def add(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
            squares[name] += inputs[0].detach().flatten(0, -2).square().sum(dim=0)

        hooks.append(layer.register_forward_pre_hook(add))
    student.eval()
    with torch.inference_mode():
        for batch in batches(windows):
            student(**batch)
    for hook in hooks:
        hook.remove()
    return {name: two_of_four(layer.weight.detach().abs() * squares[name].sqrt()) for name, layer in layers.items()}


def two_of_four(scores: Tensor) -> Tensor:
    """Return the mask ``[out, in]`` of the two largest of every four neighbouring scores of a row."""
    fours = scores.reshape(len(scores), -1, 4)
    kept = fours.topk(2, dim=2).indices
    return torch.zeros_like(fours).scatter(2, kept, 1.0).reshape_as(scores)


class _Masked(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@contextmanager
def masked(student: Student, kept: dict[str, Tensor]) -> Iterator[None]:
    """Keep weights at zero while the block runs, and leave them there."""
    layers = {name: student.get_submodule(name) for name in kept}
    for name, layer in layers.items():
        parametrize.register_parametrization(layer, "weight", _Masked(kept[name]))
    try:
        yield
    finally:
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
