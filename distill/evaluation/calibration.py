"""Confidence that means something: temperature and abstention threshold, fitted on validation speakers only.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from distill.evaluation.metrics import Floats, Ints

COVERAGE = 0.9
"""Share of validation utterances whose confidence is above the abstention threshold of a student."""


def fit_temperature(logits: Floats, truth: Ints, weights: Floats | None = None) -> float:
    """Return the temperature, 0.05..100, that minimises the cross-entropy of ``logits / temperature``.

    Temperature scaling after Guo et al., "On Calibration of Modern Neural Networks" (2017).

    Args:
        logits: ``[N, C]``.
        truth: ``[N]`` class indices.
        weights: ``[N]``; equal if not given.
    """

    def cross_entropy(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.average(scores[np.arange(len(truth)), truth], weights=weights))

    found = minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(100.0)), method="bounded")
    return float(np.exp(found.x))


def abstention_threshold(confidence: Floats, coverage: float) -> float:
    """Return the confidence under which a decision counts as uncertain, so that ``coverage`` of decisions stand.

    Args:
        confidence: ``[N]`` highest probability of each validation utterance.
        coverage: share of utterances to decide on, 0..1.
    """
    return float(np.quantile(confidence, 1.0 - coverage))
