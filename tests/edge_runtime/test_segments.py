"""Streaming and whole-clip scoring agree on the windows of a segment; speech is found where it is."""

import itertools
from operator import attrgetter

import numpy as np
import pytest

from edge_runtime.config import VadSettings
from edge_runtime.loop.segments import PlainSegmenter, SegmentEnd, SpeechSegmenter, Window
from edge_runtime.loop.vad import VadIterator
from edge_runtime.sources.silero import FRAME
from edge_runtime.windows import SHORTEST, WindowPolicy, clip_windows

POLICIES = [
    WindowPolicy(seconds=3, hop_seconds=1, segment_seconds=10),
    WindowPolicy(seconds=2.5, hop_seconds=1, segment_seconds=7.3),
    WindowPolicy(seconds=1, hop_seconds=1, minimum_seconds=0.5, segment_seconds=1),
    WindowPolicy(seconds=2, hop_seconds=0.3, segment_seconds=5),
]
LATE = VadSettings(min_speech_duration=1.0, min_silence_duration=2.0)
GATE = VadSettings(min_speech_duration=0.2, min_silence_duration=0.5, speech_pad=0.1)


class Loudness:
    """Takes loud frames for speech: a detector whose answers a test can lay out sample by sample."""

    def probabilities(self, pcm):
        return np.abs(pcm.reshape(-1, FRAME)).mean(axis=1).tolist()

    def reset(self):
        pass


def feed(segmenter, audio, block):
    cuts = [cut for start in range(0, len(audio), block) for cut in segmenter.feed(audio[start : start + block])]
    return cuts + segmenter.close()


def plain(policy, samples, block):
    audio = np.arange(samples, dtype=np.float32)
    segmenter = PlainSegmenter(policy)
    cuts = feed(segmenter, audio, block)
    assert segmenter.position == samples
    return audio, cuts


def speech(policy, audio, block=1_600, gate=GATE):
    segmenter = SpeechSegmenter(policy, VadIterator(gate, Loudness()))
    cuts = feed(segmenter, audio, block)
    assert segmenter.position == len(audio)
    return cuts


def sound(*parts):
    """Return audio of ``(seconds, level)`` parts, in whole frames."""
    return np.concatenate([np.full(round(s * 16_000 / FRAME) * FRAME, level, np.float32) for s, level in parts])


def endings(cuts):
    return [cut for cut in cuts if isinstance(cut, SegmentEnd)]


def windows(cuts):
    return [cut for cut in cuts if isinstance(cut, Window)]


class TestPauses:
    PARTS = ((0.512, 0), (0.96, 0.9), (0.448, 0), (0.8, 0.9), (1, 0))
    """Speech, a pause shorter than the least silence, and speech again."""

    def test_a_hop_in_a_pause_has_no_window(self):
        policy = WindowPolicy(seconds=3, hop_seconds=0.5, segment_seconds=10)
        cuts = speech(policy, sound(*self.PARTS))
        (end,) = endings(cuts)
        # Hops of half a second from the start of the segment: the third one falls into the pause.
        assert [(each.end - end.start) / 16_000 for each in windows(cuts)] == [0.5, 1.0, 2.0]

    def test_windows_that_the_result_is_the_mean_of_are_scored_there_too(self):
        policy = WindowPolicy(seconds=1, hop_seconds=0.5, segment_seconds=10)
        cuts = speech(policy, sound(*self.PARTS))
        (end,) = endings(cuts)
        spans = [(each.start, each.end) for each in windows(cuts)]
        assert [each for each in end.windows[:-1] if each not in spans] == []
        assert (end.start + 8_000, end.start + 24_000) in spans


class TestPlain:
    @pytest.mark.parametrize("policy", POLICIES)
    @pytest.mark.parametrize("samples", [SHORTEST, 9_000, 48_000, 70_001, 159_999, 160_000, 320_123])
    @pytest.mark.parametrize("block", [777, 1_600, 400_000])
    def test_windows_of_an_ending_are_the_clips_windows(self, policy, samples, block):
        audio, cuts = plain(policy, samples, block)
        for window in windows(cuts):
            assert np.array_equal(window.pcm, audio[window.start : window.end])
        counted = [span for ending in endings(cuts) for span in ending.windows]
        wanted = []
        for first in range(0, samples, policy.segment):
            length = min(policy.segment, samples - first)
            if length >= SHORTEST:
                wanted += [(first + start, first + end) for start, end in clip_windows(length, policy)]
        assert counted == wanted
        for ending in endings(cuts):
            for start, end in ending.windows:
                assert np.array_equal(ending.audio(start, end), audio[start:end])

    def test_most_windows_of_an_ending_were_scored_before(self):
        _, cuts = plain(POLICIES[0], 160_000, 1_600)
        (ending,) = endings(cuts)
        before = {(window.start, window.end) for window in windows(cuts)}
        assert [span for span in ending.windows if span not in before] == [(112_000, 160_000)]

    def test_every_segment_ends_once(self):
        _, cuts = plain(POLICIES[0], 25 * 16_000, 1_600)
        spans = [(ending.start, ending.end) for ending in endings(cuts)]
        assert spans == [(0, 160_000), (160_000, 320_000), (320_000, 400_000)]

    def test_windows_come_every_hop_and_grow_to_the_window(self):
        _, cuts = plain(POLICIES[0], 5 * 16_000 + 1, 1_600)
        spans = [(window.start / 16_000, window.end / 16_000) for window in windows(cuts)]
        assert spans == [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5)]

    def test_what_is_shorter_than_speech_can_be_is_not_scored(self):
        segmenter = PlainSegmenter(POLICIES[0])
        assert segmenter.feed(np.ones(SHORTEST - 1, np.float32)) + segmenter.close() == []


