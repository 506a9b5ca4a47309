"""Bytes that can be looked at before they are read, from a file or a pipe, with bounded memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import BinaryIO

from edge_runtime.errors import EdgeemoError

_LARGEST_READ = 1 << 16
_IN_MEMORY = 64 << 20
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
        while len(self._ahead) < size and not self._ended:
            more = self._more(min(size - len(self._ahead), _LARGEST_READ))
            self._ended = not more
            self._ahead += more
        return bytes(self._ahead[:size])

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

    def finish(self) -> None:
        """Leave the rest to another reader of the file."""
        self.position += len(self._ahead)
        self._ahead.clear()
        self._ended = True

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return not self.peek(1)


def whole_file(stream: ByteStream, name: str, form: str) -> BinaryIO:
    """Return the rest of a stream as a file that can seek: the file itself, or a copy in memory; the stream is at its end.

    Raises:
        EdgeemoError: the rest of a pipe is longer than is kept in memory.
    """
    if stream.seekable is not None and stream.position == 0:
        file: BinaryIO = stream.seekable
        stream.finish()
        file.seek(0)
        return file
    rest = stream.peek(_IN_MEMORY)
    if len(rest) == _IN_MEMORY:
        raise EdgeemoError(
            f"{name}: is {form}, of which no more than {_IN_MEMORY >> 20} MB can be read from a pipe; give the file "
            "itself by --source FILE"
        )
    stream.finish()
    return io.BytesIO(rest)
