"""Keep the provisional label steady: smoothing, margin and patience."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_runtime.config import DecisionSettings


class SteadyLabel:
    """Follows one stretch of speech.

    The probabilities are an exponential running mean. The label that is shown changes only where another one leads it
    by ``margin`` in ``patience`` windows in a row, so that it does not flicker between two that are equally probable.

    Args:
        settings: smoothing, margin and patience.
    """

    def __init__(self, settings: DecisionSettings) -> None:
        self._settings = settings
        self._mean: npt.NDArray[np.float64] | None = None
        self._shown = 0
        self._leading = 0

    def update(self, probabilities: npt.NDArray[np.float64]) -> tuple[int, npt.NDArray[np.float64]]:
        """Take in the next window's probabilities ``[classes]``.

        Returns:
            The index of the label to show, and the smoothed probabilities ``[classes]``.
        """
        if self._mean is None:
            self._mean = probabilities
            self._shown = int(probabilities.argmax())
            return self._shown, self._mean
        past = self._settings.smoothing
        self._mean = past * self._mean + (1 - past) * probabilities
        best = int(self._mean.argmax())
        leads = self._mean[best] - self._mean[self._shown] >= self._settings.margin
        self._leading = self._leading + 1 if best != self._shown and leads else 0
        if self._leading >= self._settings.patience:
            self._shown, self._leading = best, 0
        return self._shown, self._mean
