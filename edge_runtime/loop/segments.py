"""Split an endless stream into segments, and schedule the windows of each segment for scoring.

A segment is what one final event covers: a stretch of speech (`SpeechSegmenter`), or, without voice activity detection,
all audio in pieces of a fixed length (`PlainSegmenter`). Its final result is the mean over its `clip_windows`, so a
segment gives the same result whether it is streamed or scored as a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.loop.vad import VadIterator
from edge_runtime.sources.audio import Pcm
from edge_runtime.sources.silero import FRAME
from edge_runtime.windows import SHORTEST, WindowPolicy, clip_windows


@dataclass(frozen=True)
class Window:
    """A window to score now, in samples since the start of the stream.

    ``segment_start`` is the first sample of its segment, ``speech`` the number of samples that are speech; None without
    voice activity detection.
    """

    start: int
    pcm: Pcm
    segment_start: int
    speech: int | None

    @property
    def end(self) -> int:
        """Sample after the last one."""
        return self.start + len(self.pcm)


@dataclass(frozen=True)
class SegmentEnd:
    """The end of a segment, with all its samples.

    ``windows`` are ``(start, end)`` in the stream of the windows that its result is the mean of; ``speech`` as above.
    """

    start: int
    pcm: Pcm
    windows: tuple[tuple[int, int], ...]
    speech: int | None

    @property
    def end(self) -> int:
        """Sample after the last one."""
        return self.start + len(self.pcm)

    def audio(self, start: int, end: int) -> Pcm:
        """Return the samples of one of its windows."""
        return self.pcm[start - self.start : end - self.start]


SegmenterOutput = Window | SegmentEnd


class _Segment:
    """An open segment: its audio so far, and the position up to which it was scored."""

    def __init__(self, start: int, policy: WindowPolicy) -> None:
        self.start = start
        self._policy = policy
        self._audio: list[Pcm] = []
        self._length = 0
        self._scored = 0

    @property
    def end(self) -> int:
        return self.start + self._length

    @property
    def width(self) -> int:
        """Samples of a full window."""
        return self._policy.samples

    def add(self, pcm: Pcm) -> None:
        self._audio.append(pcm)
        self._length += len(pcm)

    def pcm(self) -> Pcm:
        self._audio = [np.concatenate(self._audio)] if self._audio else [np.zeros(0, np.float32)]
        return self._audio[0]

    def due(self) -> list[tuple[int, int]]:
        """Return windows that end at every hop while the first one fills, then at every hop after its end."""
        hop, width = self._policy.hop, self._policy.samples
        spans: list[tuple[int, int]] = []
        while True:
            full = self._scored >= width
            end = self._scored + hop if full else min(self._scored + hop, width)
            # The window that ends with the longest segment belongs to its end.
            if end > self._length or end >= self._policy.segment:
                return spans
            self._scored = end
            spans.append((self.start + max(0, end - width), self.start + end))


class PlainSegmenter:
    """Consecutive segments of the longest length, whatever they contain."""

    speech: float | None = None

    def __init__(self, policy: WindowPolicy) -> None:
        self._policy = policy
        self._segment = _Segment(0, policy)

    @property
    def position(self) -> int:
        """Samples received, gaps included."""
        return self._segment.end

    @property
    def speaking(self) -> bool:
        """Whether a segment is open."""
        return self._segment.end > self._segment.start

    def feed(self, block: Pcm) -> list[SegmenterOutput]:
        """Add the next samples and return the windows and segment ends that they complete."""
        outputs: list[SegmenterOutput] = []
        while len(block):
            room = self._segment.start + self._policy.segment - self._segment.end
            self._segment.add(block[:room])
            block = block[room:]
            outputs += _windows(self._segment, None)
            if self._segment.end - self._segment.start == self._policy.segment:
                outputs += self.close()
        return outputs

    def skip(self, samples: int) -> list[SegmenterOutput]:
        """Add a gap: end the segment before it, and advance the clock."""
        outputs = self.close()
        self._segment = _Segment(self._segment.start + samples, self._policy)
        return outputs

    def close(self) -> list[SegmenterOutput]:
        """End the segment; the result is empty if the segment is too short to score."""
        segment, self._segment = self._segment, _Segment(self._segment.end, self._policy)
        return _segment_end(segment, segment.end, self._policy, None)


class SpeechSegmenter:
    """Stretches of speech as segments; a longer one is split at the longest length.

    It works frame by frame on the sample clock: the same samples give the same segments, whatever the block sizes.
    """

    def __init__(self, policy: WindowPolicy, vad: VadIterator) -> None:
        self._policy = policy
        self._vad = vad
        self._position = 0
        self._rest = np.zeros(0, np.float32)
        # Recent audio, as far back as the start of speech may lie.
        self._past = np.zeros(0, np.float32)
        self._segment: _Segment | None = None

    @property
    def position(self) -> int:
        """Samples received, gaps included."""
        return self._position + len(self._rest)

    @property
    def speech(self) -> float | None:
        """Probability of speech in the last frame."""
        return self._vad.probability

    @property
    def speaking(self) -> bool:
        """Whether speech is in progress."""
        return self._segment is not None

    def feed(self, block: Pcm) -> list[SegmenterOutput]:
        """Add the next samples and return the windows and segment ends that they complete."""
        audio = np.concatenate([self._rest, block])
        whole = len(audio) // FRAME * FRAME
        self._rest = audio[whole:]
        probabilities = self._vad.probabilities(audio[:whole])
        return [
            output
            for number, probability in enumerate(probabilities)
            for output in self._frame(audio[number * FRAME : (number + 1) * FRAME], probability)
        ]

    def skip(self, samples: int) -> list[SegmenterOutput]:
        """Add a gap: end the speech before it, and advance the clock."""
        outputs = self.close()
        self._vad.skip(samples)
        self._position += samples
        return outputs

    def close(self) -> list[SegmenterOutput]:
        """End the speech in progress."""
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        self._append(rest)
        boundary = self._vad.close(len(rest))
        self._past = np.zeros(0, np.float32)
        return self._end(boundary.sample) if boundary else []

    def _frame(self, frame: Pcm, probability: float) -> list[SegmenterOutput]:
        self._append(frame)
        outputs: list[SegmenterOutput] = []
        boundary = self._vad.process(probability)
        if boundary and boundary.starts:
            self._begin(boundary.sample)
        elif boundary:
            outputs += self._end(boundary.sample)
        if self._segment is not None:
            outputs += _windows(self._segment, self._vad)
        # More than once: speech that is confirmed late may reach back over several of the longest segments.
        while self._segment is not None and self._segment.end >= self._segment.start + self._policy.segment:
            end = self._segment.start + self._policy.segment
            rest = self._segment.pcm()[self._policy.segment :]
            outputs += self._end(end)
            self._vad.drop_before(end)
            self._segment = _Segment(end, self._policy)
            self._segment.add(rest)
            outputs += _windows(self._segment, self._vad)
        self._past = self._past[-max(FRAME, self._vad.lookback) :]
        return outputs

    def _append(self, pcm: Pcm) -> None:
        self._position += len(pcm)
        self._past = np.concatenate([self._past, pcm])
        if self._segment is not None:
            self._segment.add(pcm)

    def _begin(self, sample: int) -> None:
        length = self._position - sample
        assert length <= len(self._past), "speech starts before the audio that is kept"
        self._segment = _Segment(sample, self._policy)
        self._segment.add(self._past[len(self._past) - length :])

    def _end(self, sample: int) -> list[SegmenterOutput]:
        if self._segment is None:
            return []
        segment, self._segment = self._segment, None
        return _segment_end(segment, sample, self._policy, self._vad)


Segmenter = PlainSegmenter | SpeechSegmenter


def _windows(segment: _Segment, vad: VadIterator | None) -> list[SegmenterOutput]:
    spans = segment.due()
    if vad and vad.pausing:
        # What speech ends with is scored when it ends; until the first window is full, its final result needs no other.
        spans = [(start, end) for start, end in spans if end - start == segment.width]
    if not spans:
        return []
    pcm = segment.pcm()
    return [
        Window(
            start,
            pcm[start - segment.start : end - segment.start].copy(),
            segment.start,
            vad.speech_between(start, end) if vad else None,
        )
        for start, end in spans
    ]


def _segment_end(segment: _Segment, end: int, policy: WindowPolicy, vad: VadIterator | None) -> list[SegmenterOutput]:
    """Return the end of a segment at a sample; nothing if the segment is too short to score."""
    pcm = segment.pcm()[: max(0, end - segment.start)]
    if len(pcm) < SHORTEST:
        return []
    spans = tuple((segment.start + first, segment.start + last) for first, last in clip_windows(len(pcm), policy))
    speech = vad.speech_between(segment.start, segment.start + len(pcm)) if vad else None
    return [SegmentEnd(segment.start, pcm, spans, speech)]
