"""Write files so that a reader finds either the old one or the whole new one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import EdgeemoError

TAKEN_IN_PART = "the disk took a part of it only"
"""What NumPy and PyTorch know of a full disk, since they do not hand on what the system says."""


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well.

    Args:
        path: the file.
        mode: its permission bits; those that a plain open would have given if not told.

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
            # mkstemp makes files that only their owner reads.
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
def locked(path: Path) -> Iterator[None]:
    """Hold a lock, by a file that stays, against other processes of this machine; wait while another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def text_of(path: Path) -> str:
    """Return what a file of numbers and names, as ``/sys`` has them, says; nothing where it cannot be read."""
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
    """Return the first hexadecimal digits of the sha256 of facts, for the name of what is kept of them.

    Args:
        facts: what JSON can hold; the order of a dictionary does not matter.
        digits: at most 64.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:digits]


def cache_directory() -> Path:
    """Return the user's cache for edgeemo, ``$XDG_CACHE_HOME/edgeemo``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeemo"


def data_directory() -> Path:
    """Return where edgeemo keeps what cannot be made again, ``$XDG_DATA_HOME/edgeemo``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "edgeemo"
