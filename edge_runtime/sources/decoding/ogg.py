"""Pages of Ogg streams: where each link of a chain ends, which codec it has, and how long it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.formats import next_file

_HEADER = 27
_LARGEST_PAGE = _HEADER + 255 + 255 * 255
_OPUS_RATE = 48_000
_FIRST, _LAST = 2, 4


class _Page(NamedTuple):
    flags: int
    granule: int
    serial: bytes
    number: int
    size: int
    body: int


def _page(head: bytes) -> _Page | None:
    if head[:5] != b"OggS\0" or len(head) < _HEADER:
        return None
    segments = head[_HEADER : _HEADER + head[26]]
    if len(segments) < head[26]:
        return None
    granule = int.from_bytes(head[6:14], "little", signed=True)
    number = int.from_bytes(head[18:22], "little")
    body = _HEADER + len(segments)
    return _Page(head[5], granule, head[14:18], number, body + sum(segments), body)


class OggSection:
    """One link of an Ogg chain.

    Attributes:
        codec: ``opus``, ``vorbis``, or empty for another one or for several streams beside each other.
        skipped: bytes that belong to no page.
        lost_pages: pages that are missing by their numbers.
        ended: whether the page that ends a link was there.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._granule_rate = 0
        self._skipped_samples = 0
        self._begin: int | None = None
        self._end = 0
        self.skipped = 0
        self.lost_pages = 0
        self.ended = False
        self.codec = self._identify()

    @property
    def seconds(self) -> float:
        """Duration by the positions in the pages so far."""
        if self._begin is None or not self._granule_rate:
            return 0.0
        return max(0, self._end - self._begin) / self._granule_rate

    def _identify(self) -> str:
        head = self._stream.peek(4096)
        page = _page(head)
        if page is None:
            return ""
        following = _page(head[page.size :])
        if following is not None and following.flags & _FIRST:
            return ""
        packet = head[page.body : page.size]
        if packet.startswith(b"OpusHead"):
            self._granule_rate = _OPUS_RATE
            self._skipped_samples = int.from_bytes(packet[10:12], "little")
            return "opus"
        if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
            self._granule_rate = int.from_bytes(packet[12:16], "little")
            return "vorbis"
        return ""

    def pages(self) -> Iterator[bytes]:
        """Yield page by page, until another link begins or the stream ends."""
        expected: int | None = None
        while head := self._stream.peek(_HEADER + 255):
            page = _page(head)
            if page is None:
                if not self._resynchronise():
                    return
                continue
            if page.flags & _FIRST and expected is not None:
                return
            data = self._stream.read(page.size)
            if len(data) < page.size:
                self.skipped += len(data)
                yield data
                return
            if expected is not None and page.number > expected:
                self.lost_pages += page.number - expected
            expected = page.number + 1
            self._count(page)
            yield data

    def _count(self, page: _Page) -> None:
        self.ended = bool(page.flags & _LAST)
        if page.granule <= 0:
            return
        if self._begin is None:
            # A stream that was recorded from its middle does not begin at zero.
            self._begin = self._skipped_samples if page.granule < 10 * self._granule_rate else page.granule
        self._end = max(self._end, page.granule)

    def _resynchronise(self) -> bool:
        """Skip to the next page; return False where there is none within the length of the largest."""
        rest = self._stream.peek(_LARGEST_PAGE + _HEADER)
        at = rest.find(b"OggS\0", 1)
        other = next_file(rest)
        if other is not None and (at < 0 or other <= at):
            self.skipped += self._stream.skip(other)
            return False
        if at < 0:
            return False
        self.skipped += self._stream.skip(at)
        return True
