"""Which units are removed: those of least importance a multiply-accumulate, until the target is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from distill.encoders.units import Sizes, Units
from distill.evaluation.metrics import Floats

Macs = Callable[[Sizes], int]


def smallest(groups: Sequence[Units], sizes: Sizes) -> Sizes:
    """Return the smallest sizes that pruning leaves: one head, 32 units or channels, in each group."""
    for group in groups:
        sizes = sizes.replaced(group.kind, group.index, min(group.count, group.chunk))
    return sizes


def allocate(
    groups: Sequence[Units], importances: Mapping[str, Floats], sizes: Sizes, macs: Macs, most: int
) -> dict[str, list[int]]:
    """Choose the units that stay.

    Args:
        groups: what can be made smaller.
        importances: of each unit of each group, by name.
        sizes: as they are.
        macs: counts multiply-accumulates.
        most: the most of them that may stay.

    Returns:
        For each group by name, the units that stay, in their order.

    Raises:
        ValueError: even the smallest sizes have more.
    """
    order = {group.name: np.argsort(importances[group.name], kind="stable") for group in groups}
    gone = {group.name: 0 for group in groups}
    now = macs(sizes)
    while now > most:
        best: tuple[float, Units, int, Sizes, int] | None = None
        for group in groups:
            size = sizes.of(group.kind, group.index)
            # To a multiple of the chunk, also where the width was none.
            less = (size - 1) // group.chunk * group.chunk
            if less < group.chunk:
                continue
            fewer = sizes.replaced(group.kind, group.index, less)
            count = macs(fewer)
            start = gone[group.name]
            loss = float(importances[group.name][order[group.name][start : start + size - less]].sum())
            price = loss / (now - count)
            if best is None or price < best[0]:
                best = (price, group, size - less, fewer, count)
        if best is None:
            raise ValueError("the smallest sizes have more multiply-accumulates")
        _, group, removed, sizes, now = best
        gone[group.name] += removed
    return {group.name: sorted(int(unit) for unit in order[group.name][gone[group.name] :]) for group in groups}
