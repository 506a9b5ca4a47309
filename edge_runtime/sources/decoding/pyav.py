"""PyAV (FFmpeg) as a decoder: of what libsndfile cannot read, and of network sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError, MissingPartError
from edge_runtime.extras import missing_modules
from edge_runtime.sources.decoding.byte_stream import ByteStream, whole_file
from edge_runtime.sources.decoding.ledger import Frames, Ledger

_FAR = 64 << 20
_SEEKING = ("WavPack", "Monkey's Audio", "True Audio")
"""Formats that FFmpeg reads with seeking only."""
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 20.0
_DAMAGED = 100
_PROTOCOLS = "http,https,tls,tcp,udp,rtp,rtsp,crypto,httpproxy"
"""A hostile playlist must not make the device open its own files."""


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


def decode_stream(stream: ByteStream, name: str, form: str, ledger: Ledger) -> Iterator[Frames]:
    """Decode the first audio stream of a container, to the end of the stream of bytes.

    Raises:
        EdgeemoError: it cannot be opened, or holds no audio.
    """
    seeks = form in _SEEKING or (stream.peek(8)[4:] == b"ftyp" and not _index_comes_first(stream))
    if seeks or (stream.seekable is not None and stream.position == 0):
        yield from decode_container(whole_file(stream, name, form), name, form, ledger)
        return
    yield from decode_container(cast("BinaryIO", _Readable(stream)), name, form, ledger)
    stream.skip(1 << 62)


class _Readable:
    """The rest of a stream, without seeking."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, 1 << 12))


def _index_comes_first(stream: ByteStream) -> bool:
    """Whether the box ``moov`` of an MP4 file comes before its audio, ``mdat``."""
    at = 0
    while True:
        head = stream.peek(at + 16)[at:]
        kind, size = head[4:8], int.from_bytes(head[:4], "big")
        if len(head) < 16 or kind in (b"moov", b"moof"):
            return True
        if kind == b"mdat" or size < 8 or at + size > _FAR:
            return False
        at += size


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
    timeout = (_CONNECT_SECONDS, _READ_SECONDS) if remote else None
    options = {"protocol_whitelist": _PROTOCOLS} if remote else {}
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
        decoded = 0.0
        try:
            for frames in _frames(container, audio, ledger):
                decoded += len(frames.samples) / frames.rate
                yield frames
        except (av.FFmpegError, OSError, ValueError) as error:
            ledger.failed(f"{'the connection was lost' if remote else 'it is damaged'}: {_reason(error)}")
        promised = _duration(container, audio)
        if promised is not None:
            ledger.promised(promised, decoded, "its header")


def _frames(container: Any, audio: Any, ledger: Ledger) -> Iterator[Frames]:
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
        for frame in decoded:
            yield Frames(samples_of(frame), int(frame.sample_rate), frame.format.name.startswith(("flt", "dbl")))


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


def _duration(container: Any, audio: Any) -> float | None:
    if audio.duration and audio.time_base:
        return float(audio.duration * audio.time_base)
    return None


def _cannot_open(form: str, error: Exception, *, remote: bool) -> str:
    if remote:
        return f"cannot be opened ({_reason(error)}); check the address, and that this machine can reach it"
    return f"is {form} that cannot be decoded ({_reason(error)}); get the recording again"


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", "") or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
