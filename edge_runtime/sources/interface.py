"""The interface of audio sources (blocks of 16 kHz mono), and the source that reads a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, check_finite, open_audio
from edge_runtime.sources.channel_setting import Channels, check_channels
from edge_runtime.sources.channels import ChannelSelector
from edge_runtime.text import valid_unicode

BLOCK_SECONDS = 0.1
HEARTBEAT = 0.5
"""Longest time between blocks of a live source, seconds; without audio it yields empty blocks."""


Notice = tuple[Literal["device-lost", "device-back", "channels"], str]
"""A kind of status event and its sentence."""


class Block(NamedTuple):
    """Consecutive samples.

    Attributes:
        pcm: ``[samples]``, 16 kHz mono.
        lost: samples that were lost just before these.
        arrived: `time.monotonic` when the last of them arrived.
        notice: a change of the device or of the channels in use just before, for status events.
    """

    pcm: Pcm
    lost: int
    arrived: float
    notice: Notice | None = None


def heartbeat() -> Block:
    """Return an empty block."""
    return Block(np.zeros(0, np.float32), 0, time.monotonic())


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
        channels: which channels are heard.
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


class FileSource:
    """An audio file of any format, rate and channel count.

    If paced, each block is yielded when a microphone would. That is also the time when it arrived, however late it is
    taken, so that the latency includes the delay of the listener.

    Raises:
        WrongUseError: ``channels`` names a channel that the file does not have.
        EdgeemoError: the file is missing, is not audio, or is empty.
    """

    def __init__(self, path: Path, *, paced: bool = False, channels: Channels = "auto") -> None:
        self._file = open_audio(path)
        self._channels = channels
        if self._file.frames == 0:
            raise EdgeemoError(f"{path}: holds no samples")
        self.name = valid_unicode(str(path))
        check_channels(self.name, channels, self._file.channels)
        self.live = paced
        self._closed = False

    def blocks(self) -> Iterator[Block]:
        """Yield the file in blocks of 100 ms."""
        size = round(BLOCK_SECONDS * self._file.samplerate)
        converter = Converter(self._file.samplerate, self._channels, self.name)
        began, read = time.monotonic(), 0
        while not self._closed and read < self._file.frames:
            frames = self._read(size)
            read += len(frames)
            ended = len(frames) < size or read >= self._file.frames
            arrived = time.monotonic()
            if self.live:
                due = began + read / self._file.samplerate
                time.sleep(max(0.0, due - arrived))
                arrived = due
            yield Block(converter.convert(frames, last=ended), 0, arrived, converter.notice())
            if ended:
                break
        self._file.close()

    def _read(self, size: int) -> npt.NDArray[np.float32]:
        try:
            frames = np.asarray(self._file.read(size, dtype="float32", always_2d=True))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise EdgeemoError(f"{self.name}: is damaged and cannot be read to its end ({error})") from error
        return check_finite(self.name, frames)

    def close(self) -> None:
        """End `blocks` at the next block."""
        self._closed = True
