"""What lies in the place of audio or of a table: pointers of version control, companions of macOS, web pages, links."""

from __future__ import annotations

import codecs
from pathlib import Path

from edge_runtime.errors import EdgeemoError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a pointer of Git LFS begins: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""

_ANNEX = b"/annex/objects/"
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def instead_of_audio(path: Path) -> str:
    """Return what a file is that is no audio, and what to do, as the rest of a sentence; empty if unknown."""
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which does not exist; download or unpack that file too"
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return ""
    if head.startswith(LFS_POINTER):
        return "is a Git LFS pointer, not audio; run in its repository: git lfs pull"
    if _ANNEX in head:
        return "is a git-annex pointer, not audio; run in its repository: git annex get ."
    if head.startswith(_APPLE_DOUBLE):
        return "is a companion file of macOS (AppleDouble), not audio; take its row out of the list"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not audio; download it again"
    return ""


def table_text(path: Path, fallback: str = "") -> str:
    """Return the text of a table: UTF-8 or UTF-16, with or without the byte order mark that spreadsheets put in front.

    Args:
        path: the file.
        fallback: encoding of what is neither (``cp1252``, say), whose undefined bytes are replaced; refused if empty.

    Raises:
        EdgeemoError: it is a pointer of Git LFS, or in another encoding.
    """
    data = path.read_bytes()
    if data.startswith(LFS_POINTER):
        raise EdgeemoError(f"{path}: is a Git LFS pointer, not the table; run in its repository: git lfs pull")
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if not fallback:
            raise EdgeemoError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
        text = data.decode(fallback, errors="replace")
    if "\0" in text:
        raise EdgeemoError(f"{path}: is not UTF-8 text (it holds null characters); save it as UTF-8")
    # As in text mode; a spreadsheet ends lines in CR and LF.
    return text.replace("\r\n", "\n").replace("\r", "\n")
