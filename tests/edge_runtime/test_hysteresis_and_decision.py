"""The label that is shown during speech does not flicker, and still follows."""

import numpy as np
import pytest

from edge_runtime.config import DecisionSettings
from edge_runtime.decision import decision_on
from edge_runtime.loop.hysteresis import LabelHysteresis


def shown(settings, *rows):
    steady = LabelHysteresis(settings)
    return [steady.update(np.array(row))[0] for row in rows]


A, B = (0.8, 0.2), (0.2, 0.8)


def test_the_first_window_shows_its_best():
    assert shown(DecisionSettings(), B) == [1]


def test_patience_lets_one_window_pass():
    settings = DecisionSettings(smoothing=0, margin=0, patience=2)
    assert shown(settings, A, B, A, B, B, A) == [0, 0, 0, 0, 1, 1]


def test_a_lead_under_the_margin_changes_nothing():
    settings = DecisionSettings(smoothing=0, margin=0.2, patience=1)
    assert shown(settings, A, (0.45, 0.55), (0.35, 0.65)) == [0, 0, 1]


def test_smoothing_is_an_exponential_running_mean():
    steady = LabelHysteresis(DecisionSettings(smoothing=0.75, margin=0, patience=1))
    steady.update(np.array(A))
    _, mean = steady.update(np.array(B))
    assert mean == pytest.approx([0.65, 0.35])


def test_probabilities_still_sum_to_one():
    steady = LabelHysteresis(DecisionSettings())
    for row in np.random.default_rng(0).dirichlet([1, 1, 1], 50):
        index, mean = steady.update(row)
        assert mean.sum() == pytest.approx(1)
        assert 0 <= index < 3


def test_the_label_that_is_shown_has_its_own_confidence():
    decision = decision_on(np.array([0.4, 0.6]), ("calm", "angry"), 0.5, label_index=0)
    assert (decision.label, decision.confidence, decision.uncertain) == ("calm", 0.4, True)
    assert decision.probabilities == {"calm": 0.4, "angry": 0.6}
