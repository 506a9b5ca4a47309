"""Which utterances each one is scored after, and that an evaluation uses those and no others."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from distill.corpus import Utterance
from distill.evaluation.speaker_draws import (
    Stream,
    after_another_speaker,
    after_own_profile,
    by_emotion,
    in_turn,
    labelled_draws,
    neutral_draws,
    other_speaker_draws,
    random_draws,
    single_emotion_draws,
    two_speaker_draws,
)
from distill.evaluation.speaker_normalised import Speakers
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import Scores
from edge_runtime.errors import EdgeemoError
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


def test_labelled_draws_are_of_each_emotion_of_the_same_speaker():
    draws = labelled_draws(ITEMS, 2, seed=3)
    for number, draw in enumerate(draws):
        assert number not in draw
        assert speakers(draw) == {ITEMS[number].speaker}
        assert sorted(ITEMS[each].emotion for each in draw) == sorted(2 * EMOTIONS)
    assert labelled_draws(ITEMS, 2, seed=3) == draws
    assert labelled_draws(ITEMS, 2, seed=4) != draws
    # All of them, where there are fewer.
    assert {len(draw) for draw in labelled_draws(ITEMS, 9, seed=0)} == {11}
    assert labelled_draws(ITEMS[:1], 2, seed=0) == [[]]


def test_labelled_draws_may_be_of_other_sentences():
    items = [dataclasses.replace(item, extra={"sentence": item.name[-5]}) for item in ITEMS]
    for number, draw in enumerate(labelled_draws(items, 2, seed=3, apart="sentence")):
        assert items[number].extra["sentence"] not in {items[each].extra["sentence"] for each in draw}
        assert sorted(items[each].emotion for each in draw) == sorted(2 * EMOTIONS)
    with pytest.raises(EdgeemoError, match="no column 'sentence'"):
        labelled_draws(ITEMS, 2, seed=3, apart="sentence")


def test_sorted_by_emotion_is_one_after_another():
    orders = by_emotion(ITEMS, seed=0)
    assert sorted(number for order in orders for number in order) == list(range(len(ITEMS)))
    turns = []
    for order in orders:
        assert len(speakers(order)) == 1
        shown = [ITEMS[each].emotion for each in order]
        turns.append(list(dict.fromkeys(shown)))
        assert shown == [emotion for emotion in turns[-1] for _ in range(4)]
    # Emotions and utterances are in a random order.
    assert len({tuple(turn) for turn in turns}) > 1
    assert [each for each in orders[0] if ITEMS[each].emotion == "angry"] != [0, 1, 2, 3]
    assert by_emotion(ITEMS, seed=0) == orders
    assert by_emotion(ITEMS, seed=1) != orders


def test_streams_after_a_profile():
    for stream in after_own_profile(ITEMS, 3, seed=0):
        assert speakers(stream.order) == speakers(stream.known)
        assert not set(stream.order) & set(stream.known)
        assert len(stream.known) == 3
    for stream in after_another_speaker(ITEMS, 3, seed=0):
        assert not speakers(stream.order) & speakers(stream.known)


MODEL = SpeakerModel(
    projection=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32),
    origin=np.zeros(3),
    class_means=np.array([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]),
    between=np.array([[4.0, 0.0], [0.0, 1.0]]),
    interaction=np.full((3, 2), 0.5),
    softness=4.0,
)
TEMPERATURE = 2.0


def statistics_of(number):
    """Of the utterance of a number: of its class, with an offset of its own."""
    return np.array(
        [*(MODEL.class_means[number % 3] + (1.5, -0.5) + np.array([number, -number]) / 10), 9.0], np.float32
    )


@pytest.fixture
def six(tmp_path):
    """Six utterances of one speaker, whose waveform names their number to the scoring function."""
    items = []
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        # Alternating, since an offset would be removed.
        soundfile.write(path, np.tile([1.0, -1.0], 4000) * (number + 1) / 100, 16_000, subtype="FLOAT")
        items.append(Utterance(path, path.name, "a", EMOTIONS[number % 3], seconds=0.5, size=1))

    def score(pcm):
        number = round(float(np.abs(pcm[0])) * 100) - 1
        # What the graph decides is not asked for.
        return Scores(np.array([9.0, 0.0, 0.0], np.float32), statistics_of(number) * np.sign(pcm[0]).astype(np.float32))

    return Speakers(score, items, EMOTIONS, WindowPolicy(), TEMPERATURE, MODEL)


def reduced(numbers):
    return np.array([statistics_of(number)[:2] for number in numbers]).reshape(-1, 2)


def wanted(posterior, number):
    return pytest.approx(softmax(posterior.logits(reduced([number])), TEMPERATURE)[0], abs=1e-6)


def test_an_unknown_speaker_is_scored_with_the_prior(six):
    clips = six.plain()
    for number, clip in enumerate(clips):
        assert clip.probabilities == wanted(MODEL.prior(), number)
        assert clip.statistics == pytest.approx(statistics_of(number)[None])
    changed = six.plain(lambda pcm, number: -pcm)
    assert changed[3].statistics == pytest.approx(-statistics_of(3)[None])


def test_each_utterance_is_scored_after_the_drawn_ones_alone(six):
    clips = six.plain()
    draws = [[1, 2, 3], [], [0], [0, 1, 2, 4, 5], [], []]
    ticks = []
    found = six.drawn(clips, draws, lambda: ticks.append(1)).probabilities
    assert len(ticks) == 6
    for number, behind in enumerate(draws):
        assert found[number] == wanted(MODEL.adapted(reduced(behind)) if behind else MODEL.prior(), number)
    assert np.abs(found[3] - clips[3].probabilities).max() > 0.01


def test_labels_of_the_drawn_ones_are_used_where_they_are_given(six):
    clips = six.plain()
    draws = [[1, 2, 3], [], [0], [0, 1, 2, 4, 5], [], []]
    found = six.drawn(clips, draws, labelled=True).probabilities
    for number, behind in enumerate(draws):
        posterior = MODEL.adapted(reduced([]), reduced(behind), np.array(behind, int) % 3)
        assert found[number] == wanted(posterior, number)
    assert np.abs(found - six.drawn(clips, draws).probabilities).max() > 0.01


def test_the_drawn_ones_may_be_from_elsewhere(six):
    """As by telephone: the tested ones stay as they are."""
    clips, behind = six.plain(), six.plain(lambda pcm, number: -pcm)
    found = six.drawn(clips, [[1, 2, 3], *[[]] * 5], behind=behind).probabilities
    assert found[0] == wanted(MODEL.adapted(-reduced([1, 2, 3])), 0)
    assert found[1] == pytest.approx(clips[1].probabilities)


def test_online_adds_an_utterance_after_it_is_classified(six):
    clips = six.plain()
    found, changes = six.online([Stream([2, 0, 1]), Stream([5, 4, 3])], clips)
    for order in ([2, 0, 1], [5, 4, 3]):
        for place, number in enumerate(order):
            posterior = MODEL.adapted(reduced(order[:place])) if place else MODEL.prior()
            assert found.probabilities[number] == wanted(posterior, number)
    assert changes.figures() is not None


def test_online_begins_with_a_profile(six):
    clips, known = six.plain(), six.plain(lambda pcm, number: -pcm)
    streams = [Stream([0, 1, 2], (3, 4)), Stream([3, 4, 5])]
    found, _ = six.online(streams, clips)
    assert found.probabilities[0] == wanted(MODEL.adapted(reduced([3, 4])), 0)
    assert found.probabilities[1] == wanted(MODEL.adapted(reduced([3, 4, 0])), 1)
    found, _ = six.online(streams, clips, known=known)
    assert found.probabilities[0] == wanted(MODEL.adapted(-reduced([3, 4])), 0)