class TestSpeech:
    def test_a_stretch_begins_and_ends_with_padding(self):
        audio = sound((2, 0), (1.6, 1), (2, 0))
        (ending,) = endings(speech(POLICIES[0], audio))
        first, last = np.flatnonzero(audio)[[0, -1]]
        assert (ending.start, ending.end) == (first - 1_600, last + 1 + 1_600)
        assert np.array_equal(ending.pcm, audio[ending.start : ending.end])
        assert ending.speech == 25_600

    @pytest.mark.parametrize("parts", [[(20, 0)], [(1, 0), (0.1, 1), (1, 0)], [(0.1, 1), (1, 0)] * 10])
    def test_silence_and_clicks_are_no_speech(self, parts):
        assert speech(POLICIES[0], sound(*parts)) == []

    def test_a_short_pause_does_not_end_it(self):
        (ending,) = endings(speech(POLICIES[0], sound((1, 0), (1, 1), (0.4, 0), (1, 1), (1, 0))))
        assert ending.speech == pytest.approx(32_000, abs=2 * FRAME)
        assert len(ending.pcm) == pytest.approx(2.4 * 16_000 + 2 * 1_600, abs=3 * FRAME)

    def test_a_long_pause_ends_it(self):
        assert len(endings(speech(POLICIES[0], sound((1, 1), (0.7, 0), (1, 1), (1, 0))))) == 2

    def test_between_the_thresholds_speech_goes_on_but_does_not_begin(self):
        assert speech(POLICIES[0], sound((3, 0.4))) == []
        (ending,) = endings(speech(POLICIES[0], sound((1, 1), (1, 0.4), (1, 0))))
        assert ending.end >= 2 * 16_000

    def test_what_is_open_at_the_end_is_ended(self):
        audio = sound((1, 0), (1, 1))
        for rest in (0, 300):
            whole = np.concatenate([audio, np.ones(rest, np.float32)])
            (ending,) = endings(speech(POLICIES[0], whole))
            assert ending.end == len(whole)

    def test_a_long_stretch_is_cut_and_nothing_lost(self):
        audio = sound((1, 0), (23, 1), (1, 0))
        found = endings(speech(POLICIES[0], audio))
        assert [len(ending.pcm) for ending in found[:2]] == [160_000, 160_000]
        assert [one.end for one in found[:-1]] == [other.start for other in found[1:]]
        assert sum(ending.speech for ending in found) == round(23 * 16_000 / FRAME) * FRAME
        for ending in found:
            assert np.array_equal(ending.pcm, audio[ending.start : ending.end])

    def test_speech_that_is_confirmed_late_is_cut_too(self):
        policy = WindowPolicy(seconds=1, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=1)
        gate = VadSettings(min_speech_duration=2.0, min_silence_duration=2.0)
        audio = sound((1, 0), *[(0.5, 1), (1.5, 0)] * 6, (3, 0))
        found = endings(speech(policy, audio, gate=gate))
        assert len(found) > 8
        assert all(one.end == other.start for one, other in itertools.pairwise(found))
        assert sum(ending.speech for ending in found) == int(audio.sum())

    def test_two_stretches_do_not_overlap(self):
        gate = VadSettings(min_speech_duration=0.1, min_silence_duration=0.3, speech_pad=0.3)
        audio = sound((0.5, 0), (0.6, 1), (0.35, 0), (0.6, 1), (1, 0))
        first, second = endings(speech(POLICIES[0], audio, gate=gate))
        assert first.end <= second.start

    def test_no_window_spans_a_gap(self):
        segmenter = SpeechSegmenter(POLICIES[0], VadIterator(GATE, Loudness()))
        audio = sound((1, 1))
        cuts = segmenter.feed(audio) + segmenter.skip(8_000) + segmenter.feed(audio) + segmenter.close()
        first, second = endings(cuts)
        assert (first.start, first.end) == (0, len(audio))
        assert (second.start, second.end) == (len(audio) + 8_000, 2 * len(audio) + 8_000)
        assert segmenter.position == 2 * len(audio) + 8_000

    @pytest.mark.parametrize("gate", [GATE, LATE, VadSettings(min_speech_duration=0, speech_pad=0)])
    @pytest.mark.parametrize("policy", POLICIES)
    def test_however_samples_arrive_the_cuts_are_the_same(self, policy, gate):
        noise = np.random.default_rng(0)
        parts = [(noise.uniform(0.05, 3), noise.choice([0.0, 0.4, 1.0])) for _ in range(40)]
        audio = np.concatenate([np.full(round(s * 16_000), level, np.float32) for s, level in parts])
        wanted, *others = [speech(policy, audio, block, gate) for block in (1_600, 160, 777, 4_096, len(audio))]
        assert endings(wanted)
        for found in others:
            assert len(found) == len(wanted)
            for ours, theirs in zip(found, wanted, strict=True):
                for facts in (type, *map(attrgetter, ("start", "end", "speech"))):
                    assert facts(ours) == facts(theirs)
                assert np.array_equal(ours.pcm, theirs.pcm)
        for cut in wanted:
            assert np.array_equal(cut.pcm, audio[cut.start : cut.end])

    def test_memory_does_not_grow_in_silence_or_speech(self):
        for level in (0, 1):
            segmenter = SpeechSegmenter(POLICIES[0], VadIterator(GATE, Loudness()))
            for _ in range(600):
                segmenter.feed(np.full(1_600, level, np.float32))
            assert len(segmenter._past) <= 16_000
            assert len(segmenter._vad._speech) <= 2
