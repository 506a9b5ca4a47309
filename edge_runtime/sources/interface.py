"""The interface of audio sources: blocks of 16 kHz mono."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, to_mono

BLOCK_SECONDS = 0.1
HEARTBEAT = 0.5
"""Longest time between blocks of a live source, seconds; without audio it yields empty blocks."""


class Block(NamedTuple):
    """Consecutive samples.

    Attributes:
        pcm: ``[samples]``, 16 kHz mono.
        lost: samples that were lost just before these.
        arrived: `time.monotonic` when the last of them arrived.
        notice: a change of the device or a fault of the audio just before, and a sentence on it for status events.
        replaced: whether samples among these were not numbers, and silence stands for them.
    """

    pcm: Pcm
    lost: int
    arrived: float
    notice: tuple[Literal["device-lost", "device-back", "bad-audio"], str] | None = None
    replaced: bool = False


def heartbeat() -> Block:
    """Return an empty block."""
    return Block(np.zeros(0, np.float32), 0, time.monotonic())


def bad_audio(name: str, what: str) -> Block:
    """Return an empty block that reports a fault of the audio of a source."""
    return heartbeat()._replace(notice=("bad-audio", f"{name}: {what}"))


class Source(Protocol):
    """Yields blocks until it ends or is closed."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def live(self) -> bool:
        """Whether audio is lost when it is not taken in time."""

    def blocks(self) -> Iterator[Block]:
        """Yield blocks in order."""

    def close(self) -> None:
        """Release the device or file; `blocks` ends soon after, without an exception."""


class Converter:
    """Mixes down to mono and resamples from ``rate`` to 16 kHz, with state from block to block."""

    def __init__(self, rate: int) -> None:
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def convert(self, frames: npt.NDArray[np.float32], *, last: bool = False) -> Pcm:
        """Convert ``[frames, channels]`` to ``[samples]``; ``last`` flushes the resampler."""
        mono = to_mono(frames)
        if self._resampler is None:
            return mono
        return np.asarray(self._resampler.resample_chunk(mono, last=last), np.float32)
