"""JSON lines: one event a line, to a stream or to a file that is rotated."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import TextIO

from edge_runtime.config import FileSink
from edge_runtime.console import GONE
from edge_runtime.errors import EdgeemoError, next_step
from edge_runtime.events import Event
from edge_runtime.sinks.interface import Sink

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BEGINNINGS = (b"{", b"\n")
"""First bytes of JSON lines; a line that a power failure cut off before its first byte is empty."""


def json_line(event: Event) -> str:
    """Return an event as one line of JSON, with a line feed."""
    return event.model_dump_json() + "\n"


class JsonLines(Sink):
    """Writes one JSON object a line, at once."""

    name = "standard output"
    reader_may_leave = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Asked now: a terminal that was closed is none any more.
        self._terminal = stream.isatty()
        self._begun: Event | None = None
        self._rest = b""

    def __enter__(self) -> JsonLines:
        """Flush what was written to the stream before."""
        self._stream.flush()
        return self

    def emit(self, event: Event) -> None:
        """Write one line, or the rest of a line that was written in part.

        Raises:
            OSError: not all of it could be written; `BrokenPipeError` if the reader has left, or closed the terminal.
        """
        try:
            handle = self._stream.fileno()
        except OSError:
            # A stream in memory.
            self._stream.write(json_line(event))
            self._stream.flush()
            return
        # Not through the stream's buffer: it would write again what a full disk refused, and a thread that waits for a
        # slow reader would hold its lock while the interpreter ends.
        if event is not self._begun:
            self._begun, self._rest = event, self._rest + json_line(event).encode()
        try:
            while self._rest:
                self._rest = self._rest[os.write(handle, self._rest) :]
        except OSError as error:
            if error.errno in GONE and self._terminal:
                raise BrokenPipeError(error.errno, "the terminal was closed") from error
            raise


class RotatingFile(Sink):
    """Appends one JSON object a line; a full file becomes ``path.1``, that one ``path.2``, and so on.

    A line is written as a whole or not at all. A file that another program moves or removes is created anew
    (logrotate); one that it truncates is used further.
    """

    def __init__(self, settings: FileSink) -> None:
        self._path = settings.path
        self._limit = int(settings.max_mb * 1_000_000)
        self._keep = settings.keep
        self._handle: int | None = None
        self.name = f"file:{settings.path}"
        self.provisional = settings.provisional

    def __enter__(self) -> RotatingFile:
        """Open the file; a full disk is no error yet.

        Raises:
            EdgeemoError: it cannot be opened, is not a regular file, holds something else than JSON lines, or is in use
                by another process.
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
                raise EdgeemoError(f"{self._path}: cannot be written ({error.strerror}){next_step(error)}") from error
        return self

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def emit(self, event: Event) -> None:
        """Append one line, to a new file if the current one is full.

        Raises:
            OSError: there is no room, or the file cannot be created or moved; no part of the line was written.
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
        """Return the open file if it is still the one at the path, else open that."""
        if self._handle is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._handle)):
                    return self._handle
            self.close()
        return self._open()

    def _open(self) -> int:
        # O_NONBLOCK, so that a named pipe does not wait for its other end.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._handle = handle = os.open(self._path, flags, 0o666)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EAGAIN, "another process or sink writes it") from error
        except OSError:
            # A file system without locks.
            pass
        if status.st_size and os.pread(handle, 1, 0) not in _BEGINNINGS:
            # As a recording, named by mistake: lines at its end would damage it.
            raise OSError(errno.EINVAL, "it holds something else than events; name another file")
        # After a power failure the last line may be incomplete. It is ended, not removed: it may be another program's.
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
    """Append all of some bytes to a file of a size, or leave the file as it is."""
    try:
        while data:
            data = data[os.write(handle, data) :]
    except OSError:
        os.ftruncate(handle, size)
        raise
