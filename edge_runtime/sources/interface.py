"""The interface of audio sources: blocks of 16 kHz mono."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.channels import ChannelSelector

BLOCK_SECONDS = 0.1
HEARTBEAT = 0.5
"""Longest time between blocks of a live source, seconds; without audio it yields empty blocks."""


Notice = tuple[Literal["device-lost", "device-back", "bad-audio", "channels"], str]
"""A kind of status event and its sentence."""


class Block(NamedTuple):
    """Consecutive samples.

    Attributes:
        pcm: ``[samples]``, 16 kHz mono.
        lost: samples that were lost just before these.
        arrived: `time.monotonic` when the last of them arrived.
        notice: a change of the device or of the channels in use, or a fault of the audio, just before, for
            status events.
        replaced: whether samples among these were not numbers, and silence stands for them.
        real_time: whether ``arrived`` is the time when they were recorded or due, so that they can be taken late.
    """

    pcm: Pcm
    lost: int
    arrived: float
    notice: Notice | None = None
    replaced: bool = False
    real_time: bool = False


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
    """Chooses channels and resamples from ``rate`` to 16 kHz, with state from block to block.

    Args:
        rate: samples per second.
        channels: which channels are used.
        name: of the source, for messages.
        look_ahead: whether the first second may be held back, until channels are chosen by it.
    """

    def __init__(
        self, rate: int, channels: Channels = "auto", name: str = "the audio", *, look_ahead: bool = True
    ) -> None:
        self._look_ahead = look_ahead
        self._rate = rate
        self._channels = channels
        self._name = name
        self._selector: ChannelSelector | None = None
        self.restart()

    def restart(self) -> None:
        """Begin again after a gap, with the same channels."""
        rate = self._rate
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def convert(self, frames: npt.NDArray[np.float32], *, last: bool = False) -> Pcm:
        """Convert ``[frames, channels]`` to ``[samples]``; ``last`` flushes what is held back.

        Raises:
            WrongUseError: a channel is chosen that the source does not have.
        """
        if self._selector is None:
            self._selector = ChannelSelector(
                self._channels, frames.shape[1], self._rate, self._name, look_ahead=self._look_ahead
            )
        mono = self._selector.select(frames, last=last)
        if self._resampler is None or not (len(mono) or last):
            return mono
        return np.asarray(self._resampler.resample_chunk(mono, last=last), np.float32)

    def notice(self) -> Notice | None:
        """Return a new choice of channels, once."""
        report = self._selector.report() if self._selector else None
        return ("channels", report) if report else None
