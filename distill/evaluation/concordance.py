"""Concordance of predicted dimensions (arousal, valence, dominance) with their targets. Imports no torch.

The concordance correlation coefficient (Lin, "A Concordance Correlation Coefficient to Evaluate Reproducibility",
Biometrics 45, 1989) is ``2 cov(t, p) / (var t + var p + (mean t - mean p)^2)``: 1 where each prediction equals its
target, 0 for predictions that do not vary, and below the correlation where scale or mean differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel

from distill.corpus import Utterance
from distill.evaluation.intervals import Interval, ends
from distill.evaluation.metrics import Floats, draw_speakers
from edge_runtime.dimensions import Dimension


class Concordance(BaseModel, extra="forbid", frozen=True):
    """Concordance of one dimension.

    Attributes:
        utterances: with a target.
        speakers: of these.
        ccc: concordance correlation coefficient, -1 to 1; 0 where targets or predictions do not vary.
        ccc_interval: 95 % interval of `ccc` over speakers; None for too few.
    """

    utterances: int
    speakers: int
    ccc: float
    ccc_interval: Interval | None

    @property
    def interval_text(self) -> str:
        """The interval for a table."""
        low, high = (None, None) if self.ccc_interval is None else (self.ccc_interval.low, self.ccc_interval.high)
        return ends(low, high, self.speakers)


@dataclass(frozen=True)
class DimensionScores:
    """Predicted dimensions of some utterances, beside their targets.

    Attributes:
        names: the ``K`` dimensions.
        predicted: ``[N, K]`` from 0 to 1.
        targets: ``[N, K]`` from 0 to 1; NaN for a missing one.
        speakers: ``[N]``.
    """

    names: tuple[Dimension, ...]
    predicted: Floats
    targets: Floats
    speakers: Sequence[str]

    @classmethod
    def of(cls, utterances: Sequence[Utterance], names: Sequence[Dimension], predicted: Floats) -> DimensionScores:
        """Return predictions ``[N, K]`` beside the targets of the utterances."""
        targets = targets_of(utterances, names)
        return cls(tuple(names), np.asarray(predicted), targets, [item.speaker for item in utterances])

    def rows(self, numbers: Sequence[int] | np.ndarray) -> DimensionScores:
        """Return the same of some of the utterances."""
        speakers = [self.speakers[int(number)] for number in numbers]
        return DimensionScores(self.names, self.predicted[numbers], self.targets[numbers], speakers)

    @cached_property
    def concordance(self) -> dict[Dimension, Concordance]:
        """The concordance of each dimension; those without two targets are left out."""
        found: dict[Dimension, Concordance] = {}
        for number, name in enumerate(self.names):
            known = np.flatnonzero(~np.isnan(self.targets[:, number]))
            if len(known) < 2:
                continue
            speakers = [self.speakers[row] for row in known.tolist()]
            truth, predicted = self.targets[known, number], self.predicted[known, number]
            count = len(set(speakers))
            found[name] = Concordance(
                utterances=len(known),
                speakers=count,
                ccc=ccc(truth, predicted),
                ccc_interval=Interval.over_speakers(resample(truth, predicted, speakers), count),
            )
        return found


def join_scores(parts: Sequence[DimensionScores]) -> DimensionScores:
    """Return the scores of all parts, which have the same dimensions, one after the other."""
    return DimensionScores(
        parts[0].names,
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.targets for part in parts]),
        [speaker for part in parts for speaker in part.speakers],
    )


def targets_of(utterances: Sequence[Utterance], names: Sequence[Dimension]) -> Floats:
    """Return the targets ``[N, K]`` of utterances; NaN for a missing one."""
    rows = [[item.dimensions.get(name, np.nan) for name in names] for item in utterances]
    return np.asarray(rows, np.float64).reshape(len(utterances), len(names))


def ccc(truth: Floats, predicted: Floats) -> float:
    """Return the concordance correlation coefficient of predictions with targets, both ``[N]`` without NaN."""
    return float(_of_sums(_sums(truth, predicted).sum(axis=0)[None])[0])


def resample(truth: Floats, predicted: Floats, speakers: Sequence[str]) -> Floats:
    """Return the coefficient ``[draws]`` of bootstrap samples of whole speakers.

    Two systems on the same utterances get the same samples: differences are paired.
    """
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    each = np.zeros((len(names), 6))
    np.add.at(each, which, _sums(truth, predicted))
    return _of_sums(draw_speakers(len(names)) @ each)


def drop(baseline: DimensionScores, other: DimensionScores, name: Dimension) -> tuple[float, Interval | None]:
    """Return how much lower the coefficient of ``other`` is on the same utterances, and its interval over speakers."""
    number = baseline.names.index(name)
    known = np.flatnonzero(~np.isnan(baseline.targets[:, number]))
    truth = baseline.targets[known, number]
    first, second = baseline.predicted[known, number], other.predicted[known, number]
    speakers = [baseline.speakers[row] for row in known.tolist()]
    drawn = resample(truth, first, speakers) - resample(truth, second, speakers)
    return ccc(truth, first) - ccc(truth, second), Interval.over_speakers(drawn, len(set(speakers)))


def _sums(truth: Floats, predicted: Floats) -> Floats:
    """Return what the moments of utterances add up from, ``[N, 6]``."""
    # About the middle of the scale, so that differences of large sums lose no digits.
    t, p = truth - 0.5, predicted - 0.5
    return np.stack([np.ones(len(t)), t, p, t * t, p * p, t * p], axis=1)


def _of_sums(sums: Floats) -> Floats:
    """Return the coefficients ``[D]`` of the sums ``[D, 6]`` of `_sums`."""
    means = sums[:, 1:] / sums[:, :1]
    t, p, tt, pp, tp = means.T
    below = (tt - t * t) + (pp - p * p) + np.square(t - p)
    return np.where(below > 1e-12, 2 * (tp - t * p) / np.maximum(below, 1e-12), 0.0)
