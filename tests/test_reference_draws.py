"""Which utterances stand behind a reference, and that an evaluation uses those and no others."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.corpus import Utterance
from distill.reference_draws import (
    Stream,
    in_turn,
    neutral_draws,
    other_speaker_draws,
    random_draws,
    single_emotion_draws,
    two_speaker_draws,
)
from distill.referenced import Speakers
from edge_runtime.engine import Scores
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


def test_single_emotion_draws_show_one():
    draws = single_emotion_draws(ITEMS, 3, seed=0)
    shown = [{ITEMS[each].emotion for each in draw} for draw in draws]
    assert all(len(each) == 1 for each in shown)
    assert set.union(*shown) == set(EMOTIONS)
    assert all(speakers(draw) == {item.speaker} for draw, item in zip(draws, ITEMS, strict=True))


def test_neutral_draws_are_neutral():
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
    assert given[1] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert len(given) == 3


def test_online_learns_after_it_has_classified(told):
    who, given = told
    who.online([Stream([2, 0, 1]), Stream([5, 4, 3])])
    # The default one.
    assert given[0] is None
    assert given[3] is None
    # Two utterances, 3 and 1, of two of three emotions: worth 2 * (2 - 1) / (3 - 1) = 1.
    weight = 1 / (1 + 2)
    assert given[2] == pytest.approx((1 - weight) * np.array([0.5, 0.5]) + weight * np.array([2.0, -2.0]), abs=1e-3)
