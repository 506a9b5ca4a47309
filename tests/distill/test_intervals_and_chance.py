"""From how many speakers on figures have intervals; chance level; choices made with test figures visible."""

import re

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.bench.compare.compare_runs import verdict
from benchmarks.bench.results import Row, accuracy_columns
from benchmarks.lab.choices import choices_with_test_figures
from benchmarks.lab.tables import table
from benchmarks.lab.views.table_cells import estimated, with_interval
from distill.evaluation.chance import LEVEL, Chance, permutation_p
from distill.evaluation.intervals import MIN_SPEAKERS, Interval, ends
from distill.evaluation.metrics import mean_difference, measure
from distill.load_recipe import load_recipe
from distill.recipe import choices_stated
from tests.conftest import ROOT

LABELS = ("angry", "happy", "neutral", "sad")


def decisions(speakers, right=0.7, count=80, seed=0):
    """Truth, decisions and speakers of some utterances."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % len(LABELS)
    decided = np.where(random.random(count) < right, truth, random.integers(len(LABELS), size=count))
    return truth, decided, [f"s{number // len(LABELS) % speakers}" for number in range(count)]


def accuracy(speakers, **how):
    truth, decided, who = decisions(speakers, **how)
    probabilities = np.eye(len(LABELS))[decided] * 0.6 + 0.1
    return measure(probabilities, truth, who, LABELS, before=probabilities)


INTERVALS = ("ua_interval", "wa_interval", "macro_f1_interval", "ece_interval", "ece_before_interval")


class TestIntervals:
    @pytest.mark.parametrize("speakers", [1, 2])
    def test_none_of_one_or_two_speakers(self, speakers):
        found = accuracy(speakers)
        assert [getattr(found, name) for name in INTERVALS] == [None] * len(INTERVALS)
        assert (found.ua_low, found.ua_high) == (None, None)
        assert set(found.recall_intervals.values()) == {None}
        truth, decided, who = decisions(speakers)
        difference = mean_difference(truth, [decided], [truth], who)
        assert (difference.ua_interval, difference.wa_interval) == (None, None)

    def test_from_three_speakers_on(self):
        found = accuracy(MIN_SPEAKERS)
        assert all(getattr(found, name) is not None for name in INTERVALS)
        assert found.ua_low <= found.ua <= found.ua_high
        assert None not in found.recall_intervals.values()

    def test_a_recall_needs_three_speakers_of_its_emotion(self):
        truth, decided, who = decisions(6)
        who = ["s0" if label == 3 else speaker for label, speaker in zip(truth, who, strict=True)]
        found = measure(np.eye(4)[decided], truth, who, LABELS)
        assert found.recall_intervals["sad"] is None
        assert found.recall_intervals["angry"] is not None

    def test_reports_say_why(self):
        assert ends(None, None, 1) == "no interval: 1 speaker, at least 3 are needed"
        found = accuracy(2)
        row = Row(system="student", corpus="c", **accuracy_columns(found))
        assert row.ua_low is None
        assert with_interval("ua")(row) == f"{found.ua:.3f} (no interval: 2 speakers, at least 3 are needed)"
        assert estimated(row.recall["sad"]).endswith("(no interval: fewer than 3 speakers)")
        truth, decided, who = decisions(2)
        sentence = verdict("a", "b", mean_difference(truth, [decided], [truth], who), 2)
        assert sentence.startswith("No difference can be shown (no interval: 2 speakers, at least 3 are needed)")
        assert "95 %" not in sentence


class TestChance:
    def test_an_interval_decides_where_there_is_one(self):
        good, guess = accuracy(8), accuracy(8, right=0.0)
        assert (good.chance.ua, good.chance.p, good.chance.at_chance) == (0.25, None, False)
        assert guess.chance.at_chance
        assert guess.ua_low <= 0.25

    @pytest.mark.parametrize("speakers", [1, 2])
    def test_a_permutation_test_where_there_is_none(self, speakers):
        good, guess = accuracy(speakers), accuracy(speakers, right=0.0)
        assert good.chance.p < LEVEL
        assert not good.chance.at_chance
        assert guess.chance.p > LEVEL
        assert guess.chance.at_chance

    def test_one_decision_for_all_is_chance(self):
        """Also where an emotion is not tested, and the same decision reaches more than one by the number of labels."""
        truth = np.arange(60) % 3
        found = measure(np.tile([1.0, 0, 0, 0], (60, 1)), truth, [f"s{n % 5}" for n in range(60)], LABELS)
        assert found.ua == found.ua_low == pytest.approx(1 / 3)
        assert found.chance.at_chance

    def test_who_speaks_is_no_evidence(self):
        """One speaker is always angry, the other always sad, and so is decided: no emotion is recognised."""
        truth = np.repeat([0, 3], 30)
        who = ["a"] * 30 + ["b"] * 30
        assert permutation_p(truth, truth, who) == 1
        assert permutation_p(truth, truth, ["a"] * 60) == pytest.approx(1 / 2001)

    def test_p_is_uniform_under_chance(self):
        values = []
        for seed in range(60):
            truth, decided, who = decisions(2, right=0.0, count=40, seed=seed)
            values.append(permutation_p(truth, decided, who))
        assert np.mean(np.array(values) < 0.5) == pytest.approx(0.45, abs=0.15)
        assert np.mean(np.array(values) < LEVEL) < 0.1

    def test_an_older_report_has_none(self):
        content = accuracy(4).model_dump()
        del content["chance"]
        assert type(accuracy(4)).model_validate(content).chance is None

    def test_the_warning(self):
        found = Chance(ua=0.25, p=0.4, at_chance=True).warning("student", 0.3)
        assert "the student is at chance level: UA 0.300" in found
        assert "p = 0.40 in a permutation test" in found


class TestChoices:
    def test_what_a_recipe_states(self):
        assert load_recipe("edge").choices_with_test_figures is None
        setting = 'choices_with_test_figures={count=2, what="layers, copies"}'
        stated = load_recipe("edge", settings=(setting,)).choices_with_test_figures
        assert choices_stated(stated) == choices_stated(stated.model_dump()) == "2 (layers, copies)"
        assert choices_stated(None) == "not stated"
        assert choices_stated({"count": 0}) == "0"
        with pytest.raises(ValidationError):
            choices_stated({"count": -1})

    def test_tables_state_them(self):
        wanted = "Choices made with test figures visible: 3 (sizes, frames left out, copies)."
        assert table("ravdess-small", "choices") == wanted
        assert table("ravdess-small", "run").endswith(f"\n* {wanted}")
        assert choices_with_test_figures("another") == "not stated"

    def test_the_default_bundle_states_those_of_its_figures(self):
        found = re.search(r"choices_with_test_figures=(\{[^}]*\})", (ROOT / "Makefile").read_text())
        stated = load_recipe("edge", settings=(f"choices_with_test_figures={found[1]}",)).choices_with_test_figures
        assert choices_stated(stated) == choices_with_test_figures("strangers")


def test_an_interval_of_draws():
    assert Interval.of(np.array([np.nan, 1.0, 1.0])) == Interval(low=1, high=1)
    assert Interval.over_speakers(np.array([0.0, 1.0]), 2) is None
