"""Where audio comes from, as blocks of 16 kHz mono: what every source offers, and files.

The microphone and the pipe have modules of their own.
"""

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
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, check_format, to_mono, unreadable

BLOCK_SECONDS = 0.1
HEARTBEAT = 0.5
"""Seconds."""


class Block(NamedTuple):
    """Some samples in a row.

    A live source gives an empty block at least every `HEARTBEAT` seconds while nothing comes in, so that whoever
    listens can tell.

    Attributes:
        pcm: ``[samples]``, 16 kHz mono.
        lost: samples that were lost just before these.
        arrived: `time.monotonic` when the last of them came in.
        notice: what happened to the device just before, and a sentence on it for a person.
    """

    pcm: Pcm
    lost: int
    arrived: float
    notice: tuple[Literal["device-lost", "device-back"], str] | None = None


def heartbeat() -> Block:
    """Return a block that says only that nothing came in."""
    return Block(np.zeros(0, np.float32), 0, time.monotonic())


class Source(Protocol):
    """Something that gives blocks until it ends or is closed."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def live(self) -> bool:
        """Whether audio is lost when nobody takes it in time."""

    def blocks(self) -> Iterator[Block]:
        """Yield blocks in order."""

    def close(self) -> None:
        """Let go of the device or file; `blocks` ends soon after, with nothing raised."""


class Converter:
    """Mixes any channel count down and resamples any rate to 16 kHz, with state from block to block.

    Args:
        rate: samples per second of what comes in.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def convert(self, frames: npt.NDArray[np.float32], *, last: bool = False) -> Pcm:
        """Map ``[frames, channels]`` to ``[samples]``; ``last`` flushes what the resampler holds back."""
        mono = to_mono(frames)
        if self._resampler is None:
            return mono
        return np.asarray(self._resampler.resample_chunk(mono, last=last), np.float32)


class FileSource:
    """An audio file of any format, rate and channel count.

    Args:
        path: the file.
        paced: give each block when it would have come from a microphone, instead of at once. That is also when it
            arrived, however late it is taken: what waits for a listener that is behind counts as latency.

    Raises:
        EdgeemoError: the file is missing, is not audio, or is empty.
    """

    def __init__(self, path: Path, *, paced: bool = False) -> None:
        if not path.is_file():
            raise EdgeemoError(f"{path}: there is no such audio file")
        try:
            self._file = soundfile.SoundFile(path)
        except TypeError as error:
            # Of a name that ends in ".raw" it wants to be told the rate.
            raise EdgeemoError(f"{path}: has no header; give raw 16-bit 16 kHz PCM by --source - < FILE") from error
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise EdgeemoError(f"{path}: {unreadable(path, error)}") from error
        check_format(str(path), self._file.samplerate, self._file.channels)
        if self._file.frames == 0:
            raise EdgeemoError(f"{path}: holds no samples")
        self.name = str(path)
        self.live = paced
        self._closed = False

    def blocks(self) -> Iterator[Block]:
        """Yield the file in blocks of 100 ms."""
        size = round(BLOCK_SECONDS * self._file.samplerate)
        converter = Converter(self._file.samplerate)
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
            yield Block(converter.convert(frames, last=ended), 0, arrived)
            if ended:
                break
        self._file.close()

    def _read(self, size: int) -> npt.NDArray[np.float32]:
        try:
            frames = np.asarray(self._file.read(size, dtype="float32", always_2d=True))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise EdgeemoError(f"{self.name}: is damaged and cannot be read to its end ({error})") from error
        # INT8 would turn a NaN into a confident result.
        if not np.isfinite(frames).all():
            raise EdgeemoError(f"{self.name}: holds samples that are not numbers (NaN or infinity)")
        return frames

    def close(self) -> None:
        """End `blocks` at the next block."""
        self._closed = True
