"""Frames of MPEG audio (MP1, MP2, MP3): where each file in a stream begins and ends, and how long it is."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.formats import begins_a_file, find_mark
from edge_runtime.sources.decoding.mpeg_frames import FrameHeader, frame_header, is_mpeg

_LARGEST_FRAME = 4096
_INFO = (b"Xing", b"Info")
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")


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
        self._zeros = 0.0

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
            self._count_zeros()
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
        rest = head[header.size :]
        return len(rest) < 4 or frame_header(rest) is not None or rest.startswith(_TAGS) or begins_a_file(rest)

    def _resynchronise(self, head: bytes, last: FrameHeader | None) -> bool:
        """Skip bytes that are no frame; return False where another file begins."""
        if head.startswith(_TAGS) or begins_a_file(head):
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
        mark = find_mark(head, 1)
        at = min(max(at, 1), len(head) if mark is None else mark)
        skipped = self._stream.skip(at if len(head) == _LARGEST_FRAME or at < len(head) - 4 else len(head))
        if last is not None:
            seconds = 8 * skipped / last.bitrate
            # Zeros at the end are padding.
            self._zeros += seconds
            if any(head[:skipped]):
                self._count_zeros()
        return True

    def _count_zeros(self) -> None:
        self.skipped_seconds += self._zeros
        self._zeros = 0.0


def _is_info(frame: bytes) -> bool:
    """Whether a frame holds an encoder's settings, which stand at the beginning of a file."""
    return any(frame[at : at + 4] in _INFO for at in (13, 21, 36)) or frame[36:40] == b"VBRI"


def _count(frame: bytes) -> int:
    """Return the number of frames that an encoder's settings state; 0 for unknown."""
    at = next((at for at in (13, 21, 36) if frame[at : at + 4] in _INFO), 0)
    known = at and int.from_bytes(frame[at + 4 : at + 8], "big") & 1
    return int.from_bytes(frame[at + 8 : at + 12], "big") if known else 0
