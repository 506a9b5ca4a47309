"""Open the files of a bundle, which a stranger may have put together, and hash what was opened.

No name leads out of the directory, no link is followed below it, and nothing is opened that could block or act.
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
from edge_runtime.errors import EdgeemoError
from edge_runtime.strict_json import shown

# What is allowed, not what is forbidden: no empty part, no "..", drive letter, backslash, NUL or hidden file fits it.
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
    """Check the names that a manifest gives.

    Raises:
        EdgeemoError: a name leaves the directory, is no plain name, is the manifest's own, or is given twice.
    """
    # Some file systems do not tell cases apart.
    seen = {MANIFEST.casefold()}
    for entry in entries:
        name = entry.name
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or "\\" in name or name[1:2] == ":":
            raise EdgeemoError(f"{root}: names a file outside the bundle ('{shown(name)}'); do not trust this bundle")
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise EdgeemoError(
                f"{root}: names a file '{shown(name)}', and names in a bundle are of letters, digits, '.', '_' and '-'"
            )
        if name.casefold() in seen:
            raise EdgeemoError(f"{root}: names '{shown(name)}' twice, or as a file of itself; do not trust this bundle")
        seen.add(name.casefold())


@contextmanager
def opened(root: Path, name: str) -> Iterator[BinaryIO]:
    """Open a regular file of a bundle; the directory itself may be reached by a link, since the user named it.

    Raises:
        EdgeemoError: it is missing, cannot be read, is a link or lies behind one, or is no regular file.
    """
    path = root / name
    try:
        handle = _open(root, name)
    except FileNotFoundError as error:
        raise EdgeemoError(f"{path}: is missing from the bundle; copy or export it again") from error
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror})") from error
    with os.fdopen(handle, "rb") as stream:
        try:
            yield stream
        except OSError as error:
            raise EdgeemoError(f"{path}: cannot be read ({error.strerror})") from error


def check_content(root: Path, entry: FileEntry, stream: BinaryIO) -> None:
    """Check size, before anything is read, and hash of an opened file; go back to its start.

    Raises:
        EdgeemoError: it is not the file that the manifest tells of.
    """
    digest = hashlib.sha256()
    if os.fstat(stream.fileno()).st_size == entry.size:
        left = entry.size
        # One byte more than there should be shows a file that grows.
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
    """Return the error that says so of a file with another size or hash."""
    return EdgeemoError(f"{root / entry.name}: is not the file that the bundle was made with; copy or export it again")


def _open(root: Path, name: str) -> int:
    """Return a handle, walking down from the directory, so that no part can be swapped for a link in between."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *folders, last = name.split("/")
        for part in folders:
            _require(stat.S_IFDIR, part, folder, root / name)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Asked before it is opened, since that alone can make a device act, and again of what was opened.
        _require(stat.S_IFREG, last, folder, root / name)
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise EdgeemoError(f"{root / name}: was changed while it was opened; try again")
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
