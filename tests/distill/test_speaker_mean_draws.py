"""Which utterances stand behind a reference, and that an evaluation uses those and no others."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from distill.evaluation.speaker_mean_draws import (
    MAX_UTTERANCES,
    Stream,
    TrainingDraws,
    in_turn,
    neutral_draws,
    other_speaker_draws,
    random_draws,
    single_emotion_draws,
    two_speaker_draws,
)
from distill.training.speaker_means import TrainingSpeakerMeans
from edge_runtime.speakers.speaker_mean import SpeakerMean

from distill.corpus import Utterance
from distill.evaluation.speaker_normalised import Speakers
from distill.recipe import Speaker
from edge_runtime.engines.engine import Scores
from edge_runtime.windows import WindowPolicy

EMOTIONS = ("angry", "neutral", "sad")
ITEMS = [
    Utterance(path=Path(f"{speaker}-{emotion}-{take}.wav"), name=f"{speaker}-{emotion}-{take}.wav", speaker=speaker,
              emotion=emotion, seconds=1.0, size=1)
    for speaker in "abc"
    for emotion in EMOTIONS
    for take in range(4)
]  # fmt: skip


def speakers(draw):
    return {ITEMS[number].speaker for number in draw}


@pytest.mark.parametrize(("count", "wanted"), [(1, 1), (5, 5), (11, 11), (50, 11), (None, 11)])
def test_random_draws_are_others_of_the_same_speaker(count, wanted):
    draws = random_draws(ITEMS, count, seed=3)
    for number, draw in enumerate(draws):
        assert number not in draw
        assert len(set(draw)) == wanted
        assert speakers(draw) == {ITEMS[number].speaker}
    assert random_draws(ITEMS, count, seed=3) == draws
    if wanted < 11:
        assert random_draws(ITEMS, count, seed=4) != draws


def test_draws_of_one_emotion_show_one():
    draws = single_emotion_draws(ITEMS, 3, seed=0)
    shown = [{ITEMS[each].emotion for each in draw} for draw in draws]
    assert all(len(each) == 1 for each in shown)
    assert set.union(*shown) == set(EMOTIONS)
    assert all(speakers(draw) == {item.speaker} for draw, item in zip(draws, ITEMS, strict=True))
    draws = neutral_draws(ITEMS, 20, seed=0)
    assert {ITEMS[each].emotion for draw in draws for each in draw} == {"neutral"}
    assert {len(draw) for draw in draws} == {3, 4}


def test_draws_of_others_are_of_one_other():
    for draw, item in zip(other_speaker_draws(ITEMS, 6, seed=0), ITEMS, strict=True):
        assert len(draw) == 6
        assert len(speakers(draw)) == 1
        assert item.speaker not in speakers(draw)
    for draw, item in zip(two_speaker_draws(ITEMS, 6, seed=0), ITEMS, strict=True):
        assert [ITEMS[each].speaker for each in draw].count(item.speaker) == 3
        assert len(speakers(draw)) == 2
    alone = [item for item in ITEMS if item.speaker == "a"]
    assert other_speaker_draws(alone, 6, seed=0) == [[]] * len(alone)


def test_in_turn_is_each_utterance_once():
    for seed in (None, 0, 1):
        orders = in_turn(ITEMS, seed)
        assert sorted(number for order in orders for number in order) == list(range(len(ITEMS)))
        assert [len(speakers(order)) for order in orders] == [1, 1, 1]
    assert in_turn(ITEMS, 0) != in_turn(ITEMS, 1)
    assert in_turn(ITEMS, None) == [list(range(start, start + 12)) for start in (0, 12, 24)]


@pytest.fixture
def told(tmp_path):
    """Clips whose statistics are their number; the scoring function keeps the references that it was given."""
    items, given = [], []
    for number, item in enumerate(ITEMS[:6]):
        path = tmp_path / item.name
        soundfile.write(path, np.full(8000, (number + 1) / 100), 16_000, subtype="FLOAT")
        items.append(
            Utterance(path=path, name=item.name, speaker=item.speaker, emotion=item.emotion, seconds=0.5, size=1)
        )

    def score(pcm, reference):
        given.append(None if reference is None else reference[0].copy())
        number = round(float(pcm[0]) * 100)
        logits = np.full(3, -9.0, np.float32)
        logits[number % 3] = 9.0
        return Scores(logits, np.array([number, -number], np.float32))

    default = np.array([[0.5, 0.5]], np.float32)
    return Speakers(score, items, EMOTIONS, WindowPolicy(), 1.0, default, trust=2.0), given


def test_a_reference_is_made_of_the_drawn_ones_alone(told):
    who, given = told
    heard = who.plain()
    assert given == [None] * 6
    given.clear()
    found = who.drawn(heard, [[1, 2, 3], [], [0], [0, 1, 2, 4, 5], [], []])
    assert found.probabilities[0] == pytest.approx(heard[0].probabilities)
    # Three utterances of three emotions, as much as the prior is worth and half as much again.
    weight = 3 / (3 + 2)
    assert given[0] == pytest.approx((1 - weight) * np.array([0.5, 0.5]) + weight * np.array([3.0, -3.0]), abs=1e-3)
    # One utterance alone shows one emotion: it changes nothing.
    assert (given[1], len(given)) == (pytest.approx([0.5, 0.5], abs=1e-3), 3)


def test_online_learns_after_it_has_classified(told):
    who, given = told
    who.online([Stream([2, 0, 1]), Stream([5, 4, 3])])
    # The default one.
    assert given[0] is None
    assert given[3] is None
    # Two utterances, 3 and 1, of two of three emotions: worth 2 * (2 - 1) / (3 - 1) = 1.
    weight = 1 / (1 + 2)
    assert given[2] == pytest.approx((1 - weight) * np.array([0.5, 0.5]) + weight * np.array([2.0, -2.0]), abs=1e-3)


MANY = [dataclasses.replace(item, name=f"{take}-{item.name}") for take in range(5) for item in ITEMS]
NUMBERS = {item.name: number for number, item in enumerate(MANY)}


def drawn(share, poor, epochs=4):
    draws = TrainingDraws(MANY, share, poor)
    return [
        (tested, draws.draw(tested, np.random.default_rng([epoch, tested])))
        for epoch in range(epochs)
        for tested in range(len(MANY))
    ]


def test_references_in_training_have_every_size_and_kind():
    found = drawn(share=0.8, poor=0.3)
    for tested, (kind, behind) in found:
        assert tested not in behind
        assert len(set(behind)) == len(behind) <= MAX_UTTERANCES
        own = {item.speaker for item in (MANY[each] for each in behind)} == {MANY[tested].speaker}
        emotions = {MANY[each].emotion for each in behind}
        assert (kind == "none") == (not behind)
        assert own == (kind in ("good", "emotion", "noise"))
        assert kind != "other" or len({MANY[each].speaker for each in behind}) == 1
        assert kind != "emotion" or len(emotions) == 1
    kinds = [draw.kind for _, draw in found]
    share = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert share["none"] == pytest.approx(0.2, abs=0.06)
    for kind in ("emotion", "other", "noise"):
        assert share[kind] == pytest.approx(0.8 * 0.3 / 3, abs=0.04)
    sizes = [len(draw.behind) for _, draw in found if draw.kind == "good"]
    assert (min(sizes), max(sizes)) == (1, MAX_UTTERANCES)
    # As many between 1 and 5 as between 6 and 30.
    assert np.mean(np.array(sizes) <= 5) == pytest.approx(np.log(6) / np.log(31), abs=0.08)


@pytest.mark.parametrize(("share", "poor", "kinds"), [(0, 1, {"none"}), (1, 0, {"good"})])
def test_references_in_training_may_be_off_or_good_alone(share, poor, kinds):
    assert {draw.kind for _, draw in drawn(share, poor, epochs=1)} == kinds


def test_who_is_alone_gets_the_default():
    alone = TrainingDraws([ITEMS[0]], 1.0, 0.5)
    assert {alone.draw(0, np.random.default_rng(seed)).kind for seed in range(20)} == {"none"}
    assert alone.most(0, 0).kind == "none"


class TestReferencesInTraining:
    """Statistics of utterance n: a constant of its speaker, plus n at a place of its own."""

    TRUST = 2.0
    DEFAULT = np.full(len(MANY) + 1, 0.25, np.float32)

    def row(self, item, copy):
        made = np.zeros(len(MANY) + 1, np.float32)
        made[0] = 100.0 * (1 + "abc".index(item.speaker))
        made[1 + NUMBERS[item.name]] = 1.0
        return made

    def made(self, **how):
        return TrainingSpeakerMeans(MANY, EMOTIONS, self.row, 1, self.DEFAULT, Speaker(trust=self.TRUST, **how))

    def random(self, seed):
        return np.random.default_rng(seed)

    def test_they_are_what_a_device_makes_of_the_same_utterances(self):
        references, draws = self.made(share=1.0, poor=0.0), TrainingDraws(MANY, 1.0, 0.0)
        changed = 0
        for tested in range(len(MANY)):
            behind = draws.draw(tested, self.random(tested)).behind
            device = SpeakerMean(self.DEFAULT[None], self.TRUST)
            for each in behind:
                device.update(self.row(MANY[each], 0), np.eye(3)[EMOTIONS.index(MANY[each].emotion)])
            found = references.drawn(tested, self.random(tested))
            assert found == pytest.approx(device.reference()[0], abs=1e-3)
            assert found[1 + tested] <= self.DEFAULT[0], "it does not stand behind its own"
            changed += not np.array_equal(found, self.DEFAULT)
        assert changed > len(MANY) / 2

    def test_poor_ones_mislead(self):
        references, draws = self.made(share=1.0, poor=1.0), TrainingDraws(MANY, 1.0, 1.0)
        misled = dict.fromkeys(("emotion", "other", "noise"), 0)
        for tested in range(len(MANY)):
            draw = draws.draw(tested, self.random(tested))
            found, own = references.drawn(tested, self.random(tested)), 100.0 * (1 + "abc".index(MANY[tested].speaker))
            shown = {MANY[each].emotion for each in draw.behind}
            alone = np.array_equal(found, self.DEFAULT)
            # One emotion alone has no weight, unless a student is in doubt which it is.
            assert draw.kind == "emotion" or alone == (len(shown) == 1)
            if draw.kind == "emotion":
                misled["emotion"] += not alone
            elif draw.kind == "other":
                misled["other"] += found[0] > own if own < 300.0 else 0.25 < found[0] < own
            else:
                misled["noise"] += (found < -1e-3).any()
        assert min(misled.values()) > 3, misled

    def test_validation_takes_as_many_others_as_a_device_would_know(self):
        references = self.made()
        assert np.array_equal(references.fixed(3, given=False), self.DEFAULT)
        found = references.fixed(3, given=True)
        assert np.array_equal(found, references.fixed(3, given=True))
        behind = np.flatnonzero(found[1:] > found[1:].min() + 1e-3)
        assert len(behind) == MAX_UTTERANCES
        assert 3 not in behind
        assert {MANY[each].speaker for each in behind} == {MANY[3].speaker}
