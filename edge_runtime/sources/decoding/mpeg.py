"""Frames of MPEG audio (MP1, MP2, MP3): where each file in a stream begins and ends, and how long it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.formats import LONGEST_MARK, MARKS

_RATES = (44_100, 48_000, 32_000)
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 stands for 2.5 too) and layer, for the indices from 1 on."""
_LARGEST_FRAME = 4096
_INFO = (b"Xing", b"Info")


class FrameHeader(NamedTuple):
    """The header of a frame: rate in Hz, channels, layer, bytes, samples and bit rate (bit/s)."""

    rate: int
    channels: int
    layer: int
    size: int
    samples: int
    bitrate: int


def frame_header(head: bytes) -> FrameHeader | None:
    """Return the header of a frame by its first four bytes; None for other bytes, and for free bit rates."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = (head[1] >> 3) & 3, 4 - ((head[1] >> 1) & 3)
    index, rate_index = head[2] >> 4, (head[2] >> 2) & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    rate = _RATES[rate_index] >> (0 if first else 1 if version == 2 else 2)
    bitrate = 1000 * _BITRATES[1 if first else 2, layer if first else min(layer, 2)][index - 1]
    padding = (head[2] >> 1) & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    size = (12 * bitrate // rate + padding) * 4 if layer == 1 else samples // 8 * bitrate // rate + padding
    channels = 1 if head[3] >> 6 == 3 else 2
    return FrameHeader(rate, channels, layer, size, samples, bitrate)


def is_mpeg(head: bytes, count: int = 2) -> bool:
    """Whether frames of MPEG audio begin here: ``count`` of them, or as many as the rest holds."""
    first = frame_header(head)
    if first is None:
        return False
    at = first.size
    for _ in range(count - 1):
        if len(head) < at + 4:
            return len(head) >= first.size
        header = frame_header(head[at : at + 4])
        if header is None or (header.rate, header.layer) != (first.rate, first.layer):
            return False
        at += header.size
    return True


class MpegSection:
    """The frames of one file.

    Attributes:
        rate: samples per second.
        seconds: duration of the frames so far.
        promised: duration by the encoder's count of frames; 0 without one.
        skipped_seconds: duration of the bytes between frames that are none, at the bit rate of the last frame.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.rate = 0
        self.seconds = 0.0
        self.promised = 0.0
        self.skipped_seconds = 0.0

    def frames(self) -> Iterator[bytes]:
        """Yield frame by frame, until another file or format begins or the stream ends."""
        first: FrameHeader | None = None
        while head := self._stream.peek(_LARGEST_FRAME):
            header = frame_header(head)
            if header is None or header.size < 4 or not self._followed(head, header):
                if not self._resynchronise(head, first):
                    return
                continue
            if first is not None:
                same = (header.rate, header.channels, header.layer) == (first.rate, first.channels, first.layer)
                if not same or _is_info(head[: header.size]):
                    return
            first = first or header
            self.rate = header.rate
            info = _is_info(head[: header.size])
            if info:
                self.promised = _count(head[: header.size]) * header.samples / header.rate
            # Encoders store their settings in a frame without sound.
            share = 0.0 if info else min(1.0, len(head) / header.size)
            self.seconds += share * header.samples / header.rate
            yield self._stream.read(header.size)

    @staticmethod
    def _followed(head: bytes, header: FrameHeader) -> bool:
        """Whether the frame is followed by another one, a tag, another file, or the end."""
        rest = head[header.size : header.size + LONGEST_MARK]
        return (
            len(rest) < 4
            or frame_header(rest) is not None
            or rest.startswith((b"TAG", b"ID3", b"APETAGEX", b"LYRICS"))
            or MARKS.match(rest) is not None
        )

    def _resynchronise(self, head: bytes, last: FrameHeader | None) -> bool:
        """Skip bytes that are no frame; return False where another file begins."""
        if head.startswith((b"TAG", b"ID3", b"APETAGEX", b"LYRICS")) or MARKS.match(head):
            return False
        at = 1
        while at < len(head) - 4:
            found = head.find(b"\xff", at)
            if found < 0 or found >= len(head) - 4:
                at = len(head) - 4
                break
            if is_mpeg(head[found:]):
                at = found
                break
            at = found + 1
        mark = MARKS.search(head, 1)
        at = min(max(at, 1), mark.start() if mark else len(head))
        skipped = self._stream.skip(at if len(head) == _LARGEST_FRAME or at < len(head) - 4 else len(head))
        # Padding of zeros holds no sound.
        if last is not None and any(head[:skipped]):
            self.skipped_seconds += 8 * skipped / last.bitrate
        return True


def _is_info(frame: bytes) -> bool:
    """Whether a frame holds an encoder's settings, which stand at the beginning of a file."""
    return any(frame[at : at + 4] in _INFO for at in (13, 21, 36)) or frame[36:40] == b"VBRI"


def _count(frame: bytes) -> int:
    """Return the number of frames that an encoder's settings state; 0 for unknown."""
    at = next((at for at in (13, 21, 36) if frame[at : at + 4] in _INFO), 0)
    known = at and int.from_bytes(frame[at + 4 : at + 8], "big") & 1
    return int.from_bytes(frame[at + 8 : at + 12], "big") if known else 0
