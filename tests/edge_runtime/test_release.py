"""What the decisions of the default bundle must not follow; `make dist` requires these tests (marker `release`).

On rendered speech (`tests/rendered_voices.py`), which is no evidence about people: the tests check that decisions stay the
same, not that they are right. Each compares decisions for the same utterances of unknown speakers, by the graph.

How the limits were chosen: LIMITS_NOTE
"""

import subprocess
import sys

import numpy as np
import pytest

from distill.speech.acoustics import amplified, in_room, room_response
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.clips import score_clip
from edge_runtime.engines.engine import OnnxEngine
from tests.conftest import ROOT, need
from tests.rendered_voices import VOICES, WORDS, script

pytestmark = [pytest.mark.release, pytest.mark.slow]

need("espeakng_loader")

USUAL = -20.0
"""Peak of an utterance, dB of full scale."""
GROUPS = [*VOICES, *WORDS]


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    subprocess.run([sys.executable, "-m", "tests.rendered_voices", folder], cwd=ROOT, check=True, timeout=300)
    return {each: np.load(folder / f"{each.name}.npy") for each in script()}


@pytest.fixture(scope="module")
def decide(voices):
    """Return the decision for each utterance after a change of its sound."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    engine = OnnxEngine.of(bundle, "int8-cpu")

    def run(change):
        found = {}
        for each, pcm in voices.items():
            result = score_clip(engine.score, change(pcm), bundle.manifest.window)
            found[each] = bundle.manifest.labels[int(result.probabilities.argmax())]
        return found

    return run


def at_peak(pcm, decibels):
    return amplified(pcm / np.abs(pcm).max(), decibels)


@pytest.fixture(scope="module")
def usual(decide):
    return decide(lambda pcm: at_peak(pcm, USUAL))


def changed(before, after, group=None):
    """Return the share of other decisions, of all utterances or of those of a sex or a language."""
    of_group = [each for each in before if group is None or group in (each.sex, each.language)]
    assert len(of_group) >= 16
    return float(np.mean([before[each] != after[each] for each in of_group]))


def test_the_speech_separates_decisions(usual):
    """If all decisions were the same, the other tests could not fail."""
    assert len(set(usual.values())) >= 2


@pytest.mark.parametrize("peak", [-40.0, -6.0])
def test_the_level_does_not_decide(decide, usual, peak):
    quiet_or_loud = decide(lambda pcm: at_peak(pcm, peak))
    for group in (None, *GROUPS):
        assert changed(usual, quiet_or_loud, group) <= LEVEL_LIMIT, group


def test_a_small_room_decides_little(decide, usual):
    """Reverberation of 0.3 seconds, as loud as the direct sound."""
    response = room_response(0.3, 0.0, np.random.default_rng(0))
    in_the_room = decide(lambda pcm: at_peak(in_room(pcm, response), USUAL))
    assert changed(usual, in_the_room) <= ROOM_LIMIT
    for sex in VOICES:
        assert changed(usual, in_the_room, sex) <= ROOM_LIMIT_OF_A_SEX, sex


def test_words_do_not_decide(usual):
    """In neutral prosody, words of an emotion give its label hardly more often than other words do."""
    follows = {
        emotion: share(usual, emotion, lambda words, emotion=emotion: words == emotion)
        - share(usual, emotion, lambda words, emotion=emotion: words != emotion)
        for emotion in ("angry", "happy", "sad")
    }
    assert float(np.mean(list(follows.values()))) <= WORDS_LIMIT, follows


def share(found, label, chosen):
    return float(np.mean([decision == label for each, decision in found.items() if chosen(each.words)]))
