"""Structured pruning of a trained student's encoder by a share of its multiply-accumulates, for ``export --prune``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from distill.encoders.units import Sizes, Units
from distill.evaluation.metrics import Floats
from distill.pruning.importance import importance
from distill.pruning.macs import HEAD, count_macs, total_macs
from distill.pruning.plan import GroupPlan, Plan
from distill.pruning.reconstruct import reconstruct
from distill.scoring import outputs_of
from distill.student import Student
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import Pcm

SEED = 0


class Wanted(NamedTuple):
    """How a student is to be pruned.

    Attributes:
        share: of its multiply-accumulates that goes, 0 to 1.
        blocks: whole blocks that are left out first.
    """

    share: float
    blocks: int = 0


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


def refuse_unreachable(student: Student, wanted: Wanted, samples: int) -> None:
    """Refuse an impossible share or number of blocks, before anything is measured.

    Raises:
        WrongUseError: with the share or number that is possible.
    """
    encoder = student.encoder
    if not 0.0 <= wanted.share < 1.0:
        raise WrongUseError(f"--prune {wanted.share:g}: is no share of the work between 0 and 1, such as 0.5")
    if wanted.blocks and not encoder.free_heads:
        raise WrongUseError(f"--drop-blocks: whole blocks of a {encoder.family} encoder cannot be left out")
    if wanted.blocks >= encoder.depth:
        raise WrongUseError(
            f"--drop-blocks {wanted.blocks}: the encoder has {encoder.depth} blocks, and one at least must stay"
        )
    most = reachable(student, samples)
    if not wanted.blocks and wanted.share > most:
        raise WrongUseError(
            f"--prune {wanted.share:g}: at most {np.floor(most * 1000) / 1000:g} of the multiply-accumulates of this "
            f"student can be taken out (one head, 32 feed-forward units and 32 channels stay in each layer)"
        )


def prune(
    student: Student,
    wanted: Wanted,
    windows: Sequence[Pcm],
    samples: int,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Student, Plan]:
    """Return a pruned copy of a student, its readers fitted anew, and the plan of it.

    Args:
        student: the unpruned student; it stays as it is.
        wanted: how much is removed.
        windows: of training speakers.
        samples: of the window that is counted for.
        say: called with a line of progress.

    Raises:
        WrongUseError: the share cannot be reached; the message contains the one that can.
    """
    refuse_unreachable(student, wanted, samples)
    student.eval()
    pruned = copy.deepcopy(student)
    encoder = pruned.encoder
    before = count_macs(student, samples)
    total = sum(before.values())
    kept = {group.name: np.arange(group.count) for group in encoder.units()}
    first = importance(student, windows, SEED)
    left_out = _leave_out(student, pruned, wanted.blocks, windows)
    most = round(total * (1.0 - wanted.share))

    def macs(sizes: Sizes) -> int:
        # Called tens of thousands of times, and nothing but the encoder gets smaller.
        return before[HEAD] + sum(encoder.macs(samples, sizes).values())

    if total_macs(pruned, samples) > most:
        say("pruning: importance of units, then least squares for what reads them")
        measured = importance(pruned, windows, SEED) if left_out else first
        try:
            stay = allocate(encoder.units(), measured, encoder.sizes, macs, most)
        except ValueError as error:
            most_left = 1.0 - total_macs(pruned, samples, smallest(encoder.units(), encoder.sizes)) / total
            raise WrongUseError(
                f"--prune {wanted.share:g}: at most {np.floor(most_left * 1000) / 1000:g} of the multiply-accumulates "
                "of this student can be taken out"
            ) from error
        for name, units in stay.items():
            kept[name] = kept[name][units]
        encoder.keep(stay)
        reconstruct(student.encoder, encoder, windows, {name: units.tolist() for name, units in kept.items()})
    elif left_out:
        reconstruct(student.encoder, encoder, windows)
    pruned.config.encoder = encoder.settings
    groups = tuple(
        GroupPlan(
            name=group.name,
            kind=group.kind,
            index=group.index,
            before=group.count,
            kept=() if group.kind != "channels" and group.index in left_out else tuple(kept[group.name].tolist()),
            lost=_lost(first[group.name], kept[group.name], group.kind != "channels" and group.index in left_out),
        )
        for group in student.encoder.units()
    )
    plan = Plan(
        share=wanted.share,
        left_out=left_out,
        samples=samples,
        macs_before=before,
        macs_after=count_macs(pruned, samples),
        sizes=encoder.sizes,
        groups=groups,
        windows=len(windows),
        seed=SEED,
    )
    return pruned, plan


def _lost(values: np.ndarray, kept: np.ndarray, all_of_it: bool) -> float:
    return 1.0 if all_of_it else round(float(1.0 - values[kept].sum() / max(values.sum(), 1e-30)), 6)


def _leave_out(student: Student, pruned: Student, count: int, windows: Sequence[Pcm]) -> tuple[int, ...]:
    """Leave out blocks one by one, each time the one whose absence changes logits and statistics least."""
    wanted = outputs_of(student, windows) if count else None
    gone: list[int] = []
    for _ in range(count):
        assert wanted is not None
        losses = {}
        for index in range(pruned.encoder.depth):
            if pruned.encoder.block(index) is not None:
                without = copy.deepcopy(pruned)
                without.encoder.leave_out(index)
                found = outputs_of(without, windows)
                losses[index] = sum(
                    float(((now - was) / was.std(dim=0).clamp(min=1e-6)).square().mean())
                    for now, was in zip(found, wanted, strict=True)
                )
        least = min(losses, key=lambda index: losses[index])
        pruned.encoder.leave_out(least)
        gone.append(least)
    if gone:
        pruned.encoder.note_sizes()
    return tuple(sorted(gone))
