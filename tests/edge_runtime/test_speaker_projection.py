"""Speaker embeddings: the projection, changes of speaker, and what each speaker gets of the utterances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from distill.evaluation.changes import Changes
from distill.heads.lda import LabelledRows
from distill.heads.speaker_embedding import FALSE_CHANGES, SHRINKAGE, choose_threshold, fit_projection
from distill.speech.channels import by_telephone
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.bundles.speaker_projection import SpeakerProjection, cosine
from edge_runtime.speakers.speaker import utterance_of
from edge_runtime.speakers.speaker_adaptation import MEMORY, SpeakerAdaptation
from edge_runtime.speakers.speaker_tracker import (
    MAX_PENDING,
    MAX_SPEAKERS,
    MIN_ENROLLED,
    MIN_PENDING,
    SpeakerTracker,
)

SIZE = 12
SPACE = SpeakerProjection(np.eye(SIZE), np.zeros((1, SIZE)), 0.7)
MODEL = SpeakerModel(
    projection=np.eye(2, SIZE, dtype=np.float32),
    origin=np.zeros(SIZE),
    class_means=np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
    between=np.eye(2),
    interaction=np.full((3, 2), 0.5),
    softness=8.0,
)


def said_by(who, how=0.2):
    """An utterance of speaker ``who``, whose embedding is one axis, with some emotion."""
    statistics = np.full(SIZE, 0.05)
    statistics[who] += 1.0
    statistics[-1] += how
    return utterance_of(statistics[None], MODEL, SPACE)


def unknown():
    return SpeakerAdaptation(MODEL)


def known(who, count=20):
    return SpeakerAdaptation(MODEL, [said_by(who)] * count)


def tracker_of(enrolled, *, adapt_to_others=True):
    return SpeakerTracker(SPACE.threshold, enrolled, MODEL, adapt_to_others=adapt_to_others)


def turns(tracker, *people):
    return [tracker.update(said_by(who)).changed for who in people]


class TestMap:
    @staticmethod
    def rows(random, speakers=6, each=50):
        """Speakers who differ along the first three axes, and all of whose utterances differ along the fourth most."""
        middle = random.normal(size=(speakers, SIZE)) * np.array([1, 1, 1, *[0.05] * (SIZE - 3)])
        spread = np.array([0.2, 0.2, 0.2, 5.0, *[0.3] * (SIZE - 4)])
        classes = np.repeat(np.arange(speakers), each)
        return middle[classes] + random.normal(size=(len(classes), SIZE)) * spread, classes

    def test_it_is_the_discriminant_analysis_of_speakers(self):
        rows, classes = self.rows(np.random.default_rng(0))
        found = fit_projection(lambda: iter([LabelledRows(rows, classes, np.ones(len(rows)))]), 6)
        assert found.shape == (5, SIZE)
        means = np.stack([rows[classes == number].mean(axis=0) for number in range(6)])
        within = np.cov((rows - means[classes]).T, bias=True)
        shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / SIZE * np.eye(SIZE)
        centred = means - means.mean(axis=0)
        _, vectors = linalg.eigh(centred.T @ centred, shrunk)
        wanted = vectors[:, ::-1][:, :5].T
        assert np.abs(found) == pytest.approx(np.abs(wanted), rel=1e-3, abs=1e-5)

    def test_speakers_lie_apart_whatever_their_mood(self):
        random = np.random.default_rng(1)
        rows, classes = self.rows(random)
        found = fit_projection(lambda: iter([LabelledRows(rows, classes, np.ones(len(rows)))]), 6)
        embeddings = rows @ found.T
        places = {str(number): embeddings[classes == number] for number in range(6)}
        own = [cosine(places["0"][:5].mean(axis=0), places["0"][5:].mean(axis=0))]
        other = [cosine(places["0"][:5].mean(axis=0), places[name].mean(axis=0)) for name in "12345"]
        assert min(own) > max(other)

    def test_the_threshold_lets_almost_all_own_groups_pass(self):
        random = np.random.default_rng(2)
        places = {name: random.normal(1.0, 2.0, size=(40, 8)) for name in "ab"}
        moods = ["x", "y"] * 20
        both = ["a"] * 40 + ["b"] * 40
        threshold = choose_threshold(both, moods * 2, np.concatenate([places["a"], places["b"]]))
        fresh = []
        for _ in range(500):
            order = random.permutation(40)
            own = places["a"][order]
            fresh.append(cosine(own[:MIN_PENDING].mean(axis=0), own[MIN_PENDING : MIN_PENDING + 10].mean(axis=0)))
        assert 0 <= np.mean(np.array(fresh) < threshold) < 4 * FALSE_CHANGES
        assert choose_threshold(both[:40], moods, places["a"]) is None
        few = MIN_PENDING + MIN_ENROLLED - 1
        rows = np.concatenate([places["a"], places["b"][:few]])
        assert choose_threshold(both[: 40 + few], (moods * 2)[: 40 + few], rows) is None

    def test_a_change_of_emotion_lowers_the_threshold(self):
        random = np.random.default_rng(3)
        speakers, moods = ["a"] * 40 + ["b"] * 40, ["x", "y"] * 40
        rows = random.normal(1.0, 0.5, size=(80, 8))
        plain = choose_threshold(speakers, moods, rows)
        rows[::2, 0] += 6.0
        assert choose_threshold(speakers, moods, rows) < plain - 0.1


class TestWhoSpeaks:
    def test_the_last_ones_are_used_and_not_yet_learnt(self):
        tracker = tracker_of(unknown())
        assert not any(turns(tracker, *[0] * 20))
        assert tracker.enrolled.count == 20 - MAX_PENDING
        assert tracker.current_speaker().count == 20
        assert tracker.close() == MAX_PENDING
        assert tracker.enrolled.count == 20
        assert tracker.close() == 0

    def test_somebody_else_is_noticed_and_nothing_of_them_is_learnt(self):
        tracker = tracker_of(known(0))
        first = tracker.enrolled
        turned = turns(tracker, *[0] * 10, *[1] * 6)
        assert sum(turned) == 1
        assert 10 + MIN_PENDING - 1 <= turned.index(True) < 10 + MAX_PENDING
        assert first.embedding == pytest.approx(said_by(0).embedding)
        assert tracker.current is not first
        assert tracker.current_speaker().embedding == pytest.approx(said_by(1).embedding)

    def test_a_profile_of_somebody_else_is_put_aside(self):
        tracker = tracker_of(known(1), adapt_to_others=False)
        assert turns(tracker, *[0] * MIN_PENDING) == [*[False] * (MIN_PENDING - 1), True]
        assert tracker.current is None
        assert tracker.current_speaker() is None
        assert not any(turns(tracker, *[0] * 10))
        assert tracker.close() == 0
        assert tracker.enrolled.count == 20
        assert any(turns(tracker, *[1] * MAX_PENDING))
        assert tracker.current is tracker.enrolled

    def test_few_utterances_cannot_be_compared(self):
        tracker = tracker_of(known(0, MIN_ENROLLED - 1), adapt_to_others=False)
        assert not any(turns(tracker, 1))
        assert tracker.enrolled.count == MIN_ENROLLED

    def test_pending_ones_of_somebody_else_are_not_learnt_at_the_end(self):
        tracker = tracker_of(known(0))
        turns(tracker, 1, 1)
        assert tracker.current_speaker().count == 22
        assert tracker.close() == 0
        assert tracker.enrolled.count == 20

    def test_the_kept_one_is_never_forgotten(self):
        tracker = tracker_of(known(0))
        for who in range(1, MAX_SPEAKERS + 3):
            turns(tracker, *[who] * 12)
        assert len(tracker._speakers) == MAX_SPEAKERS
        turns(tracker, *[0] * 6)
        assert tracker.current is tracker.enrolled
        # The first of the others was.
        turns(tracker, *[1] * 6)
        assert tracker.current_speaker().count < 12

    def test_another_program_may_exchange_it(self):
        tracker = tracker_of(known(0))
        other = known(0, 7)
        tracker.replace_enrolled(other)
        assert tracker.current is tracker.enrolled is other
        turns(tracker, *[1] * 12)
        tracker.replace_enrolled(known(0, 9))
        turns(tracker, *[0] * 6)
        assert tracker.enrolled.count >= 9

    def test_others_get_the_model_without_the_labels_of_the_profile(self):
        enrolled = SpeakerAdaptation(MODEL.with_classes(1), [said_by(0)] * 20, [np.zeros(2)], [3])
        tracker = tracker_of(enrolled)
        turns(tracker, *[1] * MAX_PENDING)
        assert tracker.current is not enrolled
        assert (tracker.current.model, tracker.current.clips) == (MODEL, [])
        turns(tracker, *[0] * MAX_PENDING)
        assert len(tracker.current_speaker().posterior.means) == 4
        assert tracker.current_speaker().classes == [3]

    def test_without_a_threshold_all_speech_is_one_speakers(self):
        tracker = SpeakerTracker(None, unknown(), MODEL, adapt_to_others=True)
        said = [tracker.update(utterance_of(np.ones((2, SIZE)) * number, MODEL, None)) for number in range(8)]
        assert all(each.enrolled == 1 and not each.changed for each in said)
        assert tracker.enrolled.count == 8
        assert tracker.close() == 0

    def test_pending_ones_count_within_the_memory(self):
        tracker = tracker_of(known(0, MEMORY))
        tracker.update(said_by(0, how=0.5))
        tracker.update(said_by(0, how=0.6))
        assert tracker.current_speaker().count == MEMORY
        said = [each.embedding[-1] for each in tracker.current_speaker().utterances]
        assert said == pytest.approx([0.25] * (MEMORY - 2) + [0.55, 0.65])


def test_an_utterance_is_the_mean_of_its_windows():
    rows = np.random.default_rng(0).normal(size=(5, SIZE)).astype(np.float32)
    found = utterance_of(rows, MODEL, SPACE)
    assert found.reduced == pytest.approx(MODEL.reduced(rows.mean(axis=0)), rel=1e-5)
    assert found.embedding == pytest.approx(rows.mean(axis=0), rel=1e-4, abs=1e-6)
    assert utterance_of(rows, MODEL, None).embedding.shape == (0,)


class TestCounting:
    def test_changes(self):
        found = Changes.of("a", ["a", "a", "b", "b", "b", "a"], [False, True, False, True, True, False])
        assert found == Changes(utterances=6, real=2, waits=(2,), false=2)
        both = Changes.sum([found, Changes.of("b", ["a"], [True])])
        assert both == Changes(utterances=7, real=3, waits=(2, 1), false=2)
        assert both.figures()["utterances until noticed"] == 1.5
        assert both.figures()["false changes per 100 utterances"] == pytest.approx(200 / 7)

    def test_a_telephone_carries_its_band(self):
        seconds = np.arange(16_000) / 16_000
        pcm = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in (100, 1000, 5000)).astype(np.float32)
        power = np.abs(np.fft.rfft(by_telephone(pcm, 0))) ** 2
        assert power[[100, 5000]].max() < 1e-6 * power[1000]
        noise = power[300:3400].sum() - power[1000]
        assert 10 * np.log10(power[1000] / noise) == pytest.approx(20.0, abs=0.5)
