"""Uncompressed audio behind a header whose length is not trusted in either direction."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.formats import HEAD, LONGEST_MARK, begins_a_file, find_mark
from edge_runtime.sources.decoding.headers import KNOWN_CHUNKS, PcmHeader, padding
from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.decoding.raw import SEEN, looks_random
from edge_runtime.sources.decoding.samples import Encoding
from edge_runtime.sources.decoding.tags import only_zeros

_BLOCK_SECONDS = 0.1
_LARGEST_CHUNK = 16 << 20


def raw_frames(stream: ByteStream, rate: int, channels: int, encoding: Encoding, ledger: Ledger) -> Iterator[Frames]:
    """Decode raw samples to the end of the stream; a last frame that is cut off is dropped."""
    section = _Samples(stream, rate, channels, encoding, ledger)
    yield from section.take(None, marks=False)


def pcm_frames(stream: ByteStream, header: PcmHeader, encoding: Encoding, ledger: Ledger) -> Iterator[Frames]:
    """Decode the samples behind a header, until another file begins or the stream ends.

    A claimed length ends the audio only if a further chunk, another file or the end follows it.
    """
    section = _Samples(stream, header.rate, header.channels, encoding, ledger)
    size = header.size
    if size is None and _end(stream, header, 0):
        size = 0
    promised = size
    while True:
        yield from section.take(size)
        if size is None or section.at_mark or stream.ended:
            break
        further = _end(stream, header, section.read)
        if further is None:
            ledger.notices.append(
                f"the {header.name} header ends the audio at {section.seconds:.1f} s, but more follows; all is used"
            )
            size = None
        elif further == 0:
            break
        else:
            size = further
            promised = None if promised is None else promised + further
    if promised is not None:
        claimed = promised / (encoding.size * header.channels * header.rate)
        ledger.promised(claimed, section.seconds, f"the {header.name} header", exact=True)


class _Samples:
    """Reads samples and counts them."""

    def __init__(self, stream: ByteStream, rate: int, channels: int, encoding: Encoding, ledger: Ledger) -> None:
        self._stream = stream
        self._rate = rate
        self._channels = channels
        self._encoding = encoding
        self._ledger = ledger
        self._cut = b""
        self.read = 0
        self.at_mark = False
        self.seconds = 0.0

    def take(self, size: int | None, *, marks: bool = True) -> Iterator[Frames]:
        """Yield ``size`` bytes as frames, all for None; another file ends them."""
        frame = self._encoding.size * self._channels
        block = max(1, round(_BLOCK_SECONDS * self._rate)) * frame
        left = size
        while left is None or left > 0:
            wanted = block if left is None else min(block, left)
            ahead = self._stream.peek(wanted + (LONGEST_MARK if marks else 0))
            mark = find_mark(ahead) if marks else None
            if mark is not None and mark < wanted:
                self.at_mark = True
                wanted = mark
            data = self._stream.read(wanted)
            left = None if left is None else left - len(data)
            self.read += len(data)
            yield from self._decoded(data, frame)
            if self.at_mark or not data:
                return

    def _decoded(self, data: bytes, frame: int) -> Iterator[Frames]:
        data = self._cut + data
        whole = len(data) // frame * frame
        self._cut = data[whole:]
        if whole:
            samples = self._encoding.decode(data[:whole], self._channels)
            self.seconds += len(samples) / self._rate
            yield Frames(samples, self._rate, self._encoding.kind == "f")


def _end(stream: ByteStream, header: PcmHeader, read: int) -> int | None:
    """Skip the chunks after the audio.

    Returns:
        0 for the end of the file, the size of a further chunk of audio, or None where the audio goes on.
    """
    # Chunks begin at even places.
    for pad in (read % 2, 0, 1):
        head = stream.peek(pad + HEAD)[pad:]
        if not head:
            stream.skip(pad)
            return 0
        if head.startswith((b"ID3", b"TAG")) or begins_a_file(head):
            stream.skip(pad)
            return 0
        if not any(head) and only_zeros(stream):
            stream.skip(len(head) + pad)
            return 0
        left = None if header.rest is None else header.rest - read - pad
        if _chunk_size(head, header, left) is not None:
            stream.skip(pad)
            return _skip_chunks(stream, header, left)
    return 0 if header.encoding and _random(stream, header.encoding, header.channels, read) else None


def _random(stream: ByteStream, encoding: Encoding, channels: int, read: int) -> bool:
    """Whether what follows is no audio of the same encoding: integers that are random."""
    frame = encoding.size * channels
    data = stream.peek(SEEN)[-read % frame :]
    whole = len(data) // frame * frame
    return encoding.kind in ("s", "u") and whole > 0 and looks_random(encoding.decode(data[:whole], channels)[:, 0])


def _chunk_size(head: bytes, header: PcmHeader, left: int | None) -> int | None:
    """Return the size of the chunk that begins here; None if none does.

    Args:
        head: the next bytes, up to `HEAD` of them.
        header: of the file.
        left: bytes that are left of the file by its header; a chunk of an unknown kind has to fit into them.
    """
    if header.chunks == "none" or len(head) < 8:
        return None
    size = int.from_bytes(head[4:8], "big" if header.big else "little")
    if head[:4] in KNOWN_CHUNKS:
        return size
    fits = (left is not None and 8 + size <= left) or (len(head) < HEAD and len(head) - 9 <= size <= len(head) - 8)
    return size if fits and all(0x20 <= byte < 0x7F for byte in head[:4]) else None


def _skip_chunks(stream: ByteStream, header: PcmHeader, left: int | None) -> int | None:
    while True:
        head = stream.peek(HEAD)
        size = _chunk_size(head, header, left)
        if size is None:
            return 0
        if head[:4] in (b"data", b"SSND"):
            stream.skip(8 + (8 if head[:4] == b"SSND" else 0))
            return size or None
        if size > _LARGEST_CHUNK:
            return None
        stream.skip(8 + size)
        stream.skip(pad := padding(size, stream.peek(5)))
        left = None if left is None else left - 8 - size - pad
