"""How much longer one run takes than another, with an interval."""

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

    Rounds are drawn in blocks of consecutive ones (circular block bootstrap, Politis and Romano 1992; blocks of the
    cube root of their number), since a slow moment of a machine lasts longer than a round. Of one run, all systems get
    the same rounds: they took turns in them. Runs of equally many rounds get the same ones too: they heard the same
    windows. What differs between two starts of the same program, the interval does not hold.

    Args:
        old: samples ``[rounds]`` of the system, and of the yardstick of the same rounds if there is one.
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
