"""Figures with their intervals, as published."""

from __future__ import annotations

from benchmarks.bench.device.device_sections import Section
from distill.evaluation.metrics import Interval


class Estimate(Section):
    """A figure with its 95 % interval over speakers."""

    value: float
    low: float
    high: float


def estimate(value: float, interval: Interval) -> Estimate:
    """Return a figure with its interval, with more digits than any table shows."""
    return Estimate(value=rounded(value), low=rounded(interval.low), high=rounded(interval.high))


def rounded(value: float) -> float:
    """Round to the six digits that all published figures have."""
    return round(value, 6)
