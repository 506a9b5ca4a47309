"""JSON lines in a file that is rotated."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from edge_runtime.config import FileSink
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import Event
from edge_runtime.sinks.interface import Sink
from edge_runtime.sinks.json_lines import json_line

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class RotatingFile(Sink):
    """Appends one JSON object a line; a file that is full becomes ``path.1``, that one ``path.2``, and so on.

    A line is in the file as a whole or not at all. A file that somebody moves or removes is made anew (logrotate); one
    that is cut to nothing is filled again.

    Args:
        settings: where, how large, how many.
    """

    def __init__(self, settings: FileSink) -> None:
        self._path = settings.path
        self._limit = int(settings.max_mb * 1_000_000)
        self._keep = settings.keep
        self._handle: int | None = None
        self.name = f"file:{settings.path}"
        self.provisional = settings.provisional

    def __enter__(self) -> RotatingFile:
        """Open the file.

        Raises:
            EdgeemoError: it cannot be opened, is no file, or belongs to another process. A full disk is no such case.
        """
        if not self._path.parent.is_dir():
            raise EdgeemoError(f"{self._path}: the directory {self._path.parent} does not exist; make it first")
        try:
            self._open()
        except ValueError as error:
            raise EdgeemoError(f"{self._path}: cannot be written ({error})") from error
        except OSError as error:
            self.close()
            if error.errno not in _NO_ROOM:
                raise EdgeemoError(f"{self._path}: cannot be written ({error.strerror})") from error
        return self

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def emit(self, event: Event) -> None:
        """Append one line, in a new file if the current one is full.

        Raises:
            OSError: there is no room, or the file cannot be made or moved; nothing of the line is in it.
        """
        line = json_line(event).encode()
        try:
            handle = self._current()
            size = os.fstat(handle).st_size
            if size and size + len(line) > self._limit:
                self._rotate()
                handle, size = self._current(), 0
            _append(handle, line, size)
        except OSError:
            self.close()
            raise

    def _current(self) -> int:
        """Return the open file that stands at the path."""
        if self._handle is not None:
            try:
                moved = not os.path.samestat(self._path.stat(), os.fstat(self._handle))
            except FileNotFoundError:
                moved = True
            if moved:
                self.close()
        return self._open() if self._handle is None else self._handle

    def _open(self) -> int:
        # Without waiting for the other end, should it be a named pipe.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._handle = handle = os.open(self._path, flags, 0o666)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EAGAIN, "another process or sink writes it") from error
        except OSError:
            # A file system without locks.
            pass
        # The power may have failed within a line. It is ended, not cut off: it may not be ours.
        if status.st_size and os.pread(handle, 1, status.st_size - 1) != b"\n":
            _append(handle, b"\n", status.st_size)
        return handle

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._older(number).replace(self._older(number + 1))
        if self._keep:
            self._path.replace(self._older(1))
        else:
            self._path.unlink()

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _append(handle: int, data: bytes, size: int) -> None:
    """Write all of it at the end of a file of that size, or leave the file as it is."""
    try:
        while data:
            data = data[os.write(handle, data) :]
    except OSError:
        os.ftruncate(handle, size)
        raise
