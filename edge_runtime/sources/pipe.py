"""Standard input as an audio source: a WAV stream or raw PCM."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import wave
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE, check_format
from edge_runtime.sources.channel_setting import Channels
from edge_runtime.sources.interface import BLOCK_SECONDS, HEARTBEAT, Block, Converter, heartbeat

_PLACEHOLDER = 0x7FFFF000
_UNKNOWN = b"\xf0\xff\xff\x7f"
_OTHER_FORMATS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b"RF64": "RF64"}


class PipeSource:
    """Standard input: a WAV stream, or raw 16-bit little-endian PCM, 16 kHz, mono.

    Raises:
        WrongUseError: standard input is a terminal.
    """

    name = "standard input"
    live = False  # a full pipe makes its writer wait

    def __init__(self, stream: BinaryIO | None = None, *, channels: Channels = "auto") -> None:
        self._channels = channels
        if stream is None and (sys.stdin is None or sys.stdin.isatty()):
            raise WrongUseError("--source - reads standard input, which is a terminal or closed; pipe audio into it")
        # Without the buffer of sys.stdin, whose lock would abort the interpreter at exit while a read waits.
        self._stream = stream or cast("BinaryIO", open(sys.stdin.fileno(), "rb", buffering=0, closefd=False))  # noqa: SIM115
        self._closed = False
        self._queue: queue.Queue[Block | Exception | None] = queue.Queue(maxsize=8)

    def blocks(self) -> Iterator[Block]:
        """Yield blocks until the pipe ends, and empty ones while nothing is written to it.

        Raises:
            EdgeemoError: the pipe was empty, or its WAV header cannot be read.
        """
        # In a thread, since a read cannot be interrupted: signals would wait for the writer.
        threading.Thread(target=self._fill, name="pipe", daemon=True).start()
        try:
            while not self._closed:
                try:
                    block = self._queue.get(timeout=HEARTBEAT)
                except queue.Empty:
                    yield heartbeat()
                    continue
                if block is None:
                    return
                if isinstance(block, Exception):
                    raise block
                yield block
        finally:
            # Ends the thread, which may wait for room in the queue.
            self._closed = True

    def _fill(self) -> None:
        try:
            for block in self._read():
                self._put(block)
                if self._closed:
                    return
            self._put(None)
        except Exception as error:  # raised again in `blocks`
            self._put(error)

    def _put(self, what: Block | Exception | None) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Full):
                self._queue.put(what, timeout=HEARTBEAT)
                return

    def _read(self) -> Iterator[Block]:
        head = _Joined(b"", self._stream).read(4)
        if not head:
            raise EdgeemoError("standard input: holds no audio; pipe a WAV file or raw 16-bit 16 kHz mono PCM into it")
        other = next((name for magic, name in _OTHER_FORMATS.items() if head.startswith(magic)), None)
        if other:
            raise EdgeemoError(
                f"standard input: is {other}; pipe WAV or raw 16-bit PCM, or give the file by --source FILE"
            )
        if head == b"RIFF":
            # Recorders that write into a pipe cannot determine the length, and may leave it 0.
            head += _Joined(b"", self._stream).read(4).replace(bytes(4), _UNKNOWN)
        raw = _Joined(head, self._stream)
        if not head.startswith(b"RIFF"):
            yield from self._pcm16(raw, channels=1, rate=SAMPLE_RATE, frames=None)
            return
        try:
            header = wave.Wave_read(cast("BinaryIO", raw))  # only uses its method read
            width, channels, rate = header.getsampwidth(), header.getnchannels(), header.getframerate()
            # Others set it to (about) the largest number.
            frames = header.getnframes() if 0 < header.getnframes() * width * channels < _PLACEHOLDER else None
        except (wave.Error, EOFError) as error:
            raise EdgeemoError(f"standard input: is not a WAV stream that can be read ({error})") from error
        check_format(self.name, rate, channels)
        if width != 2:
            raise EdgeemoError(f"standard input: the WAV stream has {8 * width}-bit samples; send 16-bit PCM")
        yield from self._pcm16(raw, channels=channels, rate=rate, frames=frames)

    def _pcm16(self, raw: _Joined, *, channels: int, rate: int, frames: int | None) -> Iterator[Block]:
        converter = Converter(rate, self._channels, self.name)
        size = round(BLOCK_SECONDS * rate) * 2 * channels
        left = None if frames is None else frames * 2 * channels
        while not self._closed:
            data = raw.read(size if left is None else min(size, left))
            left = None if left is None else left - len(data)
            data = data[: len(data) // (2 * channels) * 2 * channels]
            samples = np.frombuffer(data, "<i2").reshape(-1, channels).astype(np.float32) / np.float32(32768)
            pcm = converter.convert(samples, last=not data)
            if len(pcm):
                yield Block(pcm, 0, time.monotonic(), converter.notice())
            if not data:
                return

    def close(self) -> None:
        """End `blocks` within half a second."""
        self._closed = True


class _Joined:
    """A stream with some bytes put back in front of it; reads whole blocks."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        taken, self._head = self._head[:size], self._head[size:]
        # A read of a pipe returns what is there, which may be less.
        while len(taken) < size and (more := self._rest.read(size - len(taken))):
            taken += more
        return taken
