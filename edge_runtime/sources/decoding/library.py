"""libsndfile as a decoder of streams: it reads forward only, from bytes as they arrive."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np
import soundfile

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.formats import HEAD, LONGEST_MARK, find_mark, next_file
from edge_runtime.sources.decoding.ledger import Frames

_BLOCK_SECONDS = 0.1
_KEPT = 1 << 16
_ARRIVING = 1024
_READ_AHEAD = 1 << 14
"""Bytes by which libFLAC may be ahead of the frame that it decodes."""
_ENDLESS = 1 << 63
_UNKNOWN_LENGTH = 1 << 40
_FLOATING = ("FLOAT", "DOUBLE")


class DecoderError(EdgeemoError):
    """A decoder cannot go on; what it gave until then holds.

    Args:
        name: of the source.
        form: what the source is.
        why: the reason, as a part of a sentence.
    """

    def __init__(self, name: str, form: str, why: str) -> None:
        super().__init__(f"{name}: is {form} that cannot be decoded ({why}); get the recording again")
        self.why = why


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file in which soundfile does not seek after each read, which fails where the length is unknown."""

    def seekable(self) -> bool:
        return False


def _decoded(file: soundfile.SoundFile, name: str, form: str, most: int = _ENDLESS) -> Iterator[Frames]:
    """Yield up to ``most`` samples, beyond which a decoder fails that finds another file there."""
    size = max(1, round(_BLOCK_SECONDS * file.samplerate))
    from_float = file.subtype in _FLOATING
    while most > 0:
        try:
            samples = np.asarray(file.read(min(size, most), dtype="float32", always_2d=True))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise DecoderError(name, form, _reason(error)) from error
        if not len(samples):
            return
        most -= len(samples)
        yield Frames(samples, int(file.samplerate), from_float)


def _opened(file: object, name: str, form: str) -> soundfile.SoundFile:
    try:
        return _ForwardFile(file)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise DecoderError(name, form, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Return libsndfile's reason without its prefix and full stop."""
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").strip().rstrip(".")


def decode_file(file: BinaryIO, name: str, form: str) -> Iterator[Frames]:
    """Decode a file that can seek.

    Raises:
        DecoderError: it cannot be read, or not to its end.
    """
    with _opened(file, name, form) as opened:
        yield from _decoded(opened, name, form)


def decode_forward(section: Section, name: str, form: str) -> Iterator[Frames]:
    """Decode FLAC from a stream, in the thread of the caller.

    Raises:
        DecoderError: as `decode_file`.
    """
    with _opened(section, name, form) as opened:
        yield from _decoded(opened, name, form, int(opened.frames))


def decode_pieces(pieces: Iterator[bytes], name: str, form: str) -> Iterator[Frames]:
    """Decode pieces of a file as they come, through a pipe of the system that a thread fills.

    The thread alone reads ``pieces`` until this iterator ends.

    Raises:
        DecoderError: as `decode_file`.
    """
    read_end, write_end = os.pipe()
    failures: list[BaseException] = []
    left = threading.Event()

    def fill() -> None:
        try:
            for piece in pieces:
                if left.is_set():
                    return
                view = memoryview(piece)
                while len(view):
                    view = view[os.write(write_end, view) :]
        except BrokenPipeError:
            # The decoder left; the rest of the pieces is there for another one.
            return
        except BaseException as error:  # raised again in the thread of the decoder
            failures.append(error)
        finally:
            os.close(write_end)

    thread = threading.Thread(target=fill, name="decoder", daemon=True)
    thread.start()
    try:
        # libsndfile owns the reading end and closes it, on failure too.
        with _opened(read_end, name, form) as opened:
            yield from _decoded(opened, name, form)
    except GeneratorExit:
        # The listener left. The thread ends with its next read, which may be long in coming.
        left.set()
        raise
    except DecoderError:
        left.set()
        thread.join()
        raise
    thread.join()
    if failures:
        raise failures[0]


class Section(io.RawIOBase):
    """A part of a stream, up to the beginning of another file, as a file that pretends to be able to seek.

    libsndfile asks for the length and returns to the beginning after it has read the first bytes of FLAC.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._tail = b""
        self._at = 0
        self._passed = 0
        self._pretended: int | None = None
        self._ended = False

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it pretends to be able to seek."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; return the number of bytes."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        if self._pretended is not None:
            return 0
        kept = self._kept[self._at : self._at + len(view)] if self._at < self._passed else b""
        data = bytes(kept) or self._more(len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _more(self, size: int) -> bytes:
        if self._at != self._passed or self._ended:
            return b""
        # Not more than arrives in a moment, so that a live stream is decoded while it comes.
        wanted = min(size, _ARRIVING)
        ahead = self._stream.peek(wanted + LONGEST_MARK)
        mark = find_mark(ahead, 0 if self._passed else 1)
        if mark is not None and mark < wanted:
            self._ended = True
            wanted = mark
        data = self._stream.read(wanted)
        if self._passed < _KEPT:
            self._kept += data
        self._passed += len(data)
        self._tail = (self._tail + data)[-_READ_AHEAD:]
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place that is kept, or report the end."""
        if whence == io.SEEK_END:
            self._pretended = _UNKNOWN_LENGTH + offset
            return self._pretended
        self._pretended = None
        self._at = offset if whence == io.SEEK_SET else self._at + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at if self._pretended is None else self._pretended

    def rewind(self) -> None:
        """Put back what belongs to the next file: the decoder reads a little ahead."""
        if self._ended:
            return
        tail = bytes(self._tail)
        at = next_file(tail + self._stream.peek(HEAD))
        if at is not None and at < len(tail):
            self._stream.put_back(tail[at:])
