"""Open and hash the files of an untrusted bundle.

No name leads out of the directory, no link is followed below it, and pipes and devices are never opened.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_runtime.bundles.manifest import MANIFEST, FileEntry
from edge_runtime.errors import EdgeemoError, next_step
from edge_runtime.strict_json import shown

# An allow list: it excludes empty parts, "..", drive letters, backslashes, NUL and hidden files.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_LONGEST_NAME = 200
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_names(root: Path, entries: Iterable[FileEntry]) -> None:
    """Check the file names in a manifest.

    Raises:
        EdgeemoError: a name that leaves the directory, has other characters, is the manifest's, or occurs twice.
    """
    # Some file systems ignore case.
    seen = {MANIFEST.casefold()}
    for entry in entries:
        name = entry.name
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\\" in name or name[1:2] == ":":
            raise EdgeemoError(f"{root}: names a file outside the bundle ('{shown(name)}'); do not trust this bundle")
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise EdgeemoError(
                f"{root}: names a file '{shown(name)}', but names in a bundle consist of letters, digits, '.', '_', '-'"
            )
        if name.casefold() in seen:
            raise EdgeemoError(f"{root}: names '{shown(name)}' twice, or its own manifest; do not trust this bundle")
        seen.add(name.casefold())


@contextmanager
def opened(root: Path, name: str) -> Iterator[BinaryIO]:
    """Open a regular file of a bundle; the directory itself may be a link, since the user named it.

    Raises:
        EdgeemoError: it is missing, cannot be read, is a link or behind one, or is not a regular file.
    """
    path = root / name
    try:
        handle = _open(root, name)
    except FileNotFoundError as error:
        raise EdgeemoError(f"{path}: is missing from the bundle; copy or export it again") from error
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error
    with os.fdopen(handle, "rb") as stream:
        try:
            yield stream
        except OSError as error:
            raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error


def check_content(root: Path, entry: FileEntry, stream: BinaryIO) -> None:
    """Check the size of an opened file before reading, then its hash; rewind it.

    Raises:
        EdgeemoError: it is not the file in the manifest.
    """
    digest = hashlib.sha256()
    if os.fstat(stream.fileno()).st_size == entry.size:
        left = entry.size
        # One byte more reveals a file that grows.
        while block := stream.read(min(1 << 20, left + 1)):
            digest.update(block)
            left -= len(block)
            if left < 0:
                break
        if left == 0 and digest.hexdigest() == entry.sha256:
            stream.seek(0)
            return
    raise changed(root, entry)


def changed(root: Path, entry: FileEntry) -> EdgeemoError:
    """Return the error for a file with another size or hash."""
    return EdgeemoError(f"{root / entry.name}: differs from the file in the manifest; copy or export the bundle again")


def _open(root: Path, name: str) -> int:
    """Return a handle, opened part by part from the directory, so that no part can be replaced by a link meanwhile."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, last = name.split("/")
        for part in folders:
            _require(stat.S_IFDIR, part, folder, root / name)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Checked before opening, since opening a device can have effects, and again afterwards.
        _require(stat.S_IFREG, last, folder, root / name)
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise EdgeemoError(f"{root / name}: changed while it was opened; try again")
    return handle


def _require(kind: int, part: str, folder: int, path: Path) -> None:
    found = stat.S_IFMT(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)
    if found == stat.S_IFLNK:
        raise EdgeemoError(
            f"{path}: is or lies behind a symbolic link, which may lead outside the bundle; "
            "copy the bundle with the files themselves in it"
        )
    if found != kind:
        wanted = "a directory" if kind == stat.S_IFDIR else "a file"
        raise EdgeemoError(f"{path}: is {_KINDS.get(found, 'a file')} where the bundle needs {wanted}")
