"""How long a file is by its own lengths, so that what follows it in a stream is not taken for a part of it."""

from __future__ import annotations

import re

from edge_runtime.sources.decoding.byte_stream import IN_MEMORY, ByteStream
from edge_runtime.sources.decoding.headers import PLACEHOLDER

_LARGEST_AVI = 0x3F000000
"""A longer AVI file goes on in further parts."""
_CAF_CHUNKS = frozenset(b"desc data kuki pakt chan free info mark regn midi ovvw uuid umid edct peak strg inst".split())
_SEGMENT = b"\x18\x53\x80\x67"


def extent(stream: ByteStream) -> int | None:
    """Return the bytes of the compressed or container file that begins here; None if it does not state them."""
    head = stream.peek(1024)
    if head[:4] in (b"RIFF", b"FORM"):
        size = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
        largest = _LARGEST_AVI if head[8:12] == b"AVI " else PLACEHOLDER
        return 8 + size + size % 2 if 0 < size < largest else None
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(head)
    if head[:4] == b"caff":
        return _caf(stream)
    if head.startswith(b"Creative Voice File\x1a"):
        return _voc(stream, int.from_bytes(head[20:22], "little"))
    return _nist(head) if head.startswith(b"NIST_1A\n") else None


def _matroska(head: bytes) -> int | None:
    start = _length(head, 4)
    if start is None or head[start[1] + start[0] :][:4] != _SEGMENT:
        return None
    segment = _length(head, start[1] + start[0] + 4)
    return None if segment is None else segment[1] + segment[0]


def _length(head: bytes, at: int) -> tuple[int, int] | None:
    """Return a length of EBML and the place behind it; None where it is unknown."""
    if at >= len(head) or not head[at]:
        return None
    size = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + size], "big") & ((1 << 7 * size) - 1)
    return None if value == (1 << 7 * size) - 1 else (value, at + size)


def _caf(stream: ByteStream) -> int | None:
    at = 8
    while len(head := stream.peek_at(at, 12)) == 12:
        size = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] not in _CAF_CHUNKS or not 0 <= size < 1 << 50:
            # The last chunk of a recording may have no length.
            return None if size == -1 and head[:4] == b"data" else at
        at += 12 + size
        if stream.seekable is None and at > IN_MEMORY:
            return None
    return at


def _voc(stream: ByteStream, at: int) -> int | None:
    while len(head := stream.peek_at(at, 4)) == 4 and 0 < head[0] < 10:
        at += 4 + int.from_bytes(head[1:], "little")
        if stream.seekable is None and at > IN_MEMORY:
            return None
    # A byte of zero ends the blocks.
    return at + 1 if head[:1] == b"\0" else at


def _nist(head: bytes) -> int | None:
    size = re.match(rb"NIST_1A\n *(\d{1,6})\n", head)
    fields = dict(re.findall(rb"(sample_count|sample_n_bytes|channel_count) -i (\d{1,12})\n", head))
    if size is None or len(fields) < 3:
        return None
    samples = 1
    for value in fields.values():
        samples *= int(value)
    return int(size[1]) + samples
