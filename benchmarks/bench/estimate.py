"""Figures with their intervals, as published."""

from __future__ import annotations

from benchmarks.bench.device.device_sections import Section
from distill.evaluation.intervals import Interval, with_ends


class Estimate(Section):
    """A figure with its 95 % interval over speakers.

    Attributes:
        value: the figure.
        low: lower end of the interval; None where there are too few speakers for one.
        high: upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def show(self, form: str = ".3f", factor: float = 1.0) -> str:
        """Return the figure with its interval, or why there is none."""
        return with_ends(self.value, self.low, self.high, form, factor)


def estimate(value: float, interval: Interval | None) -> Estimate:
    """Return a figure with its interval, if any, with more digits than any table shows."""
    if interval is None:
        return Estimate(value=rounded(value))
    return Estimate(value=rounded(value), low=rounded(interval.low), high=rounded(interval.high))


def rounded(value: float) -> float:
    """Round to the six digits that all published figures have."""
    return round(value, 6)
