"""Tags between and around audio: they hold titles and pictures, and no sound."""

from __future__ import annotations

from edge_runtime.sources.decoding.byte_stream import ByteStream

_LARGEST_PADDING = 1 << 20


def skip_tags(stream: ByteStream) -> None:
    """Skip ID3v2, ID3v1, APEv2 and Lyrics3 tags, and zeros that fill the rest of a stream."""
    while size := _tag_size(stream):
        stream.skip(size)


def _tag_size(stream: ByteStream) -> int:
    head = stream.peek(32)
    if head[:3] == b"ID3" and len(head) >= 10 and 2 <= head[3] <= 4 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:3] == b"TAG" and len(tag := stream.peek(129)) >= 128 and _after_id3v1(tag, stream):
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size = int.from_bytes(head[12:16], "little")
        # A header states the size of what follows it; a footer alone follows its items.
        return 32 + size if head[23] & 0x20 else 32
    if head[:11] == b"LYRICSBEGIN":
        end = stream.peek(1 << 16).find(b"LYRICS200")
        return end + 9 if end > 0 else 0
    return 0


def _after_id3v1(tag: bytes, stream: ByteStream) -> bool:
    """Whether the end or the beginning of something follows a tag of 128 bytes; audio may begin with TAG too."""
    return len(tag) == 128 or stream.peek(132)[128:] in (b"RIFF", b"fLaC", b"OggS") or tag[128] in (0xFF, 0x49)


def only_zeros(stream: ByteStream) -> bool:
    """Whether nothing but zeros, up to a megabyte, is left."""
    rest = stream.peek(_LARGEST_PADDING)
    return len(rest) < _LARGEST_PADDING and not any(rest)
