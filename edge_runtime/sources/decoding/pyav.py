"""PyAV (FFmpeg) as a decoder: of what libsndfile cannot read, and of network sources."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError, MissingPartError
from edge_runtime.extras import missing_modules
from edge_runtime.sources.decoding.byte_stream import IN_MEMORY, ByteStream, seekable_part
from edge_runtime.sources.decoding.formats import (
    AAC,
    HEAD,
    LONGEST_MARK,
    TRANSPORT_STREAM,
    UNCOMPRESSED_MARKS,
    adts_size,
    begins_a_file,
    transport_size,
)
from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.decoding.mp4 import Mp4Section, index_comes_first, length_of_file

_PIECE = 1 << 12
_FRAME_HEAD = 7
_SEARCHED = 1 << 20
_ESTIMATED = ("aac", "ac3", "eac3", "mp3", "amr", "dts", "mpegts", "mpeg", "loas", "latm")
_SEEKING = ("WavPack", "Monkey's Audio", "True Audio")
"""Formats that FFmpeg reads with seeking only."""
_FRAME_SIZES = {AAC.name: adts_size, TRANSPORT_STREAM.name: transport_size}
"""Formats of frames, which end where another file follows a frame."""
CONNECT_SECONDS = 10.0
_READ_SECONDS = 20.0
_DAMAGED = 100
_REST_SECONDS = 0.1
_PROTOCOLS = "http,https,tls,tcp,udp,rtp,rtsp,crypto,httpproxy"
"""Of an address. A hostile playlist must not make the device open its own files."""
_NO_PROTOCOLS = "none"
"""Of a file or pipe: FFmpeg looks for formats itself, and may find a session description (SDP) that names addresses."""


def require(name: str, form: str, pipe: str) -> None:
    """Check that PyAV is installed.

    Args:
        name: of the source.
        form: what the source is.
        pipe: a command that decodes it with ffmpeg instead.

    Raises:
        MissingPartError: it is not.
    """
    if missing_modules("decode"):
        raise MissingPartError(
            f'{name}: is {form}, which needs an extra; run: pip install "edgeemo[decode]", or decode it with: {pipe}'
        )


def decode_stream(
    stream: ByteStream, name: str, form: str, ledger: Ledger, size: int | None = None
) -> Iterator[Frames]:
    """Decode the first audio stream of the container that begins here.

    Args:
        stream: the bytes.
        name: of the source.
        form: what the container is.
        ledger: the account.
        size: bytes of the container; None for all up to the beginning of an uncompressed file.

    Raises:
        EdgeemoError: it cannot be opened, or holds no audio.
    """
    if stream.peek(8)[4:] == b"ftyp":
        yield from decode_container(_mp4(stream, name, form), name, form, ledger)
        return
    frame_size = _FRAME_SIZES.get(form)
    if (stream.seekable is not None and frame_size is None) or form in _SEEKING:
        if size is None and stream.seekable is not None:
            size = _distance_to_mark(stream)
        yield from decode_container(seekable_part(stream, size, name, form), name, form, ledger)
        return
    section = _Section(stream, size, frame_size)
    yield from decode_container(cast("BinaryIO", section), name, form, ledger)
    while section.read(1 << 16):
        pass


def _mp4(stream: ByteStream, name: str, form: str) -> BinaryIO:
    """Return the next MP4 file: as it comes where its index is first, and else as a whole."""
    if stream.seekable is not None:
        return seekable_part(stream, length_of_file(stream), name, form)
    section = Mp4Section(stream)
    if index_comes_first(stream):
        return cast("BinaryIO", section)
    content = bytearray()
    while piece := section.read():
        content += piece
        if len(content) > IN_MEMORY:
            raise EdgeemoError(
                f"{name}: is {form} whose index stands behind {IN_MEMORY >> 20} MB of audio; give the file itself by "
                "--source FILE instead of a pipe"
            )
    return io.BytesIO(content)


def _distance_to_mark(stream: ByteStream) -> int | None:
    """Return the bytes up to the beginning of another, uncompressed file in a file that can seek; None without one."""
    start = stream.position
    stream.skip(1)
    while ahead := stream.peek(_SEARCHED):
        mark = UNCOMPRESSED_MARKS.search(ahead)
        at = stream.position + (mark.start() if mark else 0)
        if mark or len(ahead) < _SEARCHED:
            stream.move_to(start)
            return at - start if mark else None
        stream.skip(_SEARCHED - LONGEST_MARK)
    stream.move_to(start)
    return None


class _Section:
    """The bytes of one file of a stream, without seeking.

    Args:
        stream: the bytes.
        size: how many they are; None for all up to the beginning of an uncompressed file.
        frame_size: the size of the frame that begins with some bytes, or 0; another file ends a chain of frames.
    """

    def __init__(self, stream: ByteStream, size: int | None, frame_size: Callable[[bytes], int] | None) -> None:
        self._stream = stream
        self._frame_size = frame_size
        self._in_frame = 0
        self._left = size
        self._first = 1
        self._ended = False

    def read(self, size: int) -> bytes:
        if self._ended:
            return b""
        wanted = min(size, _PIECE)
        if self._left is not None:
            data = self._stream.read(min(wanted, self._left))
            self._left -= len(data)
            return data
        if self._frame_size is not None and not self._in_frame:
            self._in_frame = self._frame_size(self._stream.peek(_FRAME_HEAD))
            if not self._in_frame and begins_a_file(self._stream.peek(HEAD)):
                self._ended = True
                return b""
            if not self._in_frame:
                # Damage: FFmpeg finds the next frame.
                self._frame_size = None
        if self._in_frame:
            data = self._stream.read(min(wanted, self._in_frame))
            self._in_frame -= len(data)
            return data
        mark = UNCOMPRESSED_MARKS.search(self._stream.peek(wanted + LONGEST_MARK), self._first)
        if mark and mark.start() < wanted:
            self._ended = True
            wanted = mark.start()
        self._first = 0
        return self._stream.read(wanted)


def decode_address(address: str, name: str, ledger: Ledger) -> Iterator[Frames]:
    """Decode an ``http``, ``https`` or ``rtsp`` address.

    Raises:
        EdgeemoError: it cannot be reached or read in time, or holds no audio.
    """
    yield from decode_container(address, name, "a network source", ledger)


def decode_container(what: BinaryIO | str, name: str, form: str, ledger: Ledger) -> Iterator[Frames]:
    """Decode the first audio stream of a file or of an address.

    Raises:
        EdgeemoError: it cannot be opened, or holds no audio.
    """
    import av

    remote = isinstance(what, str)
    timeout = (CONNECT_SECONDS, _READ_SECONDS) if remote else None
    options = {"protocol_whitelist": _PROTOCOLS if remote else _NO_PROTOCOLS}
    if remote and str(what).lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    try:
        container: Any = av.open(cast("Any", what), mode="r", timeout=timeout, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise EdgeemoError(f"{name}: {_cannot_open(form, error, remote=remote)}") from error
    with container:
        audio = next(iter(container.streams.audio), None)
        if audio is None:
            raise EdgeemoError(f"{name}: is {form} without an audio stream; give a recording with sound")
        before, failure = ledger.missing, ""
        times = _Times()
        try:
            for frame in _decoded_frames(container, audio, ledger):
                frames = Frames(samples_of(frame), int(frame.sample_rate), frame.format.name.startswith(("flt", "dbl")))
                times.add(frame, len(frames.samples) / frames.rate)
                yield frames
        except (av.FFmpegError, OSError, ValueError) as error:
            failure = f"{'the connection was lost' if remote else 'it is damaged'}: {_reason(error)}"
        duration = _duration(container, audio)
        if failure and not (remote and 0 < duration <= times.decoded + _REST_SECONDS):
            # FFmpeg takes the end of an answer without a length for an error.
            ledger.failed(failure)
        # Packets that cannot be decoded are in both.
        missing = ledger.missing - before
        ledger.promised(max(times.span, duration) - missing, times.decoded, "its header")


class _Times:
    """The span of the time stamps of frames, and the duration of their samples, in seconds."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._end = 0.0
        self.decoded = 0.0

    def add(self, frame: Any, seconds: float) -> None:
        self.decoded += seconds
        if frame.pts is None or not frame.time_base:
            return
        at = float(frame.pts * frame.time_base)
        self._begin = at if self._begin is None else self._begin
        self._end = max(self._end, at + seconds)

    @property
    def span(self) -> float:
        return 0.0 if self._begin is None else self._end - self._begin


