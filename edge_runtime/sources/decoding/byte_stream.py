"""Bytes that can be looked at before they are read, from a file or a pipe, with bounded memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import BinaryIO, cast

from edge_runtime.errors import EdgeemoError

_LARGEST_READ = 1 << 16
IN_MEMORY = 64 << 20
"""Bytes of a pipe that are kept where a format can only be read with seeking; longer files must be given as files."""


class ByteStream:
    """A forward-only stream; what was peeked is read again.

    Args:
        file: read from its present position on; a read may return less than was asked for.
        closed: whether the reader has been stopped, which ends the stream.

    Attributes:
        position: bytes read so far.
        failure: why the file could not be read on; the stream ends there.
        length: bytes of a file that can seek.
        seekable: the file itself, if it can seek and has been opened at the position 0; None for a pipe.
    """

    def __init__(self, file: BinaryIO, closed: Callable[[], bool] = lambda: False) -> None:
        self._file = file
        self._closed = closed
        self._ahead = bytearray()
        self._ended = False
        self.position = 0
        self.failure = ""
        self.seekable: BinaryIO | None = None
        self.length: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if file.seekable() and file.tell() == 0:
                self.length = file.seek(0, io.SEEK_END)
                file.seek(0)
                self.seekable = file

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes without reading them; fewer at the end."""
        self._fill(size)
        return bytes(self._ahead[:size])

    def peek_at(self, distance: int, size: int) -> bytes:
        """Return ``size`` bytes that begin ``distance`` bytes ahead; fewer at the end. A pipe is kept up to there."""
        if self.seekable is None:
            self._fill(distance + size)
            return bytes(self._ahead[distance : distance + size])
        at = self.position
        self.move_to(at + distance)
        data = self.peek(size)
        self.move_to(at)
        return data

    def _fill(self, size: int) -> None:
        while len(self._ahead) < size and not self._ended:
            more = self._more(min(size - len(self._ahead), _LARGEST_READ))
            self._ended = not more
            self._ahead += more

    def _more(self, size: int) -> bytes:
        if self._closed():
            return b""
        try:
            # None where a pipe that does not block holds nothing, which no source of ours is.
            return self._file.read(size) or b""
        except OSError as error:
            # Not raised: libsndfile may be the reader, through which no exception passes.
            self.failure = error.strerror or str(error)
            return b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer at the end."""
        data = self.peek(size)
        del self._ahead[: len(data)]
        self.position += len(data)
        return data

    def skip(self, size: int) -> int:
        """Read ``size`` bytes without keeping them; return how many there were."""
        left = size
        while left and (data := self.read(min(left, _LARGEST_READ))):
            left -= len(data)
        return size - left

    def put_back(self, data: bytes) -> None:
        """Put bytes that were just read in front of the rest."""
        self._ahead[:0] = data
        self.position -= len(data)

    def move_to(self, position: int) -> None:
        """Go on at another position of a file that can seek; beyond its end, nothing is left."""
        if self.seekable is None:
            raise ValueError("a pipe cannot seek")
        try:
            self.seekable.seek(position)
        except (OSError, OverflowError):
            # By a damaged length, beyond the longest file that there can be.
            self.seekable.seek(0, io.SEEK_END)
        self._ahead.clear()
        self._ended = False
        self.position = position

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return not self.peek(1)


class Window(io.RawIOBase):
    """A part of a file that can seek, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end
        self._at = start

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; return the number of bytes."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        self._file.seek(self._at)
        data = self._file.read(max(0, min(len(view), self._end - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(self._start, base + offset)
        return self._at - self._start

    def tell(self) -> int:
        """Return the place."""
        return self._at - self._start


def seekable_part(stream: ByteStream, size: int | None, name: str, form: str) -> BinaryIO:
    """Return the next ``size`` bytes of a stream, all for None, as a file that can seek; the stream goes on behind it.

    The bytes of a pipe are kept in memory.

    Raises:
        EdgeemoError: they are more than is kept in memory.
    """
    if stream.seekable is not None and stream.length is not None:
        start = stream.position
        end = stream.length if size is None else min(stream.length, start + size)
        stream.move_to(end)
        return cast("BinaryIO", io.BufferedReader(Window(stream.seekable, start, end)))
    rest = stream.peek(IN_MEMORY if size is None else min(size, IN_MEMORY))
    if len(rest) == IN_MEMORY:
        raise EdgeemoError(
            f"{name}: is {form}, of which no more than {IN_MEMORY >> 20} MB can be read from a pipe; give the file "
            "itself by --source FILE"
        )
    stream.skip(len(rest))
    return io.BytesIO(rest)
