"""Cut an endless stream into segments, and say which windows of them are to be scored, and when.

A segment is what one final event covers: a stretch of speech (`SpeechSegmenter`), or, without a speech gate, whatever
comes (`PlainSegmenter`). Its final result is the mean over `clip_windows` of it, so a segment gives the same result
whether it is streamed or scored as a clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from edge_runtime.loop.speech_gate import SpeechGate
from edge_runtime.loop.vad import FRAME
from edge_runtime.sources.audio import Pcm
from edge_runtime.windows import SHORTEST, WindowPolicy, clip_windows


@dataclass(frozen=True)
class Window:
    """A window to score now, in samples since the stream began.

    Attributes:
        start: first sample.
        pcm: ``[samples]``.
        segment_start: first sample of the segment.
        speech: how many of its samples were speech; None where nothing tells.
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
class Ending:
    """A segment ended.

    Attributes:
        start: first sample.
        pcm: ``[samples]``, all of it.
        windows: ``(start, end)`` in the stream of each window that its result is the mean of.
        speech: how many of its samples were speech; None where nothing tells.
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


Cut = Window | Ending


class Segmenter(ABC):
    """Takes samples in as they come, and gives windows and endings in order."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Samples received, gaps included."""

    @property
    def speech(self) -> float | None:
        """Probability of speech in what was fed last; None where nothing tells."""
        return None

    @property
    @abstractmethod
    def speaking(self) -> bool:
        """Whether a segment is open."""

    @abstractmethod
    def feed(self, block: Pcm) -> list[Cut]:
        """Take in the next samples and return what is due."""

    @abstractmethod
    def skip(self, samples: int) -> list[Cut]:
        """Note a gap: end the segment before it, so that no window spans it, and move the clock on."""

    @abstractmethod
    def close(self) -> list[Cut]:
        """End the segment that is open, as at the end of the stream."""


class _Segment:
    """An open segment: its audio so far, and up to where it was scored."""

    def __init__(self, start: int, policy: WindowPolicy) -> None:
        self.start = start
        self._policy = policy
        self._audio: list[Pcm] = []
        self._length = 0
        self._scored = 0

    @property
    def end(self) -> int:
        return self.start + self._length

    def add(self, pcm: Pcm) -> None:
        self._audio.append(pcm)
        self._length += len(pcm)

    def pcm(self) -> Pcm:
        self._audio = [np.concatenate(self._audio)] if self._audio else [np.zeros(0, np.float32)]
        return self._audio[0]

    def due(self) -> list[tuple[int, int]]:
        """Return windows that end every hop while the first one fills, then every hop from its end on."""
        hop, width = self._policy.hop, self._policy.samples
        spans: list[tuple[int, int]] = []
        while True:
            full = self._scored >= width
            end = self._scored + hop if full else min(self._scored + hop, width)
            # The window that ends with the longest segment is left to its ending.
            if end > self._length or end >= self._policy.segment:
                return spans
            self._scored = end
            spans.append((self.start + max(0, end - width), self.start + end))


class PlainSegmenter(Segmenter):
    """Segments of a fixed longest length, one after the other, whatever is in them.

    Args:
        policy: window, hop and longest segment.
    """

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

    def feed(self, block: Pcm) -> list[Cut]:
        """Take in the next samples and return what is due."""
        cuts: list[Cut] = []
        while len(block):
            room = self._segment.start + self._policy.segment - self._segment.end
            self._segment.add(block[:room])
            block = block[room:]
            cuts += _windows(self._segment, None)
            if self._segment.end - self._segment.start == self._policy.segment:
                cuts += self.close()
        return cuts

    def skip(self, samples: int) -> list[Cut]:
        """Note a gap: end the segment before it, and move the clock on."""
        cuts = self.close()
        self._segment = _Segment(self._segment.start + samples, self._policy)
        return cuts

    def close(self) -> list[Cut]:
        """End the segment; nothing comes of it if there is too little audio to score."""
        segment, self._segment = self._segment, _Segment(self._segment.end, self._policy)
        return _ending(segment, segment.end, self._policy, None)


