"""Structured pruning of a trained student's encoder by a share of its multiply-accumulates: ``export --prune``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel

from distill.encoders.units import Kind, Sizes, Units
from distill.evaluation.metrics import Floats
from distill.pruning.importance import importance
from distill.pruning.macs import HEAD, count_macs, total_macs
from distill.pruning.reconstruct import reconstruct
from distill.student import Student
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import Pcm

SEED = 0


class GroupPlan(BaseModel, extra="forbid"):
    """One group of units.

    Attributes:
        name: as ``blocks.0.attention``.
        kind: ``heads``, ``feed_forward`` or ``channels``.
        index: number of the block or convolution.
        before: how many units there were.
        kept: numbers of those that remain, in their order.
        lost: share of the group's importance that was removed.
    """

    name: str
    kind: Kind
    index: int
    before: int
    kept: tuple[int, ...]
    lost: float


class Plan(BaseModel, extra="forbid"):
    """A pruned encoder.

    Attributes:
        share: of the multiply-accumulates, as requested.
        samples: of the window that is counted for.
        macs_before: multiply-accumulates of one window by part.
        macs_after: those of the pruned student.
        sizes: of the pruned encoder.
        groups: each group of units.
        windows: training windows that importance was measured on.
        seed: of windows and directions.
        sparsity: ``2:4`` where two of every four neighbouring weights are zero; None for dense weights.
    """

    share: float
    samples: int
    macs_before: dict[str, int]
    macs_after: dict[str, int]
    sizes: Sizes
    groups: tuple[GroupPlan, ...]
    windows: int
    seed: int
    sparsity: str | None = None

    @property
    def removed(self) -> float:
        """Share of the multiply-accumulates that was taken out."""
        return 1.0 - sum(self.macs_after.values()) / sum(self.macs_before.values())


def smallest(groups: Sequence[Units], sizes: Sizes) -> Sizes:
    """Return the smallest sizes that pruning leaves: one head, 32 units or channels, in each group."""
    for group in groups:
        sizes = sizes.replaced(group.kind, group.index, min(group.count, group.chunk))
    return sizes


def allocate(
    groups: Sequence[Units], importances: Mapping[str, Floats], sizes: Sizes, macs: Callable[[Sizes], int], most: int
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


def reachable(student: Student, samples: int) -> float:
    """Return the largest share of the multiply-accumulates that pruning within the blocks can take out."""
    encoder = student.encoder
    least = smallest(encoder.units(), encoder.sizes)
    return 1.0 - total_macs(student, samples, least) / total_macs(student, samples)


def refuse_unreachable(student: Student, share: float, samples: int) -> None:
    """Refuse an impossible share of the multiply-accumulates, before anything is measured.

    Raises:
        WrongUseError: with the share that is possible.
    """
    if not 0.0 <= share < 1.0:
        raise WrongUseError(f"--prune {share:g}: is no share of the work between 0 and 1, such as 0.5")
    most = reachable(student, samples)
    if share > most:
        raise WrongUseError(
            f"--prune {share:g}: at most {np.floor(most * 1000) / 1000:g} of the multiply-accumulates of this "
            f"student can be taken out (one head, 32 feed-forward units and 32 channels stay in each layer)"
        )


def prune(
    student: Student,
    share: float,
    windows: Sequence[Pcm],
    samples: int,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Student, Plan]:
    """Return a pruned copy of a student, its readers fitted anew, and the plan of it.

    Args:
        student: the unpruned student; it stays as it is.
        share: of its multiply-accumulates to remove, 0 to 1.
        windows: of training speakers.
        samples: of the window that is counted for.
        say: called with a line of progress.

    Raises:
        WrongUseError: the share cannot be reached; the message contains the one that can.
    """
    refuse_unreachable(student, share, samples)
    student.eval()
    pruned = copy.deepcopy(student)
    encoder = pruned.encoder
    before = count_macs(student, samples)
    kept = {group.name: list(range(group.count)) for group in encoder.units()}
    measured = importance(student, windows, SEED)
    most = round(sum(before.values()) * (1.0 - share))

    def macs(sizes: Sizes) -> int:
        # Called tens of thousands of times, and nothing but the encoder gets smaller.
        return before[HEAD] + sum(encoder.macs(samples, sizes).values())

    if total_macs(pruned, samples) > most:
        say("pruning: importance of units, then least squares for what reads them")
        kept = allocate(encoder.units(), measured, encoder.sizes, macs, most)
        encoder.keep(kept)
        reconstruct(student.encoder, encoder, windows, kept)
    pruned.config.encoder = encoder.settings
    groups = tuple(
        GroupPlan(
            name=group.name,
            kind=group.kind,
            index=group.index,
            before=group.count,
            kept=tuple(kept[group.name]),
            lost=_lost(measured[group.name], kept[group.name]),
        )
        for group in student.encoder.units()
    )
    plan = Plan(
        share=share,
        samples=samples,
        macs_before=before,
        macs_after=count_macs(pruned, samples),
        sizes=encoder.sizes,
        groups=groups,
        windows=len(windows),
        seed=SEED,
    )
    return pruned, plan


def _lost(values: Floats, kept: Sequence[int]) -> float:
    return round(float(1.0 - values[kept].sum() / max(values.sum(), 1e-30)), 6)
