"""Tell when a stream gives no sound: no frames, digital silence, samples that are no numbers."""

from __future__ import annotations

import numpy as np

from edge_runtime.config import WatchSettings
from edge_runtime.events import Status
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import Block

_LOUDEST = 1000.0
"""No microphone gives this: full scale is 1."""


class SoundWatch:
    """Looks at every block, and says once when something begins, and once when it ends.

    Args:
        settings: after how many seconds.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._silent = 0
        self._last_frames: float | None = None
        self._bad = False
        self._state: Status = "audio-back"

    def look(self, block: Block) -> list[tuple[Status, str]]:
        """Return what is to be said about a block: kinds of status, with a sentence each."""
        if not len(block.pcm):
            return self._nothing(block.arrived)
        self._last_frames = block.arrived
        said: list[tuple[Status, str]] = []
        if block.notice:
            # The device is another one, or the same anew: what was said of its sound holds no more.
            self._state, self._silent = "audio-back", 0
        elif self._state == "no-audio":
            said.append(self._turn("audio-back", "audio comes in again"))
        bad = not _is_sound(block.pcm)
        if bad and not self._bad:
            said.append(("bad-audio", "samples that are no numbers came in, and are taken for silence"))
        self._bad = bad
        self._silent = 0 if bad or block.pcm.any() else self._silent + len(block.pcm)
        if self._silent >= self._settings.silence_seconds * SAMPLE_RATE and self._state != "silence":
            seconds = self._settings.silence_seconds
            what = f"nothing but digital silence for {seconds:g} s; is the microphone muted?"
            said.append(self._turn("silence", what))
        elif self._silent == 0 and self._state == "silence":
            said.append(self._turn("audio-back", "there is sound again"))
        return said

    @staticmethod
    def usable(pcm: Pcm) -> Pcm:
        """Return the samples with those that are no numbers (or beyond all measure) as silence."""
        if _is_sound(pcm):
            return pcm
        # INT8 would turn a NaN into a confident result.
        return np.where(np.isfinite(pcm) & (np.abs(pcm) < _LOUDEST), pcm, np.float32(0)).astype(np.float32)

    def _nothing(self, now: float) -> list[tuple[Status, str]]:
        if self._last_frames is None:
            self._last_frames = now
        seconds = self._settings.no_audio_seconds
        if self._state == "no-audio" or now - self._last_frames < seconds:
            return []
        return [self._turn("no-audio", f"no audio has come in for {seconds:g} s")]

    def _turn(self, state: Status, detail: str) -> tuple[Status, str]:
        self._state = state
        return state, detail


def _is_sound(pcm: Pcm) -> bool:
    # A comparison with NaN is false.
    return bool((np.abs(pcm) < _LOUDEST).all())
