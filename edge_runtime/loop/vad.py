"""Voice activity detection: where speech starts and ends, from the detector's probability of each frame.

Two thresholds, shortest speech, shortest silence and padding, with the names of Silero VAD's ``VADIterator``.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.config import VadSettings
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.silero import FRAME, SileroDetector


class SpeechBoundary(NamedTuple):
    """Start or end of a stretch of speech: its first sample, or the one after its last, padding included."""

    starts: bool
    sample: int


class VadIterator:
    """Finds speech in a stream, frame by frame, on the sample clock.

    Speech starts where the probability reaches ``threshold``, if ``min_speech_duration`` of it follows before
    ``min_silence_duration`` passes. It ends where the probability falls below ``neg_threshold`` and stays below
    ``threshold`` for ``min_silence_duration``.
    """

    def __init__(self, settings: VadSettings, detector: SileroDetector) -> None:
        self._settings = settings
        self._detector = detector
        self._speech_pad = round(settings.speech_pad * SAMPLE_RATE)
        self._min_speech = round(settings.min_speech_duration * SAMPLE_RATE)
        self._min_silence = round(settings.min_silence_duration * SAMPLE_RATE)
        self._position = 0
        # No speech reaches further back than this: the end of the speech before, or of a gap.
        self._earliest = 0
        self._speech: list[tuple[int, int]] = []
        self._reset()
        self.probability = 0.0

    def _reset(self) -> None:
        self._confirmed = False
        self._start: int | None = None
        self._silent_since: int | None = None
        self._speech_samples = 0

    @property
    def lookback(self) -> int:
        """Number of most recent samples that the next stretch of speech may still include."""
        unconfirmed = self._start is not None and not self._confirmed
        return (self._position - self._start if unconfirmed and self._start is not None else 0) + self._speech_pad

    @property
    def pausing(self) -> bool:
        """Whether speech is in progress, and silent for longer than what is scored with it if it ends here."""
        return self._silent_since is not None and self._position - self._silent_since > self._speech_pad

    def probabilities(self, frames: Pcm) -> list[float]:
        """Return the probability of speech in each of the next frames, ``[N * FRAME]``, for `process`."""
        return self._detector.probabilities(frames)

    def process(self, probability: float) -> SpeechBoundary | None:
        """Process the probability of the next frame; return the start or end of speech that it confirms, if any."""
        settings = self._settings
        start, end = self._position, self._position + FRAME
        self._position = end
        self.probability = probability
        within = self._start is not None and self._silent_since is None
        if self.probability >= (settings.neg_threshold if within else settings.threshold):
            return self._add_speech(start, end)
        if self._start is None:
            return None
        if self._silent_since is None:
            self._silent_since = start
        if end - self._silent_since < self._min_silence:
            return None
        return self.close()

    def _add_speech(self, start: int, end: int) -> SpeechBoundary | None:
        self._silent_since = None
        if self._start is None:
            self._start = start
            self._speech = []
        if self._speech and self._speech[-1][1] == start:
            self._speech[-1] = (self._speech[-1][0], end)
        else:
            self._speech.append((start, end))
        self._speech_samples += end - start
        if self._confirmed or self._speech_samples < self._min_speech:
            return None
        self._confirmed = True
        return SpeechBoundary(True, max(self._earliest, self._start - self._speech_pad))

    def close(self, rest: int = 0) -> SpeechBoundary | None:
        """End the speech in progress, if there is any, with ``rest`` samples of an incomplete frame."""
        self._position += rest
        boundary = None
        if self._confirmed:
            end = self._position if self._silent_since is None else self._silent_since + self._speech_pad
            boundary = SpeechBoundary(False, min(end, self._position))
            self._earliest = boundary.sample
        self._reset()
        return boundary

    def skip(self, samples: int) -> None:
        """Advance the sample clock over a gap, after `close`."""
        self._position += samples
        self._earliest = self._position
        self._detector.reset()

    def speech_between(self, start: int, end: int) -> int:
        """Return how many samples from ``start`` to ``end`` are speech; of the last stretch only."""
        return sum(max(0, min(end, last) - max(start, first)) for first, last in self._speech)

    def drop_before(self, sample: int) -> None:
        """Drop what `speech_between` needs for samples before this one."""
        self._speech = [span for span in self._speech if span[1] > sample]
