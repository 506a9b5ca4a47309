"""Files of the user's cache that are trusted when they are read: written whole, and by this user only."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from edge_runtime.errors import EngineError
from edge_runtime.files import replacing


def check_writable(directory: Path) -> None:
    """Make a directory and check that a file can be written to it.

    Raises:
        EngineError: it cannot.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise EngineError(
            f"{directory}: cannot be written to ({error.strerror}); "
            "for another engine cache set XDG_CACHE_HOME, for a file give --out"
        ) from error


def store(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; other users can neither read nor change it.

    Raises:
        EngineError: the directory cannot be written to.
        EdgeemoError: the disk is full.
    """
    check_writable(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    path.chmod(0o600)


def read_trusted(path: Path) -> bytes:
    """Read a file of the cache that only this user can have written.

    Raises:
        EngineError: it cannot be read, or another user may have written it.
    """
    try:
        only_ours(path.parent, path.parent.stat())
        # No link is followed: what counts is who may write the file itself.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            only_ours(path, os.fstat(stream.fileno()))
            return stream.read()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror})") from error


def only_ours(path: Path, status: os.stat_result) -> None:
    """Check that no other user may have changed a file or directory.

    Raises:
        EngineError: it belongs to another user, or its group or all users may write to it.
    """
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(
            f"{path}: may have been written by another user, and an engine is native code: it is not loaded"
        )
