"""Audio files: opened, decoded and measured by the one decoding path."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.decode import Decoder
from edge_runtime.sources.decoding.ledger import Frames
from edge_runtime.sources.decoding.raw import RawPcm


class AudioFile(AbstractContextManager["AudioFile"]):
    """An open audio file of any format, rate and number of channels; a context manager.

    Attributes:
        name: the path.
        rate: samples per second of the first frames.
        channels: channels of the first frames.
        ledger: the account of what was decoded.

    Raises:
        EdgeemoError: the file is missing, is no audio, is empty, or has an implausible format.
    """

    def __init__(self, path: Path, raw: RawPcm | None = None) -> None:
        self.name = str(path)
        if not path.is_file():
            raise EdgeemoError(f"{path}: there is no such audio file; check the path")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise EdgeemoError(f"{path}: cannot be read ({error.strerror}); check who may read it") from error
        self.closed = False
        decoder = Decoder(ByteStream(self._file, lambda: self.closed), self.name, raw=raw)
        self.ledger = decoder.ledger
        self._frames = decoder.frames()
        try:
            first = next(self._frames, None)
            if first is None:
                self.ledger.check(self.name)
                raise EdgeemoError(f"{path}: holds no samples")
        except BaseException:
            self.close()
            raise
        self.rate, self.channels = first.rate, first.samples.shape[1]
        self._all: Iterator[Frames] = itertools.chain([first], self._frames)

    def frames(self) -> Iterator[Frames]:
        """Yield all frames; call once.

        Raises:
            EdgeemoError: audio is missing or damaged, after all that could be decoded.
        """
        yield from self._all
        self.ledger.check(self.name)

    def close(self) -> None:
        """Close the file; not while its frames are being read."""
        self.closed = True
        self._frames.close()  # type: ignore[attr-defined]
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class AudioInfo(NamedTuple):
    """A file's rate in Hz, channels, duration in seconds and encoding (libsndfile's name, or empty)."""

    rate: int
    channels: int
    seconds: float
    encoding: str


def audio_info(path: Path) -> AudioInfo:
    """Return format and duration of a file, by its header where that is plausible, and else by decoding it.

    Raises:
        EdgeemoError: the file is missing, is no audio, or holds no samples.
    """
    found = _by_header(path)
    if found is not None:
        return found
    with AudioFile(path) as file:
        count = np.float64(0.0)
        for each in file.frames():
            count += len(each.samples) / each.rate
        return AudioInfo(file.rate, file.channels, float(count), "")


def _by_header(path: Path) -> AudioInfo | None:
    """Return what libsndfile says of a file, or None where its length does not fit the size of the file."""
    import soundfile

    try:
        header = soundfile.info(os.fspath(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None
    info = AudioInfo(int(header.samplerate), int(header.channels), header.frames / header.samplerate, header.subtype)
    size = path.stat().st_size
    bits = _BITS.get(header.subtype)
    if header.frames == 0 or bits is None:
        # Of a chain of Ogg streams and of joined MP3s, it knows the first part only.
        return None
    expected = header.frames * header.channels * bits / 8
    compressed = header.format == "FLAC"
    if expected > size * (_FLAC_RATIO if compressed else 1) or size > expected + _ROOM:
        return None
    return info


_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64, "ULAW": 8}
_BITS["ALAW"] = 8
_FLAC_RATIO = 1000
_ROOM = 1 << 15
"""Bytes of tags beside the audio."""
