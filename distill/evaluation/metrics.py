"""Accuracy figures with intervals that respect that utterances of one speaker are alike.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from sklearn.metrics import confusion_matrix

from distill.evaluation.chance import Chance
from distill.evaluation.intervals import Interval

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

DRAWS = 2000
"""Bootstrap samples of speakers behind every interval."""
CALIBRATION_BINS = 15


class Accuracy(BaseModel, extra="forbid"):
    """Accuracy of one system on one set of utterances; every interval is a bootstrap over speakers.

    Intervals are None for fewer than `distill.evaluation.intervals.MIN_SPEAKERS` speakers.

    Attributes:
        utterances: how many utterances.
        speakers: how many speakers.
        ua: unweighted accuracy, the mean of per-class recalls (UAR) over the classes that occur.
        ua_low: lower end of the 95 % interval of `ua`.
        ua_high: upper end.
        wa: weighted accuracy, the share of utterances that are right.
        wa_interval: of `wa`.
        macro_f1: mean of per-class F1 over the classes that occur.
        macro_f1_interval: of `macro_f1`.
        ece: expected calibration error, 15 bins of equal width (Guo et al. 2017).
        ece_interval: of `ece`; the error is a sum of absolute gaps, so resampling shifts it upwards.
        ece_before: `ece` before temperature scaling; None where no temperature was fitted.
        ece_before_interval: of `ece_before`.
        recall: recall of each class; None for a class that no utterance has.
        recall_intervals: of `recall`, over the speakers of the class.
        confusion: counts, rows the truth, columns the decision, in the order of `recall`.
        chance: whether `ua` is beyond chance; None in older reports.
    """

    utterances: int
    speakers: int
    ua: float
    ua_low: float | None
    ua_high: float | None
    wa: float
    wa_interval: Interval | None
    macro_f1: float
    macro_f1_interval: Interval | None
    ece: float
    ece_interval: Interval | None
    ece_before: float | None = None
    ece_before_interval: Interval | None = None
    recall: dict[str, float | None]
    recall_intervals: dict[str, Interval | None]
    confusion: list[list[int]]
    chance: Chance | None = None

    @property
    def ua_interval(self) -> Interval | None:
        """The interval of `ua`."""
        if self.ua_low is None or self.ua_high is None:
            return None
        return Interval(low=self.ua_low, high=self.ua_high)


class Difference(BaseModel, extra="forbid", frozen=True):
    """How much better a system is than another on the same utterances; negative where it is worse.

    Attributes:
        ua: difference of unweighted accuracies.
        ua_interval: of `ua`, over the same resampled speakers for both systems; None for too few speakers.
        wa: difference of weighted accuracies.
        wa_interval: of `wa`.
    """

    ua: float
    ua_interval: Interval | None
    wa: float
    wa_interval: Interval | None


def unweighted_accuracy(truth: Ints, decided: Ints) -> float:
    """Return the mean recall over the classes that occur in ``truth``; both ``[N]``, class indices."""
    return float(np.mean([np.mean(decided[truth == each] == each) for each in np.unique(truth)]))


def measure(
    probabilities: Floats,
    truth: Ints,
    speakers: Sequence[str],
    labels: Sequence[str],
    *,
    before: Floats | None = None,
) -> Accuracy:
    """Measure decisions against the truth.

    Args:
        probabilities: ``[N, C]``, rows sum to 1.
        truth: ``[N]`` class indices.
        speakers: ``[N]`` speaker of each utterance.
        labels: the ``C`` class names.
        before: ``[N, C]`` probabilities before temperature scaling, where a temperature was fitted.
    """
    decided = probabilities.argmax(axis=1)
    every = Scores.of(confusion_matrix(truth, decided, labels=range(len(labels)))[None])
    resampled = resample(truth, decided, speakers, len(labels))
    count = len(set(speakers))
    ua = Interval.over_speakers(resampled.ua, count)
    people = np.asarray(speakers)
    recall = [None if np.isnan(value) else float(value) for value in every.recall[0]]
    return Accuracy(
        utterances=len(truth),
        speakers=count,
        ua=float(every.ua[0]),
        ua_low=ua.low if ua else None,
        ua_high=ua.high if ua else None,
        wa=float(every.wa[0]),
        wa_interval=Interval.over_speakers(resampled.wa, count),
        macro_f1=float(every.macro_f1[0]),
        macro_f1_interval=Interval.over_speakers(resampled.macro_f1, count),
        ece=calibration_error(probabilities, truth),
        ece_interval=Interval.over_speakers(resample_calibration(probabilities, truth, speakers), count),
        ece_before=None if before is None else calibration_error(before, truth),
        ece_before_interval=None
        if before is None
        else Interval.over_speakers(resample_calibration(before, truth, speakers), count),
        recall=dict(zip(labels, recall, strict=True)),
        recall_intervals={
            label: Interval.over_speakers(resampled.recall[:, index], len(set(people[truth == index])))
            for index, label in enumerate(labels)
        },
        confusion=confusion_matrix(truth, decided, labels=range(len(labels))).tolist(),
        chance=Chance.of(truth, decided, speakers, ua.low if ua else None),
    )


@dataclass(frozen=True)
class Scores:
    """Figures of ``D`` sets of utterances.

    Attributes:
        ua: ``[D]`` mean recall over the classes that occur in the set.
        wa: ``[D]`` share of right decisions.
        macro_f1: ``[D]`` mean F1 over the classes that occur in the set.
        recall: ``[D, C]``, NaN for classes that do not occur.
    """

    ua: Floats
    wa: Floats
    macro_f1: Floats
    recall: Floats

    @classmethod
    def of(cls, confusion: npt.NDArray[np.integer]) -> Scores:
        """Return the figures of confusion matrices ``[D, C, C]``, rows the truth."""
        right = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
        there, chosen = confusion.sum(axis=2), confusion.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = right / there
            f1 = np.where(there > 0, 2 * right / (there + chosen), np.nan)
        return cls(np.nanmean(recall, axis=1), right.sum(axis=1) / there.sum(axis=1), np.nanmean(f1, axis=1), recall)


def resample(
    truth: Ints,
    decided: Ints,
    speakers: Sequence[str],
    classes: int | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scores:
    """Return the figures of ``draws`` bootstrap samples of whole speakers.

    Systems that are resampled with the same speakers, draws and seed get the same samples: differences are paired.
    """
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    classes = classes or int(max(truth.max(), decided.max())) + 1
    counts = np.zeros((len(names), classes, classes), np.int64)
    np.add.at(counts, (which, truth, decided), 1)
    weights = draw_speakers(len(names), draws, seed)
    return Scores.of((weights @ counts.reshape(len(names), -1)).reshape(draws, classes, classes))


def mean_difference(truth: Ints, first: Sequence[Ints], second: Sequence[Ints], speakers: Sequence[str]) -> Difference:
    """Return how much better ``second`` is than ``first``, each the mean over its runs (seeds) on the same utterances.

    The interval covers other speakers, not other seeds.

    Args:
        truth: ``[N]`` class indices.
        first: decisions ``[N]`` of each run of one system.
        second: of each run of the other one.
        speakers: ``[N]`` speaker of each utterance.
    """

    def resampled(name: str) -> Floats:
        each = [
            np.mean([getattr(resample(truth, run, speakers), name) for run in runs], axis=0) for runs in (first, second)
        ]
        return np.asarray(each[1] - each[0])

    def whole(score: Callable[[Ints, Ints], float]) -> float:
        return float(np.mean([score(truth, run) for run in second]) - np.mean([score(truth, run) for run in first]))

    count = len(set(speakers))
    return Difference(
        ua=whole(unweighted_accuracy),
        ua_interval=Interval.over_speakers(resampled("ua"), count),
        wa=whole(lambda true, run: float(np.mean(true == run))),
        wa_interval=Interval.over_speakers(resampled("wa"), count),
    )


def calibration_error(probabilities: Floats, truth: Ints) -> float:
    """Return the expected calibration error of ``[N, C]`` probabilities, 0 (calibrated) to 1."""
    return float(np.abs(calibration_gaps(probabilities, truth)).sum())


def calibration_gaps(probabilities: Floats, truth: Ints) -> Floats:
    """Return the share of right decisions less the mean confidence, of all utterances, in each bin of confidence."""
    return np.asarray(_calibration_gaps(probabilities, truth).sum(axis=0) / len(truth))


def resample_calibration(probabilities: Floats, truth: Ints, speakers: Sequence[str]) -> Floats:
    """Return the expected calibration error ``[DRAWS]`` of the samples of speakers that `resample` draws."""
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    gaps = np.zeros((len(names), CALIBRATION_BINS))
    np.add.at(gaps, which, _calibration_gaps(probabilities, truth))
    weights = draw_speakers(len(names))
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / (weights @ np.bincount(which)))


def _calibration_gaps(probabilities: Floats, truth: Ints) -> Floats:
    """Return ``[N, CALIBRATION_BINS]``: right (0 or 1) minus confidence of each utterance, in the column of its bin."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    gaps = np.zeros((len(truth), CALIBRATION_BINS))
    gaps[np.arange(len(truth)), calibration_bin(confidence)] = right - confidence
    return gaps


def calibration_bin(confidence: Floats) -> Ints:
    """Return in which of the bins of equal width each confidence lies, ``[N]``."""
    return np.asarray(np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1))


def draw_speakers(speakers: int, draws: int = DRAWS, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return ``[draws, speakers]``: how often each speaker is in each bootstrap sample."""
    chosen = np.random.default_rng(seed).integers(speakers, size=(draws, speakers))
    rows = np.repeat(np.arange(draws), speakers)
    weights = np.zeros((draws, speakers), np.int64)
    np.add.at(weights, (rows, chosen.ravel()), 1)
    return weights
