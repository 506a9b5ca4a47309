"""From the graph's logits to one calibrated decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return probabilities of ``logits / temperature`` over the last axis, any leading shape."""
    scaled = np.asarray(logits, np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Decision:
    """The decision on one stretch of speech.

    Attributes:
        label: the most probable emotion; with hysteresis, the provisional label.
        probabilities: of each label, summing to 1.
        confidence: probability of ``label``.
        uncertain: the confidence is below the bundle's threshold, or there is too little speech.
    """

    label: str
    probabilities: dict[str, float]
    confidence: float
    uncertain: bool


def decision_on(
    probabilities: npt.NDArray[np.float64],
    labels: tuple[str, ...],
    threshold: float,
    *,
    label_index: int | None = None,
    enough_speech: bool = True,
) -> Decision:
    """Return the decision for calibrated probabilities ``[classes]``, by default on the most probable label.

    Confidence below the threshold and too little speech mark it uncertain.
    """
    best = int(probabilities.argmax()) if label_index is None else label_index
    confidence = float(probabilities[best])
    return Decision(
        label=labels[best],
        probabilities=dict(zip(labels, map(float, probabilities), strict=True)),
        confidence=confidence,
        uncertain=not enough_speech or confidence < threshold,
    )
