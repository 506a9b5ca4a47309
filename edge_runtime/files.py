"""Atomic writing, locks, hashes, names and directories of files."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import EdgeemoError, WrongUseError, next_step

TAKEN_IN_PART = "the disk took a part of it only"
"""The reason for errors of NumPy and PyTorch on a full disk, which lack that of the system."""
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
LONGEST = 64
# An allow-list: it matches no path, no hidden file and no option of a command.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def checked_name(name: str) -> str:
    """Return a name that can be a file name and a part of messages and events, as of a profile.

    Raises:
        ValueError: it cannot.
    """
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"must be of letters, digits, '.', '_' and '-', begin with a letter, a digit or '_', and have at most "
            f"{LONGEST} characters"
        )
    return name


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if the block raises nothing.

    Readers find either the old file or the whole new one. ``mode`` are permission bits; None for those of a plain open.

    Raises:
        EdgeemoError: it cannot be written, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if mode is None:
            # mkstemp creates files that only their owner can read.
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        # NumPy reports a full disk without errno and without a name.
        if error.filename not in (None, name):
            raise
        reason = error.strerror or TAKEN_IN_PART
        raise EdgeemoError(
            f"{path}: cannot be written ({reason}); make room, and give the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(out: Path, marks: tuple[str, ...], what: str) -> Iterator[Path]:
    """Yield a directory beside ``out`` that replaces it when the block ends without an error, and is removed otherwise.

    A killed process leaves the older directory as it was or, if killed between two renames, beside its place; the next
    call moves it back.

    Args:
        out: the directory, with an option ``--out`` in messages.
        marks: the files that an older directory must hold to be replaced, all of them.
        what: what such a directory is called in messages.

    Raises:
        WrongUseError: ``out`` exists and is something else, or is ``.`` or ``..``.
        EdgeemoError: the place cannot be written to, or the disk is full.
    """
    if out.name in ("", ".."):
        raise WrongUseError(f"{out}: cannot be replaced by a {what}; give the path of a new directory as --out")
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():
        old.rename(out)
    if out.exists() and not all((out / mark).is_file() for mark in marks):
        raise WrongUseError(f"{out}: exists and is no {what}; give another --out")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    except OSError as error:
        raise EdgeemoError(f"{out}: cannot be written ({error.strerror}){next_step(error)}") from error
    try:
        yield part
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        part.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        # Errors of reading have their own messages.
        if error.errno not in _NO_ROOM:
            raise
        raise EdgeemoError(
            f"{out}: cannot be written ({error.strerror}); make room, and give the same command again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock against other processes of this machine, on a file that remains; wait for it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def text_of(path: Path) -> str:
    """Return the text of a small file, as in ``/sys``; "" if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(facts: object, digits: int) -> str:
    """Return the first (at most 64) hexadecimal digits of the sha256 of a JSON value, for the name of a cached file.

    The order of a dictionary does not matter.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:digits]


def cache_directory() -> Path:
    """Return the user's cache for edgeemo, ``$XDG_CACHE_HOME/edgeemo``.

    Raises:
        EdgeemoError: the user has no home directory, as an unknown one in a container.
    """
    return _base("XDG_CACHE_HOME", ".cache") / "edgeemo"


def data_directory() -> Path:
    """Return the directory for data that cannot be regenerated, ``$XDG_DATA_HOME/edgeemo``.

    Raises:
        EdgeemoError: as `cache_directory`.
    """
    return _base("XDG_DATA_HOME", ".local/share") / "edgeemo"


def _base(variable: str, in_home: str) -> Path:
    if base := os.environ.get(variable):
        return Path(base)
    try:
        return Path.home() / in_home
    except RuntimeError:
        raise EdgeemoError(
            f"this user has no home directory; set {variable} to a directory that you may write to"
        ) from None
