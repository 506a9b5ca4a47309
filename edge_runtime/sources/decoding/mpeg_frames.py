"""Headers of MPEG audio frames (MP1, MP2, MP3)."""

from __future__ import annotations

from typing import NamedTuple

_RATES = (44_100, 48_000, 32_000)
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by version (2 stands for 2.5 too) and layer, for the indices from 1 on."""


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


def is_mpeg(head: bytes, count: int = 2, *, sure: bool = False) -> bool:
    """Whether ``count`` frames of MPEG audio begin here, or as many as the rest holds if that need not be ``sure``."""
    first = frame_header(head)
    if first is None:
        return False
    at = first.size
    for _ in range(count - 1):
        if len(head) < at + 4:
            return not sure and len(head) >= first.size
        header = frame_header(head[at : at + 4])
        if header is None or (header.rate, header.layer) != (first.rate, first.layer):
            return False
        at += header.size
    return True
