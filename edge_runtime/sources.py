"""Where audio comes from: a file or a pipe, as blocks of 16 kHz mono. The microphone has a module of its own."""

from __future__ import annotations

import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edge_runtime.audio import SAMPLE_RATE, Pcm, check_format, to_mono
from edge_runtime.errors import EdgeemoError

BLOCK_SECONDS = 0.1
_PLACEHOLDER = 0x7FFFF000
_OTHER_FORMATS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b"RF64": "RF64"}


class Block(NamedTuple):
    """Some samples in a row.

    Attributes:
        pcm: ``[samples]``, 16 kHz mono.
        lost: samples that were lost just before these.
        arrived: `time.monotonic` when the last of them came in.
    """

    pcm: Pcm
    lost: int
    arrived: float


class Source(Protocol):
    """Something that gives blocks until it ends or is closed."""

    @property
    def name(self) -> str:
        """What a person calls it."""

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
        paced: give each block when it would have come from a microphone, instead of at once.

    Raises:
        EdgeemoError: the file is missing, is not audio, or is empty.
    """

    def __init__(self, path: Path, *, paced: bool = False) -> None:
        if not path.is_file():
            raise EdgeemoError(f"{path}: there is no such audio file")
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise EdgeemoError(f"{path}: cannot be read as audio ({error})") from error
        check_format(str(path), self._file.samplerate, self._file.channels)
        if self._file.frames == 0:
            raise EdgeemoError(f"{path}: holds no samples")
        self.name = str(path)
        self._paced = paced
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
            if self._paced:
                time.sleep(max(0.0, began + read / self._file.samplerate - time.monotonic()))
            yield Block(converter.convert(frames, last=ended), 0, time.monotonic())
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


class PipeSource:
    """Standard input: a WAV stream, or raw 16-bit little-endian PCM, 16 kHz, mono.

    Args:
        stream: where to read; standard input if not given.
    """

    name = "standard input"

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdin.buffer
        self._closed = False

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the pipe ends.

        Raises:
            EdgeemoError: nothing came, or the WAV header cannot be read.
        """
        head = self._stream.read(4)
        if not head:
            raise EdgeemoError("standard input: holds no audio; pipe a WAV file or raw 16-bit 16 kHz mono PCM into it")
        other = next((name for magic, name in _OTHER_FORMATS.items() if head.startswith(magic)), None)
        if other:
            raise EdgeemoError(
                f"standard input: is {other}; pipe WAV or raw 16-bit PCM, or give the file by --source FILE"
            )
        raw = _Joined(head, self._stream)
        if head != b"RIFF":
            yield from self._pcm16(raw, channels=1, rate=SAMPLE_RATE, frames=None)
            return
        try:
            header = wave.Wave_read(cast("BinaryIO", raw))  # of a file it only uses read
            width, channels, rate = header.getsampwidth(), header.getnchannels(), header.getframerate()
            # A recorder that writes into a pipe cannot know the length, and puts (about) the largest one there.
            frames = header.getnframes() if header.getnframes() * width * channels < _PLACEHOLDER else None
        except (wave.Error, EOFError) as error:
            raise EdgeemoError(f"standard input: is not a WAV stream that can be read ({error})") from error
        check_format(self.name, rate, channels)
        if width != 2:
            raise EdgeemoError(f"standard input: the WAV stream has {8 * width}-bit samples; send 16-bit PCM")
        yield from self._pcm16(raw, channels=channels, rate=rate, frames=frames)

    def _pcm16(self, raw: _Joined, *, channels: int, rate: int, frames: int | None) -> Iterator[Block]:
        converter = Converter(rate)
        size = round(BLOCK_SECONDS * rate) * 2 * channels
        left = None if frames is None else frames * 2 * channels
        while not self._closed:
            data = raw.read(size if left is None else min(size, left))
            left = None if left is None else left - len(data)
            data = data[: len(data) // (2 * channels) * 2 * channels]
            samples = np.frombuffer(data, "<i2").reshape(-1, channels).astype(np.float32) / np.float32(32768)
            pcm = converter.convert(samples, last=not data)
            if len(pcm):
                yield Block(pcm, 0, time.monotonic())
            if not data:
                return

    def close(self) -> None:
        """End `blocks` at the next block."""
        self._closed = True


class _Joined:
    """A stream with some bytes put back in front of it; reads whole blocks where they come."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        taken, self._head = self._head[:size], self._head[size:]
        return taken + self._rest.read(size - len(taken)) if len(taken) < size else taken
