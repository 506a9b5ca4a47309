"""Detect input without usable sound: no frames, digital silence, samples that are not numbers."""

from __future__ import annotations

import numpy as np

from edge_runtime.config import WatchSettings
from edge_runtime.events import Status
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import Block
from edge_runtime.sources.low_frequencies import OffsetRemoval, RumbleRemoval

_LOUDEST = 1000.0
"""Beyond the output of any microphone: full scale is 1."""


class SoundWatch:
    """Checks every block and reports a fault once when it begins and once when it ends."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._silent = 0
        self._last_frames: float | None = None
        self._bad = False
        self._offset, self._rumble = OffsetRemoval(), RumbleRemoval()
        self._state: Status = "audio-back"

    def check(self, block: Block) -> list[tuple[Status, str]]:
        """Return the status events that a block causes: a kind and a sentence each."""
        if not len(block.pcm):
            return self._nothing(block.arrived)
        self._last_frames = block.arrived
        reports: list[tuple[Status, str]] = []
        if block.notice and block.notice[0] not in ("bad-audio", "channels"):
            # The device was replaced or reopened: earlier reports on its sound no longer hold.
            self._state, self._silent = "audio-back", 0
        elif self._state == "no-audio":
            reports.append(self._change("audio-back", "audio arrives again"))
        bad = not _is_sound(block.pcm)
        if bad and not self._bad:
            reports.append(("bad-audio", "some samples are not numbers; they are replaced by silence"))
        self._bad = bad
        self._silent = 0 if bad or block.pcm.any() else self._silent + len(block.pcm)
        if self._silent >= self._settings.silence_seconds * SAMPLE_RATE and self._state != "silence":
            seconds = self._settings.silence_seconds
            what = f"nothing but digital silence for {seconds:g} s; is the microphone muted?"
            reports.append(self._change("silence", what))
        elif self._silent == 0 and self._state == "silence":
            reports.append(self._change("audio-back", "there is sound again"))
        return reports

    @staticmethod
    def is_replaced(block: Block) -> bool:
        """Whether silence stands, or will stand, for samples of a block that are not numbers."""
        return block.replaced or not _is_sound(block.pcm)

    def sanitised(self, pcm: Pcm) -> tuple[Pcm, list[tuple[Status, str]]]:
        """Return samples that can be scored, and the status events that this causes.

        Those that are not numbers or absurdly large become silence; a large offset and strong rumble are removed.
        """
        if not _is_sound(pcm):
            # An INT8 graph turns a NaN into a confident result.
            pcm = np.where(np.isfinite(pcm) & (np.abs(pcm) < _LOUDEST), pcm, np.float32(0)).astype(np.float32)
        known = self._offset.found, self._rumble.found
        pcm = self._rumble.remove(self._offset.remove(pcm))
        reports: list[tuple[Status, str]] = []
        if self._offset.found != known[0]:
            offset = f"{self._offset.found:+.2f} of full scale"
            reports.append(("bad-audio", f"the input has an offset of {offset}, which is removed; check its wiring"))
        if self._rumble.found != known[1]:
            what = "rumble below 50 Hz is stronger than all else and is removed; is there wind, or an engine?"
            reports.append(("bad-audio", what))
        return pcm, reports

    def _nothing(self, now: float) -> list[tuple[Status, str]]:
        if self._last_frames is None:
            self._last_frames = now
        seconds = self._settings.no_audio_seconds
        if self._state == "no-audio" or now - self._last_frames < seconds:
            return []
        return [self._change("no-audio", f"no audio has arrived for {seconds:g} s")]

    def _change(self, state: Status, detail: str) -> tuple[Status, str]:
        self._state = state
        return state, detail


def _is_sound(pcm: Pcm) -> bool:
    # A comparison with NaN is false.
    return bool((np.abs(pcm) < _LOUDEST).all())
