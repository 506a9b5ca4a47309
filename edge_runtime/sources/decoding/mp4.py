"""Boxes of MP4 files: where each file in a stream ends, and whether its index comes first."""

from __future__ import annotations

import io
from typing import NamedTuple

from edge_runtime.sources.decoding.byte_stream import IN_MEMORY, ByteStream
from edge_runtime.sources.decoding.formats import MARKS

_PIECE = 1 << 12


class Box(NamedTuple):
    """A box: its kind and its size in bytes, header included; None to the end of the stream."""

    kind: bytes
    size: int | None


def box(head: bytes) -> Box | None:
    """Return the box that begins with these 32 bytes; None for anything else."""
    if MARKS.match(head):
        return None
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if len(head) < 8 or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
        return None
    if size == 0:
        return Box(kind, None)
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    return Box(kind, size) if size >= 8 else None


def index_comes_first(stream: ByteStream) -> bool:
    """Whether the box ``moov`` of a file comes before its audio (``mdat``), so that it can be decoded as it comes."""
    at = 0
    while found := box(stream.peek(at + 32)[at:]):
        if found.kind in (b"moov", b"moof"):
            return True
        if found.kind == b"mdat" or found.size is None or at + found.size > IN_MEMORY:
            return False
        at += found.size
    return True


def length_of_file(stream: ByteStream) -> int | None:
    """Return the bytes of the MP4 file that begins here, in a file that can seek; None for all of the rest."""
    file, start, length = stream.seekable, stream.position, stream.length
    if file is None or length is None:
        return None
    at = start
    while at < length:
        file.seek(at)
        found = box(file.read(32))
        if found is None or (found.kind == b"ftyp" and at > start):
            break
        if found.size is None:
            at = length
            break
        at += found.size
    stream.move_to(start)
    return max(16, min(at, length) - start)


class Mp4Section(io.RawIOBase):
    """The bytes of one MP4 file of a stream, without seeking."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._left: int | None = 0
        self._boxes = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; none at the end of the file."""
        if self._left == 0:
            found = box(self._stream.peek(32))
            if found is None or (found.kind == b"ftyp" and self._boxes):
                return b""
            self._boxes += 1
            self._left = found.size
        wanted = _PIECE if size < 0 else min(size, _PIECE)
        data = self._stream.read(wanted if self._left is None else min(wanted, self._left))
        if self._left is not None:
            self._left -= len(data)
        return data
