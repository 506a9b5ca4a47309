"""Continuous dimensions of emotion: arousal, valence, dominance, each from 0 (lowest) to 1 (highest)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Dimension = Literal["arousal", "valence", "dominance"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

LOWEST, HIGHEST = 0.0, 1.0
"""Ends of the scale. Corpora with another scale are mapped to it (`distill.corpora.dimensions`)."""


def on_scale(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return outputs of a graph, of any shape, with those beyond an end of the scale set to that end."""
    return np.clip(np.asarray(values, np.float64), LOWEST, HIGHEST)