class SpeechSegmenter(Segmenter):
    """Segments are stretches of speech; a very long one is cut at the longest length.

    It works frame by frame on the sample clock, whatever the blocks are: the same samples give the same cuts however
    they arrive.

    Args:
        policy: window, hop and longest segment.
        gate: finds speech.
    """

    def __init__(self, policy: WindowPolicy, gate: SpeechGate) -> None:
        self._policy = policy
        self._gate = gate
        self._position = 0
        self._rest = np.zeros(0, np.float32)
        # Audio from before speech begins, as far back as a stretch may reach.
        self._past = np.zeros(0, np.float32)
        self._segment: _Segment | None = None

    @property
    def position(self) -> int:
        """Samples received, gaps included."""
        return self._position + len(self._rest)

    @property
    def speech(self) -> float | None:
        """Probability of speech in what was fed last."""
        return self._gate.probability

    @property
    def speaking(self) -> bool:
        """Whether someone speaks."""
        return self._segment is not None

    def feed(self, block: Pcm) -> list[Cut]:
        """Take in the next samples and return what is due."""
        audio = np.concatenate([self._rest, block])
        whole = len(audio) // FRAME * FRAME
        self._rest = audio[whole:]
        return [cut for at in range(0, whole, FRAME) for cut in self._frame(audio[at : at + FRAME])]

    def skip(self, samples: int) -> list[Cut]:
        """Note a gap: end the speech before it, and move the clock on."""
        cuts = self.close()
        self._gate.skip(samples)
        self._position += samples
        return cuts

    def close(self) -> list[Cut]:
        """End the speech that goes on."""
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        self._hear(rest)
        turn = self._gate.close(len(rest))
        self._past = np.zeros(0, np.float32)
        return self._end(turn.sample) if turn else []

    def _frame(self, frame: Pcm) -> list[Cut]:
        self._hear(frame)
        cuts: list[Cut] = []
        turn = self._gate.take(frame)
        if turn and turn.speaking:
            self._begin(turn.sample)
        elif turn:
            cuts += self._end(turn.sample)
        if self._segment is not None:
            cuts += _windows(self._segment, self._gate)
        # More than once: speech that is confirmed late may reach back over several of the longest segments.
        while self._segment is not None and self._segment.end >= self._segment.start + self._policy.segment:
            cut = self._segment.start + self._policy.segment
            rest = self._segment.pcm()[self._policy.segment :]
            cuts += self._end(cut)
            self._gate.forget_before(cut)
            self._segment = _Segment(cut, self._policy)
            self._segment.add(rest)
            cuts += _windows(self._segment, self._gate)
        self._past = self._past[-max(FRAME, self._gate.reach) :]
        return cuts

    def _hear(self, pcm: Pcm) -> None:
        self._position += len(pcm)
        self._past = np.concatenate([self._past, pcm])
        if self._segment is not None:
            self._segment.add(pcm)

    def _begin(self, sample: int) -> None:
        reach = self._position - sample
        assert reach <= len(self._past), "the gate reaches further back than it said"
        self._segment = _Segment(sample, self._policy)
        self._segment.add(self._past[len(self._past) - reach :])

    def _end(self, sample: int) -> list[Cut]:
        if self._segment is None:
            return []
        segment, self._segment = self._segment, None
        return _ending(segment, sample, self._policy, self._gate)


def _windows(segment: _Segment, gate: SpeechGate | None) -> list[Cut]:
    spans = segment.due()
    if not spans:
        return []
    pcm = segment.pcm()
    return [
        Window(
            start,
            pcm[start - segment.start : end - segment.start].copy(),
            segment.start,
            gate.speech_between(start, end) if gate else None,
        )
        for start, end in spans
    ]


def _ending(segment: _Segment, end: int, policy: WindowPolicy, gate: SpeechGate | None) -> list[Cut]:
    """Return the ending of a segment at a sample; nothing if it is too short to be scored."""
    pcm = segment.pcm()[: max(0, end - segment.start)]
    if len(pcm) < SHORTEST:
        return []
    spans = tuple((segment.start + first, segment.start + last) for first, last in clip_windows(len(pcm), policy))
    speech = gate.speech_between(segment.start, segment.start + len(pcm)) if gate else None
    return [Ending(segment.start, pcm, spans, speech)]
