"""Accuracy figures with intervals that respect that utterances of one speaker are alike.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    recall_score,
)

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class Accuracy(BaseModel):
    """Accuracy of one system on one set of utterances.

    Attributes:
        utterances: how many utterances.
        speakers: how many speakers.
        ua: unweighted accuracy, the mean of per-class recalls (UAR).
        ua_low: lower end of the 95 % interval of `ua`, bootstrap over speakers.
        ua_high: upper end.
        wa: weighted accuracy, the share of utterances that are right.
        macro_f1: mean of the F1 of the classes that occur.
        ece: expected calibration error, 15 bins of equal width (Guo et al. 2017).
        recall: recall of each class; None where the class does not occur.
        confusion: counts, rows the truth, columns the decision, in the order of `recall`.
    """

    model_config = ConfigDict(extra="forbid")

    utterances: int
    speakers: int
    ua: float
    ua_low: float
    ua_high: float
    wa: float
    macro_f1: float
    ece: float
    recall: dict[str, float | None]
    confusion: list[list[int]]


def unweighted_accuracy(truth: Ints, decided: Ints) -> float:
    """Return the mean recall over the classes that occur in ``truth``; both ``[N]``, class indices."""
    # Not balanced_accuracy_score, which warns of decided classes that do not occur.
    return float(recall_score(truth, decided, labels=np.unique(truth), average="macro", zero_division=0))


def measure(probabilities: Floats, truth: Ints, speakers: Sequence[str], labels: Sequence[str]) -> Accuracy:
    """Measure decisions against the truth.

    Args:
        probabilities: ``[N, C]``, rows sum to 1.
        truth: ``[N]`` class indices.
        speakers: ``[N]`` speaker of each utterance.
        labels: the ``C`` class names.
    """
    decided = probabilities.argmax(axis=1)
    classes = list(range(len(labels)))
    low, high = bootstrap_interval(truth, decided, speakers)
    occurring = np.unique(truth)
    recalls = recall_score(truth, decided, labels=occurring, average=None, zero_division=0)
    recall = dict.fromkeys(labels) | {
        labels[each]: float(value) for each, value in zip(occurring, recalls, strict=True)
    }
    return Accuracy(
        utterances=len(truth),
        speakers=len(set(speakers)),
        ua=unweighted_accuracy(truth, decided),
        ua_low=low,
        ua_high=high,
        wa=float(accuracy_score(truth, decided)),
        macro_f1=float(f1_score(truth, decided, labels=occurring, average="macro", zero_division=0)),
        ece=calibration_error(probabilities, truth),
        recall=recall,
        confusion=confusion_matrix(truth, decided, labels=classes).tolist(),
    )


def bootstrap_interval(
    truth: Ints, decided: Ints, speakers: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the unweighted accuracy, resampling whole speakers.

    With few speakers the interval is rough (and with one it is a point): read it with the number of speakers.
    """
    counts = _speaker_counts(truth, decided, speakers)
    return _percentiles(_resampled_ua(counts, draws, seed))


def paired_difference(
    truth: Ints, first: Ints, second: Ints, speakers: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return UA(second) - UA(first) and its 95 % interval; both systems see the same resampled speakers."""
    scores = [_resampled_ua(_speaker_counts(truth, each, speakers), draws, seed) for each in (first, second)]
    difference = unweighted_accuracy(truth, second) - unweighted_accuracy(truth, first)
    return (difference, *_percentiles(scores[1] - scores[0]))


def calibration_error(probabilities: Floats, truth: Ints, bins: int = 15) -> float:
    """Return the expected calibration error of ``[N, C]`` probabilities, 0 (calibrated) to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[which == each].mean() - confidence[which == each].mean()) * (which == each).mean()
        for each in range(bins)
        if (which == each).any()
    ]
    return float(sum(gaps))


def _speaker_counts(truth: Ints, decided: Ints, speakers: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return ``[S, 2, C]``: per speaker and class, how many are right and how many there are."""
    names = {name: position for position, name in enumerate(sorted(set(speakers)))}
    counts = np.zeros((len(names), 2, int(truth.max()) + 1), np.int64)
    for speaker, true, guess in zip(speakers, truth, decided, strict=True):
        counts[names[speaker], 0, true] += int(true == guess)
        counts[names[speaker], 1, true] += 1
    return counts


def _resampled_ua(counts: npt.NDArray[np.int64], draws: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    chosen = random.integers(len(counts), size=(draws, len(counts)))
    totals = counts[chosen].sum(axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(totals[:, 0] / totals[:, 1], axis=1))


def _percentiles(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
