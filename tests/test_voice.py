"""Telling voices apart: the map, whose turn it is, and what is learnt of whom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from distill.evaluation.changes import Changes
from distill.heads.lda import LabelledRows
from distill.heads.speaker_embedding import FALSE_CHANGES, SHRINKAGE, by_speaker, choose_threshold, fit_projection
from distill.speech.telephone import by_telephone
from edge_runtime.bundles.voice import VoiceSpace, likeness
from edge_runtime.reference import SpeakerReference
from edge_runtime.speakers.recent_voice import ENOUGH, FEW, PENDING, VOICES, Utterance, Voices

SIZE = 12
SPACE = VoiceSpace(np.eye(SIZE), np.zeros((1, SIZE)), 0.7)
PROBABILITIES = np.array([0.5, 0.3, 0.2])


def said_by(who, how=0.2):
    """An utterance of person ``who``, whose voice is a direction of its own, in some mood."""
    statistics = np.full(SIZE, 0.05)
    statistics[who] += 1.0
    statistics[-1] += how
    return Utterance(statistics, PROBABILITIES)


def nobody():
    return SpeakerReference(np.zeros((1, SIZE)), 3.0)


def known(who, count=20):
    voice = nobody()
    for _ in range(count):
        voice.learn(*said_by(who))
    return voice


def turns(voices, *people):
    return [voices.hear(said_by(who)).turned for who in people]


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
        places = by_speaker([str(each) for each in classes], rows @ found.T)
        own = [likeness(places["0"][:5].mean(axis=0), places["0"][5:].mean(axis=0))]
        other = [likeness(places["0"][:5].mean(axis=0), places[name].mean(axis=0)) for name in "12345"]
        assert min(own) > max(other)

    def test_the_threshold_lets_almost_all_own_groups_pass(self):
        random = np.random.default_rng(2)
        places = {name: random.normal(1.0, 2.0, size=(40, 8)) for name in "ab"}
        threshold = choose_threshold(places)
        fresh = []
        for _ in range(500):
            order = random.permutation(40)
            own = places["a"][order]
            fresh.append(likeness(own[:ENOUGH].mean(axis=0), own[ENOUGH : ENOUGH + 10].mean(axis=0)))
        assert 0 <= np.mean(np.array(fresh) < threshold) < 4 * FALSE_CHANGES
        assert choose_threshold({"a": places["a"]}) is None
        assert choose_threshold({"a": places["a"], "b": places["b"][: ENOUGH + FEW - 1]}) is None


class TestWhoSpeaks:
    def test_without_a_space_all_are_one(self):
        voices = Voices(None, nobody(), strangers=True)
        assert not any(turns(voices, *[0] * 10, *[1] * 10))
        assert voices.kept.count == 20

    def test_the_last_ones_are_used_and_not_yet_learnt(self):
        voices = Voices(SPACE, nobody(), strangers=True)
        assert not any(turns(voices, *[0] * 20))
        assert voices.kept.count == 20 - PENDING
        assert voices.usual().count == 20
        assert voices.close() == PENDING
        assert voices.kept.count == 20
        assert voices.close() == 0

    def test_somebody_else_is_noticed_and_nothing_of_them_is_learnt(self):
        voices = Voices(SPACE, known(0), strangers=True)
        first = voices.kept
        turned = turns(voices, *[0] * 10, *[1] * 6)
        assert sum(turned) == 1
        assert 10 + ENOUGH - 1 <= turned.index(True) < 10 + PENDING
        assert first.mean == pytest.approx(said_by(0).statistics)
        assert voices.now is not first
        assert voices.usual().mean == pytest.approx(said_by(1).statistics)

    def test_who_comes_back_is_known_again(self):
        voices = Voices(SPACE, known(0), strangers=True)
        turns(voices, *[0] * 5, *[1] * 15)
        second = voices.now
        turns(voices, *[0] * 6)
        assert voices.now is voices.kept
        turns(voices, *[1] * 6)
        assert voices.now is second
        assert second.mean == pytest.approx(said_by(1).statistics)

    def test_a_profile_of_somebody_else_is_put_aside(self):
        voices = Voices(SPACE, known(1), strangers=False)
        assert turns(voices, *[0] * ENOUGH) == [*[False] * (ENOUGH - 1), True]
        assert voices.now is None
        assert voices.usual() is None
        assert not any(turns(voices, *[0] * 10))
        assert voices.close() == 0
        assert voices.kept.count == 20
        assert any(turns(voices, *[1] * PENDING))
        assert voices.now is voices.kept

    def test_few_utterances_cannot_be_compared(self):
        voices = Voices(SPACE, known(0, FEW - 1), strangers=False)
        assert not any(turns(voices, 1))
        assert voices.kept.count == FEW

    def test_pending_ones_of_somebody_else_are_not_learnt_at_the_end(self):
        voices = Voices(SPACE, known(0), strangers=True)
        turns(voices, 1, 1)
        assert voices.usual().count == 22
        assert voices.close() == 0
        assert voices.kept.count == 20

    def test_the_kept_one_is_never_forgotten(self):
        voices = Voices(SPACE, known(0), strangers=True)
        for who in range(1, VOICES + 3):
            turns(voices, *[who] * 12)
        assert len(voices._voices) == VOICES
        turns(voices, *[0] * 6)
        assert voices.now is voices.kept
        # The first of the others was.
        turns(voices, *[1] * 6)
        assert voices.usual().count < 12

    def test_another_program_may_exchange_it(self):
        voices = Voices(SPACE, known(0), strangers=True)
        other = known(0, 7)
        voices.go_on_from(other)
        assert voices.now is voices.kept is other
        turns(voices, *[1] * 12)
        voices.go_on_from(known(0, 9))
        turns(voices, *[0] * 6)
        assert voices.kept.count >= 9


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
