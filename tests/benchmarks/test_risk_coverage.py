"""Abstention: the curve by hand, ties, order, intervals over speakers; reliability as the calibration error sums it."""

import numpy as np
import pytest

from benchmarks.bench.accuracy.risk_coverage import measure_risk, reliability, risk_area
from distill.evaluation.metrics import calibration_error
from tests.decisions import LABELS, evaluation, spoken


def test_the_area_is_the_mean_of_the_risks():
    # Right, wrong, right, wrong: 0, 1/2, 1/3, 1/2.
    assert risk_area(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1])) == pytest.approx(
        (0 + 1 / 2 + 1 / 3 + 1 / 2) / 4
    )
    random = np.random.default_rng(0)
    confidence, wrong = random.integers(3, 9, 50) / 9, random.integers(0, 2, 50)
    order = random.permutation(50)
    assert risk_area(confidence, wrong) == pytest.approx(risk_area(confidence[order], wrong[order]))
    wrong = np.array([0, 1, 1, 0, 0])
    assert risk_area(np.full(5, 0.7), wrong) == pytest.approx(0.4)


def graph(confidence, wrong, threshold=0.5, speakers=None):
    speakers = speakers or [f"s{number % 4}" for number in range(len(wrong))]
    items = spoken([(speaker, LABELS[number % 3]) for number, speaker in enumerate(speakers)])
    decided = [LABELS[(number + miss) % 3] for number, miss in enumerate(wrong)]
    return measure_risk({"fp32": evaluation(items, decided, np.array(confidence))}, threshold).graphs["fp32"]


def test_the_threshold_keeps_what_reaches_it():
    found = graph([0.9, 0.8, 0.6, 0.5, 0.4, 0.4], [0, 0, 1, 0, 1, 1])
    assert found.coverage.value == pytest.approx(4 / 6, abs=1e-6)
    assert found.error_when_sure.value == pytest.approx(1 / 4)
    assert found.error.value == pytest.approx(3 / 6)
    assert found.error.low <= 0.5 <= found.error.high
    found = graph([0.6] * 4, [0, 1, 0, 1], threshold=0.9)
    assert found.coverage.value == 0
    assert found.error_when_sure is None


def test_the_curve_ends_at_the_error_of_all():
    random = np.random.default_rng(1)
    confidence = 0.34 + 0.65 * random.random(400)
    wrong = (random.random(400) > confidence).astype(int)
    found = graph(confidence, wrong)
    assert (len(found.curve), found.curve[-1].coverage) == (100, 1)
    assert found.curve[-1].risk == pytest.approx(wrong.mean(), abs=1e-6)
    coverages = [point.coverage for point in found.curve]
    assert coverages == sorted(coverages)
    for point in found.curve:
        kept = confidence >= point.confidence - 1e-6
        assert point.coverage == pytest.approx(kept.mean(), abs=1e-6)
        assert point.risk == pytest.approx(wrong[kept].mean(), abs=1e-6)
    # Worth something, but not perfect.
    assert 0 < found.area_excess < found.area.value < found.error.value
    assert graph([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1]).area_excess == 0


def test_intervals_are_over_speakers():
    """Speakers that are all alike leave nothing to chance, however few utterances there are; different ones do."""
    confidence, wrong = [0.9, 0.6] * 4, [0, 1] * 4
    alike = graph(confidence, wrong, speakers=[f"s{number // 2}" for number in range(8)])
    assert alike.error.low == alike.error.high == 0.5
    assert alike.area.low == pytest.approx(alike.area.high)
    apart = graph(confidence, wrong, speakers=[f"s{number % 4}" for number in range(8)])
    assert (apart.error.low, apart.error.high) == (0, 1)
    assert (apart.area.low, apart.area.high) == (0, 1)
    few = graph(confidence, wrong, speakers=[f"s{number % 2}" for number in range(8)])
    assert (few.error.value, few.error.low, few.error.high, few.area.low) == (0.5, None, None, None)


def test_reliability_adds_up_to_the_calibration_error():
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.ones(3), 300)
    truth = random.integers(0, 3, 300)
    bins = reliability(probabilities, truth)
    assert len(bins) == 15
    assert sum(each.count for each in bins) == 300
    gaps = [each.count * abs(each.right - each.confidence) for each in bins if each.count]
    assert sum(gaps) / 300 == pytest.approx(calibration_error(probabilities, truth), abs=1e-5)
    # No utterance of three classes is less sure than a third.
    assert [each.right for each in bins[:4]] == [None] * 4
    assert all(each.low <= each.confidence <= each.high for each in bins if each.count)
    bins = reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert (bins[-1].count, bins[-1].right) == (1, 1)
