"""Where speech begins and ends: two thresholds on the speech detector's probability, padding, shortest speech."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.config import GateSettings
from edge_runtime.loop.vad import FRAME, SpeechDetector
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm


class Turn(NamedTuple):
    """Speech began or ended.

    Attributes:
        speaking: whether it began.
        sample: first sample of the speech, or the one after its last, padding included.
    """

    speaking: bool
    sample: int


class SpeechGate:
    """Follows a stream frame by frame, on the sample clock.

    Speech begins where the probability reaches ``enter``, once ``minimum_speech`` of it was heard before
    ``minimum_silence`` went by; it ends where the probability fell under ``leave``, once it has not come back to
    ``enter`` for ``minimum_silence``.

    Args:
        settings: thresholds and lengths.
        detector: tells speech from other sound.
    """

    def __init__(self, settings: GateSettings, detector: SpeechDetector) -> None:
        self._settings = settings
        self._detector = detector
        self._padding = round(settings.padding * SAMPLE_RATE)
        self._shortest = round(settings.minimum_speech * SAMPLE_RATE)
        self._pause = round(settings.minimum_silence * SAMPLE_RATE)
        self._position = 0
        # No stretch reaches further back than this: to the end of the one before, or of a gap.
        self._earliest = 0
        self._speech: list[tuple[int, int]] = []
        self._forget()
        self.probability = 0.0

    def _forget(self) -> None:
        self._open = False
        self._begun: int | None = None
        self._quiet_since: int | None = None
        self._heard = 0

    @property
    def reach(self) -> int:
        """How many of the last samples the beginning of the next stretch may yet need."""
        waiting = self._begun is not None and not self._open
        return (self._position - self._begun if waiting and self._begun is not None else 0) + self._padding

    def take(self, frame: Pcm) -> Turn | None:
        """Take in the next frame ``[FRAME]``, and say if speech began or ended with it."""
        settings = self._settings
        start, end = self._position, self._position + FRAME
        self._position = end
        self.probability = self._detector.probability(frame)
        within = self._begun is not None and self._quiet_since is None
        if self.probability >= (settings.leave if within else settings.enter):
            return self._loud(start, end)
        if self._begun is None:
            return None
        if self._quiet_since is None:
            self._quiet_since = start
        if end - self._quiet_since < self._pause:
            return None
        return self.close()

    def _loud(self, start: int, end: int) -> Turn | None:
        self._quiet_since = None
        if self._begun is None:
            self._begun = start
            self._speech = []
        if self._speech and self._speech[-1][1] == start:
            self._speech[-1] = (self._speech[-1][0], end)
        else:
            self._speech.append((start, end))
        self._heard += end - start
        if self._open or self._heard < self._shortest:
            return None
        self._open = True
        return Turn(True, max(self._earliest, self._begun - self._padding))

    def close(self, rest: int = 0) -> Turn | None:
        """End the stretch that is open, if one is.

        Args:
            rest: samples of a frame that is not whole, which still belong to it.
        """
        self._position += rest
        turn = None
        if self._open:
            quiet = self._position if self._quiet_since is None else self._quiet_since + self._padding
            turn = Turn(False, min(quiet, self._position))
            self._earliest = turn.sample
        self._forget()
        return turn

    def skip(self, samples: int) -> None:
        """Move the sample clock on over a gap, after `close`."""
        self._position += samples
        self._earliest = self._position
        self._detector.reset()

    def speech_between(self, start: int, end: int) -> int:
        """Return how many of the samples from ``start`` to ``end`` were speech; of the last stretch only."""
        return sum(max(0, min(end, last) - max(start, first)) for first, last in self._speech)

    def forget_before(self, sample: int) -> None:
        """Drop what only `speech_between` needs from before a sample."""
        self._speech = [span for span in self._speech if span[1] > sample]
