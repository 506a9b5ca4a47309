"""A figure with its interval, as published."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from distill.evaluation.metrics import Interval


class Estimate(BaseModel):
    """A figure with its 95 % interval over speakers."""

    model_config = ConfigDict(extra="forbid")

    value: float
    low: float
    high: float


def estimate(value: float, interval: Interval) -> Estimate:
    """Return a figure with its interval; digits enough to be rounded once more in a table."""
    return Estimate(value=rounded(value), low=rounded(interval.low), high=rounded(interval.high))


def rounded(value: float) -> float:
    """Round as all figures are."""
    return round(value, 6)
