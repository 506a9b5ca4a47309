"""The concordance correlation coefficient and its interval over speakers."""

import numpy as np
import pytest

from distill.evaluation.concordance import DimensionScores, ccc, drop, resample
from distill.evaluation.intervals import Interval


@pytest.fixture
def random():
    return np.random.default_rng(0)


def scores(predicted, targets, speakers):
    return DimensionScores(("arousal",), np.asarray(predicted)[:, None], np.asarray(targets)[:, None], speakers)


class TestCoefficient:
    def test_of_the_definition(self, random):
        truth, predicted = random.uniform(size=50), random.uniform(size=50)
        correlation = np.corrcoef(truth, predicted)[0, 1]
        wanted = (
            2 * correlation * truth.std() * predicted.std()
            / (truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2)
        )  # fmt: skip
        assert ccc(truth, predicted) == pytest.approx(wanted, abs=1e-12)

    def test_scale_and_mean_count(self, random):
        truth = random.uniform(size=40)
        assert ccc(truth, truth) == pytest.approx(1)
        assert ccc(truth, 1 - truth) < 0
        assert ccc(truth, truth + 0.3) < 0.7
        assert ccc(truth, 0.5 + 0.1 * (truth - 0.5)) < 0.3, "correlated by 1, but hardly moving"

    def test_what_does_not_vary(self):
        assert ccc(np.full(5, 0.5), np.full(5, 0.5)) == 0


class TestOverSpeakers:
    def test_samples_are_of_whole_speakers(self, random):
        truth, predicted = random.uniform(size=30), random.uniform(size=30)
        speakers = [f"s{number % 3}" for number in range(30)]
        values = resample(truth, predicted, speakers)
        of_one = [ccc(truth[start::3], predicted[start::3]) for start in range(3)]
        assert set(np.round(of_one, 9)) <= set(np.round(values, 9)), "a draw of one speaker thrice is that speaker"
        assert len(set(np.round(values, 9))) == 10, "multisets of three speakers"

    def test_missing_targets_do_not_count(self, random):
        truth = random.uniform(size=20)
        predicted = truth + random.normal(0, 0.05, 20)
        gaps = np.where(np.arange(20) % 4 == 0, np.nan, truth)
        found = scores(predicted, gaps, [f"s{number % 5}" for number in range(20)]).concordance["arousal"]
        known = ~np.isnan(gaps)
        assert (found.utterances, found.speakers) == (15, 5)
        assert found.ccc == pytest.approx(ccc(truth[known], predicted[known]))
        assert found.ccc_interval.low < found.ccc < found.ccc_interval.high

    @pytest.mark.parametrize("speakers", [1, 2])
    def test_one_or_two_speakers_have_no_interval(self, random, speakers):
        names = [f"s{number % speakers}" for number in range(9)]
        first, other = (scores(random.uniform(size=9), random.uniform(size=9), names) for _ in range(2))
        found = first.concordance["arousal"]
        assert (found.speakers, found.ccc_interval) == (speakers, None)
        assert f"{speakers} speaker" in found.interval_text
        assert drop(first, other, "arousal")[1] is None

    def test_a_dimension_without_targets_is_left_out(self):
        assert scores([0.1, 0.2], [np.nan, np.nan], ["s", "t"]).concordance == {}

    def test_the_drop_is_paired(self, random):
        truth = random.uniform(size=60)
        predicted = truth + random.normal(0, 0.1, 60)
        speakers = [f"s{number % 6}" for number in range(60)]
        first = scores(predicted, truth, speakers)
        assert drop(first, first, "arousal") == (0, Interval(low=0, high=0))
        worse = scores(0.5 + 0.5 * (predicted - 0.5), truth, speakers)
        value, interval = drop(first, worse, "arousal")
        assert 0 < interval.low < value < interval.high
