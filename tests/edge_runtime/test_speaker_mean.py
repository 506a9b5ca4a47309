"""The speaker mean and its weight."""

import numpy as np
import pytest
from edge_runtime.speakers.speaker_mean import MEMORY, SpeakerMean

DEFAULT = np.array([[1.0, -1.0, 0.5]], np.float32)
EVEN = np.full(4, 0.25)
ANGRY = np.array([1.0, 0.0, 0.0, 0.0])


def after(count, probabilities=EVEN, statistics=(3.0, 3.0, 3.0), trust=5.0):
    speaker = SpeakerMean(DEFAULT, trust)
    for _ in range(count):
        speaker.update(np.array(statistics), probabilities)
    return speaker


def test_nothing_known_is_the_training_mean():
    assert np.array_equal(SpeakerMean(DEFAULT, 5.0).reference(), DEFAULT)
    assert SpeakerMean(DEFAULT, 5.0).weight == 0.0


def test_as_many_utterances_as_the_prior_is_worth_weigh_half():
    speaker = after(5)
    assert speaker.weight == pytest.approx(0.5)
    assert speaker.reference() == pytest.approx((DEFAULT + 3.0) / 2)


def test_one_emotion_has_no_weight():
    speaker = after(50, ANGRY)
    assert speaker.weight == 0.0
    assert speaker.reference() == pytest.approx(DEFAULT)


def test_weight_grows_with_amount_and_variety():
    weights = [after(count).weight for count in (1, 2, 5, 20)]
    assert weights == sorted(weights)
    assert weights[-1] == pytest.approx(0.8)
    two = np.array([0.5, 0.5, 0.0, 0.0])
    assert after(20, two).variety == pytest.approx(1 / 3)
    assert 0 < after(20, two).weight < after(20).weight < 1


def test_variety_is_of_all_utterances_together():
    speaker = SpeakerMean(DEFAULT, 5.0)
    for index in range(8):
        speaker.update(np.ones(3), np.eye(4)[index % 4])
    assert speaker.variety == pytest.approx(1.0)


def test_mean_is_plain_at_first_and_forgets_later():
    speaker = SpeakerMean(DEFAULT, 5.0)
    rows = np.random.default_rng(0).normal(size=(50, 3))
    for row in rows:
        speaker.update(row, EVEN)
    assert speaker.mean == pytest.approx(rows.mean(axis=0))
    for _ in range(int(3 * MEMORY)):
        speaker.update(np.full(3, 7.0), EVEN)
    assert speaker.count == MEMORY
    assert speaker.mean == pytest.approx(np.full(3, 7.0), abs=0.7)


def test_goes_on_from_what_was_kept():
    first = after(7)
    again = SpeakerMean(DEFAULT, 5.0, mean=first.mean, emotion_shares=first.emotion_shares, count=first.count)
    for speaker in (first, again):
        speaker.update(np.array([0.0, 1.0, 2.0]), ANGRY)
    assert again.reference() == pytest.approx(first.reference())
    assert again.weight == pytest.approx(first.weight)
