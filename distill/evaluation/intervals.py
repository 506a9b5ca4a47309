"""Intervals of accuracy figures over speakers, and from how many speakers on there is one.

Utterances of one speaker are alike, so whole speakers are resampled. Imports no torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

MIN_SPEAKERS = 3
"""Speakers from which a bootstrap over speakers has an interval. The samples of one speaker are all the same; those of
two are one, the other, or both, and the ends are the two figures themselves. With three it is rough."""


class Interval(BaseModel, extra="forbid", frozen=True):
    """A 95 % percentile interval."""

    low: float
    high: float

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> Interval:
        """Return the interval of drawn values ``[draws]``; those that are not defined (NaN) do not count."""
        low, high = np.nanpercentile(values, [2.5, 97.5])
        return cls(low=float(low), high=float(high))

    @classmethod
    def over_speakers(cls, values: npt.NDArray[np.floating], speakers: int) -> Interval | None:
        """Return the interval of a bootstrap over so many speakers; None for fewer than `MIN_SPEAKERS`.

        Args:
            values: ``[draws]``.
            speakers: how many were resampled.
        """
        return cls.of(values) if speakers >= MIN_SPEAKERS else None


def no_interval(speakers: int | None = None) -> str:
    """Return why a figure has no interval, for reports; without a number where it stands elsewhere."""
    if speakers is None:
        return f"no interval: fewer than {MIN_SPEAKERS} speakers"
    return f"no interval: {speakers} {'speaker' if speakers == 1 else 'speakers'}, at least {MIN_SPEAKERS} are needed"


def ends(low: float | None, high: float | None, speakers: int | None = None, form: str = ".3f") -> str:
    """Return the ends of an interval, or why there is none."""
    return no_interval(speakers) if low is None or high is None else f"{low:{form}} to {high:{form}}"


def with_ends(value: float, low: float | None, high: float | None, form: str, factor: float = 1.0) -> str:
    """Return a figure with the ends of its interval, or why there is none, all times ``factor``."""
    low, high = (None if end is None else end * factor for end in (low, high))
    return f"{value * factor:{form}} ({ends(low, high, form=form)})"
