"""Streaming and whole-clip scoring agree on which windows count."""

import numpy as np
import pytest

from edge_runtime.segments import Segmenter
from edge_runtime.windows import SHORTEST, WindowPolicy, clip_windows

POLICIES = [
    WindowPolicy(seconds=3, hop_seconds=1, segment_seconds=10),
    WindowPolicy(seconds=2.5, hop_seconds=1, segment_seconds=7.3),
    WindowPolicy(seconds=1, hop_seconds=1, minimum_seconds=0.5, segment_seconds=1),
    WindowPolicy(seconds=2, hop_seconds=0.3, segment_seconds=5),
]


def stream(policy, samples, block):
    audio = np.arange(samples, dtype=np.float32)
    segmenter = Segmenter(policy)
    windows = [w for start in range(0, samples, block) for w in segmenter.feed(audio[start : start + block])]
    windows += segmenter.close()
    assert segmenter.position == samples
    return audio, windows


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "samples", [SHORTEST, 9_000, 16_000, 40_000, 48_000, 64_000, 70_001, 159_999, 160_000, 320_123]
)
@pytest.mark.parametrize("block", [777, 1_600, 400_000])
def test_counting_windows_are_the_clips_windows(policy, samples, block):
    audio, windows = stream(policy, samples, block)
    for window in windows:
        assert np.array_equal(window.pcm, audio[window.start : window.end])
    counted = [(w.start, w.end) for w in windows if w.counts]
    wanted = []
    for first in range(0, samples, policy.segment):
        length = min(policy.segment, samples - first)
        if length >= SHORTEST:
            wanted += [(first + start, first + end) for start, end in clip_windows(length, policy)]
    assert counted == wanted


def test_every_segment_closes_once():
    _, windows = stream(POLICIES[0], 25 * 16_000, 1_600)
    assert [(w.segment_start, w.end) for w in windows if w.closes] == [
        (0, 160_000),
        (160_000, 320_000),
        (320_000, 400_000),
    ]


def test_provisional_windows_come_every_hop_and_grow_to_the_window():
    _, windows = stream(POLICIES[0], 5 * 16_000 + 1, 1_600)
    spans = [(w.start / 16_000, w.end / 16_000) for w in windows if not w.closes]
    assert spans == [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5)]


def test_no_window_spans_a_gap():
    segmenter = Segmenter(POLICIES[0])
    before = segmenter.feed(np.ones(20_000, np.float32))
    closed = segmenter.skip(8_000)
    after = segmenter.feed(np.ones(20_000, np.float32)) + segmenter.close()
    assert [w.end for w in before + closed] == [16_000, 20_000]
    assert [w.start for w in after] == [28_000, 28_000]
    assert segmenter.position == 48_000


def test_silence_shorter_than_speech_can_be_is_not_scored():
    segmenter = Segmenter(POLICIES[0])
    assert segmenter.feed(np.ones(SHORTEST - 1, np.float32)) + segmenter.close() == []
