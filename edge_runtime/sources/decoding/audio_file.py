"""Audio files: opened, decoded and measured by the one decoding path."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import soundfile

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.decode import Decoder
from edge_runtime.sources.decoding.formats import HEAD, recognise
from edge_runtime.sources.decoding.ledger import Frames
from edge_runtime.sources.decoding.mpeg import MpegSection
from edge_runtime.sources.decoding.ogg import OggSection
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.decoding.tags import skip_tags
from edge_runtime.text import valid_unicode


class AudioFile(AbstractContextManager["AudioFile"]):
    """An open audio file of any format, rate and number of channels; a context manager.

    Attributes:
        name: the path, in messages.
        rate: samples per second of the first frames.
        channels: channels of the first frames.
        ledger: the account of what was decoded.

    Raises:
        EdgeemoError: the file is missing or a directory, is no audio, is empty, or has an implausible format.
    """

    def __init__(self, path: Path, raw: RawPcm | None = None) -> None:
        self.name = valid_unicode(str(path))
        if path.is_dir():
            raise EdgeemoError(f"{self.name}: is a directory; name an audio file")
        if not path.is_file():
            raise EdgeemoError(f"{self.name}: there is no such audio file; check the path")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise EdgeemoError(f"{self.name}: cannot be read ({error.strerror}); check who may read it") from error
        self.closed = False
        decoder = Decoder(ByteStream(self._file, lambda: self.closed), self.name, raw=raw)
        self.ledger = decoder.ledger
        self._frames = decoder.frames()
        try:
            first = next(self._frames, None)
            if first is None:
                self.ledger.check(self.name)
                raise EdgeemoError(f"{self.name}: holds no samples")
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
        if not self.closed:
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
        EdgeemoError: the file is missing or a directory, is no audio, or holds no samples.
    """
    found = _by_header(path)
    if found is not None:
        return found
    with AudioFile(path) as file:
        seconds = sum(len(each.samples) / each.rate for each in file.frames())
        return AudioInfo(file.rate, file.channels, seconds, "")


def _by_header(path: Path) -> AudioInfo | None:
    """Return what libsndfile says of a file, or None where its length does not fit the size of the file."""
    try:
        header = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None
    info = AudioInfo(int(header.samplerate), int(header.channels), header.frames / header.samplerate, header.subtype)
    if header.format in ("OGG", "MP3"):
        seconds = _by_frames(path)
        # The header is exact where it covers the whole file.
        whole = abs(seconds - info.seconds) < _CODEC_SECONDS
        return (info if whole else info._replace(seconds=seconds)) if seconds else None
    bits = _BITS.get(header.subtype)
    if header.frames == 0 or bits is None:
        return None
    size, uncompressed = path.stat().st_size, header.frames * header.channels * bits / 8
    if header.format == "FLAC":
        plausible = size / 2 < uncompressed < size * _FLAC_RATIO
    else:
        plausible = abs(size - uncompressed) < _ROOM
    return info if plausible else None


def _by_frames(path: Path) -> float:
    """Return the duration of the Ogg streams or MP3s in a file without decoding them; 0 for anything else."""
    seconds = 0.0
    with path.open("rb") as file:
        stream = ByteStream(file)
        while True:
            skip_tags(stream)
            if stream.ended:
                return seconds
            before = stream.position
            form = recognise(stream.peek(HEAD))
            section: OggSection | MpegSection
            if form is not None and form.reader == "ogg":
                section = OggSection(stream)
                parts = section.pages()
            elif form is not None and form.reader == "mpeg":
                section = MpegSection(stream)
                parts = section.frames()
            else:
                return 0.0
            for _ in parts:
                pass
            seconds += section.seconds
            if stream.position == before or not section.seconds:
                return 0.0


_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64, "ULAW": 8}
_BITS["ALAW"] = 8
_FLAC_RATIO = 1000
"""Of a file of digital silence."""
_CODEC_SECONDS = 0.3
"""Delay and padding of codecs."""
_ROOM = 1 << 13
"""Bytes of headers and tags beside the audio."""
