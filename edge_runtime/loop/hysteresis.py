"""Hysteresis for the provisional label: smoothing, margin and patience."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.config import DecisionSettings


class LabelHysteresis:
    """Smooths the probabilities of one stretch of speech, and delays changes of its provisional label.

    The probabilities are an exponential running mean. The label changes only after another one leads it by ``margin``
    in ``patience`` consecutive windows, so that it does not alternate between two equally probable emotions.
    """

    def __init__(self, settings: DecisionSettings) -> None:
        self._settings = settings
        self._mean: npt.NDArray[np.float64] | None = None
        self._label = 0
        self._windows_ahead = 0

    def update(self, probabilities: npt.NDArray[np.float64]) -> tuple[int, npt.NDArray[np.float64]]:
        """Add the probabilities ``[classes]`` of the next window; return label index and smoothed ones."""
        if self._mean is None:
            self._mean = probabilities
            self._label = int(probabilities.argmax())
            return self._label, self._mean
        past = self._settings.smoothing
        self._mean = past * self._mean + (1 - past) * probabilities
        best = int(self._mean.argmax())
        leads = self._mean[best] - self._mean[self._label] >= self._settings.margin
        self._windows_ahead = self._windows_ahead + 1 if best != self._label and leads else 0
        if self._windows_ahead >= self._settings.patience:
            self._label, self._windows_ahead = best, 0
        return self._label, self._mean
