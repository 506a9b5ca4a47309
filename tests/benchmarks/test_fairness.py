"""Accuracy by speaker and group: gaps with honest intervals, and what chance alone would do."""

import numpy as np
import pytest

from benchmarks.bench.accuracy.fairness import measure_fairness
from tests.decisions import LABELS, evaluation, spoken

SPEAKERS = tuple(f"s{number}" for number in range(8))
SEX = {name: "female" if number % 2 else "male" for number, name in enumerate(SPEAKERS)}


def spoken_by_all(times, **extra):
    return spoken([(name, label) for name in SPEAKERS for label in LABELS for _ in range(times)], **extra)


def measured(items, decided, columns=("sex",)):
    return measure_fairness({"fp32": evaluation(items, decided)}, columns).graphs["fp32"]


def wrong_for(items, chosen):
    """Decide right, but call angry what is sad for those that ``chosen`` picks."""
    return ["angry" if chosen(item) and item.emotion == "sad" else item.emotion for item in items]


def test_the_group_that_is_understood_less_well_is_found():
    items = spoken_by_all(2, sex=SEX)
    found = measured(items, wrong_for(items, lambda item: SEX[item.speaker] == "female"))
    (column,) = found.columns
    assert (column.gap.better, column.gap.worse) == ("male", "female")
    assert column.gap.value == pytest.approx(1 / 3, abs=1e-6)
    assert column.gap.interval.low == pytest.approx(1 / 3)
    assert (column.recall_gap.of, column.recall_gap.value) == ("sad", 1)
    by_name = {group.group: group for group in column.groups}
    assert by_name["male"].ua == 1
    assert by_name["female"].recall == {"angry": 1, "happy": 1, "sad": 0}
    assert (by_name["female"].speakers, by_name["female"].utterances) == (4, 24)


def test_the_interval_of_a_gap_includes_the_variation_of_speakers():
    """Two women of four are hard to understand: other women might be easy."""
    items = spoken_by_all(2, sex=SEX)
    (column,) = measured(items, wrong_for(items, lambda item: item.speaker in ("s1", "s3"))).columns
    assert column.gap.value == pytest.approx(1 / 6, abs=1e-6)
    assert column.gap.interval.low == pytest.approx(0, abs=1e-6)
    assert column.gap.interval.high == pytest.approx(1 / 3, abs=1e-6)


def test_groups_of_one_size_are_not_resampled_as_pairs():
    """A man and a woman of each pair are alike; only independent draws see that the next four may not be."""
    items = spoken_by_all(2, sex=SEX)
    (column,) = measured(items, wrong_for(items, lambda item: item.speaker in ("s0", "s1"))).columns
    assert column.gap.value == 0
    assert column.gap.better != column.gap.worse
    assert column.gap.interval.low < -0.1
    assert column.gap.interval.high > 0.1


def test_a_group_of_one_speaker_has_no_interval():
    sex = dict.fromkeys(SPEAKERS, "male") | {"s1": "female"}
    items = spoken_by_all(1, sex=sex)
    (column,) = measured(items, [item.emotion for item in items]).columns
    assert column.gap.interval is None
    by_name = {group.group: group for group in column.groups}
    assert by_name["female"].ua_interval is None
    assert by_name["female"].recall_intervals == {"angry": None, "happy": None, "sad": None}
    assert by_name["male"].ua_interval is not None


def test_speakers_without_a_value_and_constant_columns():
    items = spoken_by_all(1, gender={name: value for name, value in SEX.items() if name != "s0"})
    (column,) = measured(items, [item.emotion for item in items]).columns
    assert (column.column, column.unknown) == ("sex", 3)
    assert sum(group.speakers for group in column.groups) == 7
    items = spoken_by_all(1, sex=dict.fromkeys(SPEAKERS, "male"))
    section = measure_fairness({"fp32": evaluation(items, [item.emotion for item in items])}, ("sex", "accent"))
    assert (section.missing, section.graphs["fp32"].columns) == (["sex", "accent"], [])


def test_an_emotion_that_one_group_alone_shows_is_no_gap():
    rows = [(name, label) for name in SPEAKERS for label in LABELS if label != "sad" or SEX[name] == "male"]
    items = spoken(rows, sex=SEX)
    (column,) = measured(items, ["happy" if item.emotion == "sad" else item.emotion for item in items]).columns
    by_name = {group.group: group for group in column.groups}
    assert by_name["female"].recall["sad"] is None
    assert by_name["female"].recall_intervals["sad"] is None
    assert (column.recall_gap.value, column.gap.value) == (0, pytest.approx(1 / 3, abs=1e-6))


class TestSpeakers:
    def test_the_worst_comes_first_with_its_interval(self):
        items = spoken_by_all(4)
        found = measured(items, wrong_for(items, lambda item: item.speaker == "s5"))
        worst = found.speakers[0]
        assert (worst.speaker, worst.utterances) == ("s5", 12)
        assert worst.ua == pytest.approx(2 / 3, abs=1e-6)
        # Wilson's interval of 8 of 12, as published calculators give it.
        assert (worst.right.low, worst.right.high) == pytest.approx((0.3906, 0.8619), abs=1e-4)
        perfect = found.speakers[-1]
        assert (perfect.right.value, perfect.right.high) == (1, 1)
        assert perfect.right.low < 0.8
        spread = found.spread
        assert (spread.worst, spread.quarter, spread.best) == pytest.approx((2 / 3, 1, 1), abs=1e-6)

    def test_differences_between_speakers_are_significant(self):
        items = spoken_by_all(10)
        found = measured(items, wrong_for(items, lambda item: item.speaker == "s5"))
        assert found.spread.chance < 0.01
        assert found.spread.worst < found.spread.worst_by_chance.low

    def test_errors_by_chance_are_not_significant(self):
        """As many errors, but by chance: the worst speaker is no worse than luck makes one."""
        items = spoken_by_all(10)
        unlucky = np.random.default_rng(4).choice(
            [number for number, item in enumerate(items) if item.emotion == "sad"], 10, replace=False
        )
        decided = ["angry" if number in unlucky else item.emotion for number, item in enumerate(items)]
        found = measured(items, decided)
        assert found.spread.chance > 0.05
        assert found.spread.worst_by_chance.low <= found.spread.worst <= found.spread.worst_by_chance.high

    def test_one_speaker_has_no_spread(self):
        items = spoken([("s0", label) for label in LABELS])
        found = measured(items, LABELS)
        assert found.spread is None
        assert len(found.speakers) == 1
