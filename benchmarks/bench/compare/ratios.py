"""Ratio of the latencies of two runs, with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS = 2000


class Ratio(NamedTuple):
    """A ratio with its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of_medians(old: Sequence[Floats], new: Sequence[Floats], *, draws: int = DRAWS, seed: int = 0) -> Ratio:
    """Return the ratio of two runs' medians, new to old, with the 95 % interval of a bootstrap over rounds.

    Rounds are drawn in blocks of consecutive ones (circular block bootstrap, Politis and Romano 1992; as long as the
    cube root of the number of rounds), since the machine can be slow for several rounds. Systems of one run are
    resampled with the same rounds, since they took turns. So are runs with equal numbers of rounds: they scored the
    same windows. The interval does not include variation between two starts of the same program.

    Args:
        old: samples ``[rounds]`` of the system, and optionally of the yardstick in the same rounds.
        new: the same of the newer run.
        draws: bootstrap samples.
        seed: of the bootstrap.
    """
    sizes = len(old[0]), len(new[0])
    rows = [_blocks(size, draws, np.random.default_rng([seed, size])) for size in sizes]
    middles = [
        [np.median(samples[rounds], axis=1) for samples in run] for run, rounds in zip((old, new), rows, strict=True)
    ]
    drawn = _relative(middles[1]) / _relative(middles[0])
    whole = _relative([_median(each) for each in new]) / _relative([_median(each) for each in old])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Ratio(float(whole[0]), float(low), float(high))


def _median(samples: Floats) -> Floats:
    return np.atleast_1d(np.median(samples))


def _relative(medians: Sequence[Floats]) -> Floats:
    return medians[0] / medians[1] if len(medians) > 1 else medians[0]


def _blocks(size: int, draws: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return ``[draws, size]`` rounds, drawn in blocks of consecutive ones, the last followed by the first."""
    length = max(1, round(size ** (1 / 3)))
    starts: npt.NDArray[np.int64] = random.integers(size, size=(draws, -(-size // length)))
    return (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :size] % size
