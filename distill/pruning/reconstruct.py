"""Least squares for the layers that read a pruned group, so that their outputs are those of the original encoder.

The target of such a layer is its output in the original encoder, plus the residual that it is added to there, less the
residual in the pruned encoder: this corrects errors of earlier layers as well. Its weights are the ridge regression of
the target on the remaining units, drawn towards the weights before pruning. Blocks are fitted in order, each on the
outputs of the pruned blocks before it (after He et al. 2017 and OBC, Frantar and Alistarh 2022). No gradient, and
nothing random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Units
from edge_runtime.sources.audio import Pcm

RIDGE = 1e-3
"""Strength of the pull towards the weights before pruning, in units of the mean squared activation."""
_FEW = 48
"""Windows that convolutions are fitted on: they have many more frames than blocks."""


@torch.no_grad()
def reconstruct(
    original: SpeechEncoder,
    pruned: SpeechEncoder,
    windows: Sequence[Pcm],
    kept: Mapping[str, Sequence[int]] | None = None,
    *,
    ridge: float = RIDGE,
) -> None:
    """Fit the readers of all groups of ``pruned`` from the first one on that is smaller than in ``original``, in place.

    Args:
        original: the unpruned encoder.
        pruned: the same with fewer units, its remaining weights unchanged.
        windows: of training speakers.
        kept: which units of each group of channels remain, by name: a convolution with fewer inputs may have fewer
            outputs, too. All of them if not given.
        ridge: pull towards the weights before pruning.
    """
    original.eval()
    pruned.eval()
    changed = False
    few = windows[:: max(1, len(windows) // _FEW)]
    names = [group.name for group in original.channels()]
    for number, (before, after) in enumerate(zip(original.channels(), pruned.channels(), strict=True)):
        changed |= after.count < before.count
        if changed:
            # The outputs of the reader are the next group, which may be pruned as well.
            outputs = (kept or {}).get(names[number + 1]) if number + 1 < len(names) else None
            _refit_convolution(original, pruned, before, after, few, outputs, ridge)
    wanted = [original(_row(pcm))[0][0] for pcm in windows]
    current = [pruned(_row(pcm))[0][0] for pcm in windows]
    for index in range(original.depth):
        before_block, after_block = original.block(index), pruned.block(index)
        pairs = [(before_block.hidden(index), after_block.hidden(index))]
        if original.free_heads:
            pairs.insert(0, (before_block.heads(index), after_block.heads(index)))
        for before, after in pairs:
            changed |= after.count < before.count
            if changed:
                _refit(original, pruned, index, before, after, wanted, current, ridge)
        wanted = [original.through(index, hidden) for hidden in wanted]
        current = [pruned.through(index, hidden) for hidden in current]


def _refit(
    original: SpeechEncoder,
    pruned: SpeechEncoder,
    index: int,
    before: Units,
    after: Units,
    wanted: Sequence[Tensor],
    current: Sequence[Tensor],
    ridge: float,
) -> None:
    """Fit the last layer of an attention or of a feed-forward part."""
    reader: Any = after.reader
    fit = _Regression(reader.weight, reader.bias, ridge)
    assert before.residual is not None
    assert after.residual is not None
    with (
        _watch(before.reader, before.residual) as first,
        _watch(after.reader, after.residual) as second,
    ):
        for hidden, now in zip(wanted, current, strict=True):
            original.through(index, hidden)
            pruned.through(index, now)
            target = first.output + first.residual - second.residual
            fit.add(second.input.flatten(0, 1), target.flatten(0, 1))
    weight, bias = fit.solution()
    reader.weight.copy_(weight)
    if reader.bias is not None:
        reader.bias.copy_(bias)


def _refit_convolution(
    original: SpeechEncoder,
    pruned: SpeechEncoder,
    before: Units,
    after: Units,
    windows: Sequence[Pcm],
    outputs: Sequence[int] | None,
    ridge: float,
) -> None:
    reader: Any = after.reader
    fit = _Regression(reader.weight.flatten(1), reader.bias, ridge)
    with _watch(before.reader, stop=True) as first, _watch(after.reader, stop=True) as second:
        for pcm in windows:
            for encoder in (original, pruned):
                with suppress(_SeenError):
                    encoder(_row(pcm))
            (kernel,), (stride,), (padding,) = reader.kernel_size, reader.stride, reader.padding
            columns = functional.unfold(
                second.input.unsqueeze(2), (1, kernel), stride=(1, stride), padding=(0, padding)
            )
            wanted = first.output[0] if outputs is None else first.output[0][torch.as_tensor(list(outputs))]
            fit.add(columns[0].T, wanted.T)
    weight, bias = fit.solution()
    reader.weight.copy_(weight.view_as(reader.weight))
    if reader.bias is not None:
        reader.bias.copy_(bias)


class _Regression:
    """Ridge regression ``y = W x + b`` towards known weights, from sums over batches."""

    def __init__(self, weight: Tensor, bias: Tensor | None, ridge: float) -> None:
        self._start = weight.double()
        self._bias = torch.zeros(len(weight), dtype=torch.double) if bias is None else bias.double()
        self._free_bias = bias is not None
        self._ridge = ridge
        size = weight.shape[1]
        self._square = torch.zeros(size, size, dtype=torch.double)
        self._cross = torch.zeros(size, len(weight), dtype=torch.double)
        self._inputs = torch.zeros(size, dtype=torch.double)
        self._errors = torch.zeros(len(weight), dtype=torch.double)
        self._count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add inputs ``[N, in]`` and wanted outputs ``[N, out]``."""
        error = y - functional.linear(x, self._start.float(), self._bias.float())
        self._square += x.T @ x
        self._cross += x.T @ error
        self._inputs += x.sum(dim=0)
        self._errors += error.sum(dim=0)
        self._count += len(x)

    def solution(self) -> tuple[Tensor, Tensor]:
        """Return weight ``[out, in]`` and bias ``[out]``."""
        square, cross = self._square / self._count, self._cross / self._count
        inputs, errors = self._inputs / self._count, self._errors / self._count
        if self._free_bias:
            square = square - torch.outer(inputs, inputs)
            cross = cross - torch.outer(inputs, errors)
        square = square + torch.eye(len(square)) * (self._ridge * square.diagonal().mean() + 1e-12)
        change = torch.linalg.solve(square, cross).T
        bias = self._bias + errors - change @ inputs if self._free_bias else self._bias
        return (self._start + change).float(), bias.float()


class _SeenError(Exception):
    """Ends a forward pass as soon as the wanted layer has run."""


class _Seen:
    input: Tensor
    output: Tensor
    residual: Tensor


@contextmanager
def _watch(reader: nn.Module, residual: nn.Module | None = None, *, stop: bool = False) -> Iterator[_Seen]:
    """Keep inputs and outputs of one layer, and the inputs of another one, while the block runs."""
    seen = _Seen()

    def read(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.input, seen.output = inputs[0], output
        if stop:
            raise _SeenError

    def pass_by(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.residual = inputs[0]

    hooks = [reader.register_forward_hook(read)]
    if residual is not None:
        hooks.append(residual.register_forward_pre_hook(pass_by))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _row(pcm: Pcm) -> Tensor:
    return torch.from_numpy(pcm).unsqueeze(0)