def _decoded_frames(container: Any, audio: Any, ledger: Ledger) -> Iterator[Any]:
    import av

    damaged = 0
    for packet in container.demux(audio):
        try:
            decoded = packet.decode()
        except av.InvalidDataError:
            damaged += 1
            seconds = float(packet.duration * packet.time_base) if packet.duration and packet.time_base else 0.02
            ledger.lost(seconds, "some packets cannot be decoded")
            if damaged > _DAMAGED:
                raise
            continue
        yield from decoded


def samples_of(frame: Any) -> npt.NDArray[np.float32]:
    """Return a frame of PyAV as ``[S, C]``."""
    values = np.asarray(frame.to_ndarray())
    channels = len(frame.layout.channels)
    planar = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if planar.dtype.kind == "f":
        return np.ascontiguousarray(planar, dtype=np.float32)
    half = 2.0 ** (8 * planar.dtype.itemsize - 1)
    centre = half if planar.dtype.kind == "u" else 0.0
    return np.ascontiguousarray((planar.astype(np.float64) - centre) / half, dtype=np.float32)


def _duration(container: Any, audio: Any) -> float:
    """Return the duration by the header; 0 where there is none, or where FFmpeg estimates it by the bit rate."""
    if audio.duration and audio.time_base and container.format.name not in _ESTIMATED:
        return float(audio.duration * audio.time_base)
    if container.duration and "matroska" in container.format.name:
        return float(container.duration) / 1e6
    return 0.0


def _cannot_open(form: str, error: Exception, *, remote: bool) -> str:
    if remote:
        return f"cannot be opened ({_reason(error)}); check the address, and that this machine can reach it"
    return f"is {form} that cannot be decoded ({_reason(error)}); get the recording again"


def _reason(error: Exception) -> str:
    if type(error).__name__ == "ExitError":
        return "it does not answer in time"
    text = getattr(error, "strerror", "") or str(error) or type(error).__name__
    if str(text).startswith("Error number") or isinstance(error, BlockingIOError):
        # FFmpeg has no words for it.
        return "invalid data"
    return " ".join(str(text).split())[:200]
