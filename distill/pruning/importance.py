"""How much the student's outputs depend on each unit of its encoder: the one measure for all structured pruning.

Each unit is multiplied by a gate of 1; removing the unit sets it to 0. Let ``z`` be the outputs, each divided by its
deviation over the windows. To first order, setting gate ``g`` to 0 changes ``z`` by an expected squared amount of
``E |dz/dg|^2``, the diagonal of the Gauss-Newton matrix. For a random vector ``v`` of signs, ``E_v (d(v.z)/dg)^2`` is
equal to it (Hutchinson 1990), so that one backward pass a window measures all units. (Molchanov et al. 2019 take the
gradient of the loss for ``v``, which is near zero at the end of training.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.encoders.units import Units
from distill.evaluation.metrics import Floats
from distill.scoring import batches, outputs_of
from distill.student import Student
from edge_runtime.sources.audio import Pcm


def importance(student: Student, windows: Sequence[Pcm], seed: int, *, trained: bool = True) -> dict[str, Floats]:
    """Return the importance of every unit of the encoder.

    Args:
        student: the student; its encoder may be frozen.
        windows: of training speakers.
        seed: of the random directions.
        trained: logits and statistics count; False, for an untrained student: the statistics alone.

    Returns:
        For each group of units by name, ``[count]``.
    """
    logits, statistics = outputs_of(student, windows)
    scales = [_inverse_deviation(logits), _inverse_deviation(statistics)]
    groups = student.encoder.units()
    total = {group.name: np.zeros(group.count) for group in groups}
    draw = torch.Generator().manual_seed(seed)
    for batch in batches(windows):
        with _gates(groups, len(batch["pcm"])) as gates, torch.enable_grad():
            output = student(**batch)
            loss = torch.zeros(())
            for values, scale in list(zip((output.logits, output.statistics), scales, strict=True))[not trained :]:
                signs = torch.randint(0, 2, values.shape, generator=draw) * 2.0 - 1.0
                loss = loss + (values * scale * signs).sum()
            gradients = torch.autograd.grad(loss, list(gates.values()))
        for group, gradient in zip(groups, gradients, strict=True):
            each = gradient.reshape(len(gradient), group.count, group.width).sum(dim=2)
            total[group.name] += each.double().square().sum(dim=0).numpy()
    return {name: values / len(windows) for name, values in total.items()}


def _inverse_deviation(values: Tensor) -> Tensor:
    """Return the factor that gives each of ``[N, D]`` outputs the variance ``1 / D`` over the windows."""
    size = float(values.shape[1]) ** 0.5
    inverse: Tensor = 1.0 / (values.std(dim=0).clamp(min=1e-6) * size)
    return inverse


@contextmanager
def _gates(groups: Sequence[Units], rows: int) -> Iterator[Mapping[str, Tensor]]:
    """Multiply the input of each group's reader by a gate ``[rows, channels]`` of ones while the block runs."""
    gates, hooks = {}, []
    for group in groups:
        gate = torch.ones(rows, group.count * group.width, requires_grad=True)
        gates[group.name] = gate
        over_time = 1 if isinstance(group.reader, nn.Linear) else 2

        def multiply(_: nn.Module, inputs: tuple[Any, ...], gate: Tensor = gate, over_time: int = over_time) -> Any:
            return (inputs[0] * gate.unsqueeze(over_time), *inputs[1:])

        hooks.append(group.reader.register_forward_pre_hook(multiply))
    try:
        yield gates
    finally:
        for hook in hooks:
            hook.remove()
