"""Cut an endless stream into segments, and each segment into the windows to score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.audio import Pcm
from edge_runtime.windows import SHORTEST, WindowPolicy, clip_windows


@dataclass(frozen=True)
class Window:
    """One stretch to score, in samples since the stream began.

    Attributes:
        start: first sample.
        pcm: ``[samples]``.
        counts: belongs to the windows whose mean is the segment's final result.
        segment_start: first sample of the segment.
        closes: the segment ends with this window; where ``counts`` is false it has been scored already.
    """

    start: int
    pcm: Pcm
    counts: bool
    segment_start: int
    closes: bool

    @property
    def end(self) -> int:
        """Sample after the last one."""
        return self.start + len(self.pcm)


class Segmenter:
    """Plain segments of a fixed longest length, scored every hop on the last window of audio.

    A finished segment's counting windows are exactly `clip_windows` of it, so a file gives the same final result
    whether it is streamed or scored as a clip.

    Args:
        policy: window, hop and longest segment.
    """

    def __init__(self, policy: WindowPolicy) -> None:
        self._policy = policy
        self._audio = np.zeros(0, np.float32)
        self._start = 0
        self._scored = 0

    @property
    def position(self) -> int:
        """Samples received, gaps included."""
        return self._start + len(self._audio)

    def feed(self, block: Pcm) -> list[Window]:
        """Take in the next samples and return the windows that are due."""
        windows: list[Window] = []
        segment = self._policy.segment
        while len(block):
            room = segment - len(self._audio)
            self._audio = np.concatenate([self._audio, block[:room]])
            block = block[room:]
            windows += self._due()
            if len(self._audio) == segment:
                windows += self.close()
        return windows

    def skip(self, samples: int) -> list[Window]:
        """Note a gap: close the segment before it and move the clock on."""
        windows = self.close()
        self._start += samples
        return windows

    def close(self) -> list[Window]:
        """End the segment and return its last window; nothing if there is too little audio to score."""
        windows = []
        if len(self._audio) >= SHORTEST:
            start, end = clip_windows(len(self._audio), self._policy)[-1]
            counted = self._scored == end >= self._policy.samples
            windows = [self._window(start, end, counts=not counted, closes=True)]
        self._start += len(self._audio)
        self._audio = np.zeros(0, np.float32)
        self._scored = 0
        return windows

    def _due(self) -> list[Window]:
        """Return windows that end every hop while the first window fills, then every hop from its end on."""
        windows: list[Window] = []
        hop, width = self._policy.hop, self._policy.samples
        while True:
            full = self._scored >= width
            end = self._scored + hop if full else min(self._scored + hop, width)
            # The window that ends with the longest segment is left to `close`.
            if end > len(self._audio) or end == self._policy.segment:
                return windows
            self._scored = end
            start = max(0, end - width)
            windows.append(self._window(start, end, counts=end >= width, closes=False))

    def _window(self, start: int, end: int, *, counts: bool, closes: bool) -> Window:
        return Window(self._start + start, self._audio[start:end].copy(), counts, self._start, closes)
