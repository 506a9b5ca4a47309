"""Selective prediction: risk-coverage curves, the error at the bundle's threshold, and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.bench.device.device_sections import Section
from benchmarks.bench.estimate import Estimate, estimate
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import CALIBRATION_BINS, Floats, calibration_bin, draw_speakers
from edge_runtime.bundles.manifest import Precision

Numbers = npt.NDArray[np.number]

_POINTS = 100
"""Largest number of points of a curve; the area under it uses every utterance."""
_BLOCK = 100
"""Bootstrap draws in memory at a time."""


class CurvePoint(Section):
    """Risk and coverage at one threshold.

    Attributes:
        confidence: the threshold.
        coverage: share of utterances at or above it.
        risk: share of wrong decisions among them.
    """

    confidence: float
    coverage: float
    risk: float


class ReliabilityBin(Section):
    """Utterances of similar confidence; means are None for an empty bin.

    Attributes:
        low: confidence at the lower edge.
        high: at the upper edge.
        count: number of utterances.
        confidence: their mean confidence.
        right: share of right decisions.
    """

    low: float
    high: float
    count: int
    confidence: float | None = None
    right: float | None = None


class GraphRisk(Section):
    """One graph; intervals are over speakers.

    Attributes:
        curve: from the most confident decisions to all.
        area: under the curve (AURC): mean over all utterances of the error among those of at least the same
            confidence (Geifman et al. 2019; ties count together). It equals the error for an uninformative confidence.
        area_excess: `area` minus that of the ideal ranking, with all correct decisions first.
        error: share of wrong decisions without abstention.
        threshold: the bundle's, chosen on validation speakers.
        coverage: share of utterances at or above it.
        error_when_sure: share of wrong decisions among those; None where there are none.
        ece: calibration error over `CALIBRATION_BINS` bins.
        reliability: these bins.
    """

    curve: list[CurvePoint]
    area: Estimate
    area_excess: float
    error: Estimate
    threshold: float
    coverage: Estimate
    error_when_sure: Estimate | None = None
    ece: Estimate
    reliability: list[ReliabilityBin]


class RiskSection(Section):
    """Risk and coverage of a bundle's graphs.

    Attributes:
        utterances: tested.
        speakers: of these utterances.
        graphs: by precision.
    """

    utterances: int
    speakers: int
    graphs: dict[str, GraphRisk]


class _Ranked(NamedTuple):
    """Utterances by falling confidence: confidence, error, speaker index, last position of the same confidence."""

    confidence: Floats
    wrong: Floats
    speaker: npt.NDArray[np.integer]
    last: npt.NDArray[np.integer]


def measure_risk(evaluations: Mapping[Precision, Evaluation], threshold: float) -> RiskSection:
    """Measure risk and coverage of abstention by confidence.

    Args:
        evaluations: by precision, all on the same utterances.
        threshold: the bundle's; decisions of lower confidence are uncertain.
    """
    first = next(iter(evaluations.values()))
    return RiskSection(
        utterances=len(first.utterances),
        speakers=len(set(first.speakers)),
        graphs={precision: _graph(each, threshold) for precision, each in evaluations.items()},
    )


def risk_area(confidence: Floats, wrong: Floats) -> float:
    """Return the area under the risk-coverage curve, 0 (no error) to 1.

    Args:
        confidence: ``[N]``.
        wrong: ``[N]``, 1 for a wrong decision and 0 for a right one.
    """
    ranked = _rank(confidence, wrong, np.zeros(len(wrong), np.int64))
    return float(_areas(ranked, np.ones((1, 1)))[0])


def _rank(confidence: Floats, wrong: Floats, speaker: npt.NDArray[np.integer]) -> _Ranked:
    order = np.argsort(-confidence, kind="stable")
    falling = -confidence[order]
    last = np.searchsorted(falling, falling, side="right") - 1
    return _Ranked(confidence[order], np.asarray(wrong, np.float64)[order], speaker[order], last)


def _risks(ranked: _Ranked, weights: Floats) -> tuple[Floats, Floats]:
    """Return the risk at every utterance's confidence, and the utterances' weights, both ``[D, N]``.

    The weights of speakers are ``[D, speakers]``.
    """
    each = weights[:, ranked.speaker]
    kept = np.cumsum(each, axis=1)[:, ranked.last]
    errors = np.cumsum(each * ranked.wrong, axis=1)[:, ranked.last]
    return errors / np.maximum(kept, 1e-12), each


def _areas(ranked: _Ranked, weights: Floats) -> Floats:
    risk, each = _risks(ranked, weights)
    return np.asarray((risk * each).sum(axis=1) / each.sum(axis=1))


def _graph(evaluation: Evaluation, threshold: float) -> GraphRisk:
    names, speaker = np.unique(evaluation.speakers, return_inverse=True)
    probabilities, truth = evaluation.probabilities, evaluation.truth
    wrong = (evaluation.decided != truth).astype(np.float64)
    ranked = _rank(np.asarray(probabilities.max(axis=1)), wrong, speaker)
    whole = np.ones((1, len(names)))
    weights = draw_speakers(len(names)).astype(float)
    area = float(_areas(ranked, whole)[0])
    areas = np.concatenate([_areas(ranked, weights[at : at + _BLOCK]) for at in range(0, len(weights), _BLOCK)])
    sure = (ranked.confidence >= threshold).astype(float)
    count, errors = np.bincount(speaker), _per_speaker(ranked, ranked.wrong, len(names))
    kept, missed = _per_speaker(ranked, sure, len(names)), _per_speaker(ranked, sure * ranked.wrong, len(names))
    ideal = risk_area(-np.arange(len(wrong), dtype=float), np.sort(wrong))
    accuracy = evaluation.accuracy
    return GraphRisk(
        curve=_curve(ranked),
        area=estimate(area, Interval.over_speakers(areas, len(names))),
        area_excess=round(area - ideal, 6),
        error=_quotient(errors, count, weights),
        threshold=threshold,
        coverage=_quotient(kept, count, weights),
        error_when_sure=_quotient(missed, kept, weights) if sure.any() else None,
        ece=estimate(accuracy.ece, accuracy.ece_interval),
        reliability=reliability(probabilities, truth),
    )


def _per_speaker(ranked: _Ranked, values: Floats, speakers: int) -> Floats:
    return np.bincount(ranked.speaker, weights=values, minlength=speakers).astype(float)


def _quotient(above: Numbers, below: Numbers, weights: Floats) -> Estimate:
    """Return the quotient of two sums over speakers with its interval; draws with a zero denominator are left out."""
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ above) / (weights @ below)
    return estimate(float(above.sum() / below.sum()), Interval.over_speakers(draws, weights.shape[1]))


def _curve(ranked: _Ranked) -> list[CurvePoint]:
    count = len(ranked.wrong)
    risk = _risks(ranked, np.ones((1, int(ranked.speaker.max()) + 1)))[0][0]
    ends = np.unique(ranked.last)
    shown = ends if len(ends) <= _POINTS else ends[np.linspace(0, len(ends) - 1, _POINTS).round().astype(int)]
    return [
        CurvePoint(
            confidence=round(float(ranked.confidence[place]), 6),
            coverage=round(float(place + 1) / count, 6),
            risk=round(float(risk[place]), 6),
        )
        for place in shown
    ]


def reliability(probabilities: Floats, truth: npt.NDArray[np.integer]) -> list[ReliabilityBin]:
    """Return the bins of equal width behind the calibration error, of ``[N, C]`` and the class indices ``[N]``."""
    bins = CALIBRATION_BINS
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    which = calibration_bin(confidence)
    found = []
    for number in range(bins):
        own = which == number
        some = bool(own.any())
        found.append(
            ReliabilityBin(
                low=round(number / bins, 6),
                high=round((number + 1) / bins, 6),
                count=int(own.sum()),
                confidence=round(float(confidence[own].mean()), 6) if some else None,
                right=round(float(right[own].mean()), 6) if some else None,
            )
        )
    return found
