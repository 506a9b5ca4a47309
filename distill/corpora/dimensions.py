"""Targets of arousal, valence and dominance, from the scale of a corpus to 0..1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from edge_runtime.dimensions import HIGHEST, LOWEST, Dimension

UNIT = (LOWEST, HIGHEST)
"""The scale of a corpus that declares none."""


class Targets(NamedTuple):
    """Targets by dimension on the scale 0..1, without those that are missing; and what is wrong with them, or empty."""

    values: dict[Dimension, float]
    problem: str


def scaled(found: Mapping[Dimension, str | float], ranges: Mapping[Dimension, tuple[float, float]]) -> Targets:
    """Map targets from the scale of their corpus to 0..1.

    Args:
        found: value of each dimension, as text or as a number; an empty text or NaN is a missing one.
        ranges: lowest and highest value on the corpus' scale, `UNIT` where a dimension is not there.
    """
    values: dict[Dimension, float] = {}
    for name, value in found.items():
        try:
            number = math.nan if value == "" else float(value)
        except ValueError:
            return Targets({}, f"its {name} '{value}' is not a number; give a number, or leave it empty")
        if value == "" or math.isnan(number):
            continue
        low, high = ranges.get(name, UNIT)
        if not low <= number <= high:
            return Targets(
                {},
                f"its {name} {number:g} is outside {low:g} to {high:g}; correct it, or declare the scale in "
                f'corpus.json: "dimension_ranges": {{"{name}": [LOWEST, HIGHEST]}}',
            )
        values[name] = (number - low) / (high - low)
    return Targets(values, "")
