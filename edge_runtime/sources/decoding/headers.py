"""Headers of uncompressed audio: WAV (RIFF, RIFX, RF64), W64, AU and AIFF."""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.samples import Encoding

_LARGEST_CHUNK = 64 << 20
"""A chunk before the audio that claims more is damage."""
PLACEHOLDER = 0x7FFF0000
"""Recorders that write into a pipe set the length to (about) the largest number."""
_LINEAR, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_W64_FORMAT = b"fmt \xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"

Chunks = Literal["riff", "aiff", "none"]

KNOWN_CHUNKS = frozenset(
    b"LIST,id3 ,ID3 ,cue ,fact,bext,smpl,inst,JUNK,junk,PAD ,FLLR,iXML,axml,cart,_PMX,acid,plst,DISP,PEAK,umid,minf,"
    b"elm1,regn,SNDM,afsp,chna,LGWV,strc,Xtra,MD5 ,IDIT,ResU,INFO,NAME,AUTH,ANNO,(c) ,MARK,INST,COMT,APPL,MIDI,AESD,"
    b"ovwf,cue,data,SSND,PAD,dbmd,note,labl,levl,link,fmt ,ds64,FVER,COMM".split(b",")
)


def padding(size: int, ahead: bytes) -> int:
    """Return the bytes between a chunk and the next one, of which five bytes are ``ahead``.

    Chunks begin at even places; some writers leave out the byte that fills an odd one.
    """
    return 0 if ahead[:4] in KNOWN_CHUNKS else size % 2


class PcmHeader(NamedTuple):
    """The header of uncompressed audio.

    Attributes:
        name: of the format.
        rate: samples per second.
        channels: number of channels.
        encoding: of the samples; None for a compressed one.
        size: bytes of audio that the header claims; None for unknown.
        chunks: what may follow the audio.
        big: whether the numbers of chunks are big-endian.
        code: number or name of a compressed encoding.
        rest: bytes from the first sample to the end of the file that the header claims; None for unknown.
        block: bytes and samples of a block of a compressed encoding; 0 for unknown.
    """

    name: str
    rate: int
    channels: int
    encoding: Encoding | None
    size: int | None
    chunks: Chunks = "none"
    big: bool = False
    code: str = ""
    rest: int | None = None
    block: tuple[int, int] = (0, 0)


class Recorder:
    """Reads a header and keeps its bytes, so that they can be put back."""

    def __init__(self, stream: ByteStream, name: str, form: str) -> None:
        self._stream = stream
        self._where = f"{name}: is {form}"
        self.read_bytes = bytearray()

    def take(self, size: int) -> bytes:
        """Return ``size`` bytes.

        Raises:
            EdgeemoError: the stream ends, or the size is absurd.
        """
        if size > _LARGEST_CHUNK:
            raise self.error(f"a part of its header claims {size} bytes")
        data = self._stream.read(size)
        self.read_bytes += data
        if len(data) < size:
            raise self.error("it ends within its header")
        return data

    def take_chunk(self, size: int) -> bytes:
        """Return a chunk of ``size`` bytes, and take what fills it to an even size.

        Raises:
            EdgeemoError: as `take`.
        """
        content = self.take(size)
        self.take(padding(size, self._stream.peek(5)))
        return content

    def rest(self, claimed: int) -> int | None:
        """Return the bytes that are left of a file that claims so many after its first eight."""
        known = _known(claimed)
        return None if known is None else max(0, known + 8 - len(self.read_bytes))

    def error(self, why: str) -> EdgeemoError:
        """Return the error for a header that cannot be read."""
        return EdgeemoError(f"{self._where} whose header cannot be read ({why}); get the recording again")


def read_header(stream: ByteStream, name: str) -> tuple[PcmHeader, bytes]:
    """Read the header of a stream up to its first sample.

    Returns:
        The header, and the bytes that it took.

    Raises:
        EdgeemoError: it is damaged, or names an encoding that is no PCM without a way to decode it.
    """
    kind = stream.peek(4)
    if kind in (b".snd", b"dns."):
        recorder = Recorder(stream, name, "AU")
        return _au(recorder), bytes(recorder.read_bytes)
    if kind == b"FORM":
        recorder = Recorder(stream, name, "AIFF")
        return _aiff(recorder), bytes(recorder.read_bytes)
    if kind == b"riff":
        recorder = Recorder(stream, name, "W64")
        return _w64(recorder), bytes(recorder.read_bytes)
    recorder = Recorder(stream, name, "WAV")
    return _wav(recorder), bytes(recorder.read_bytes)


def _known(size: int, largest: int = PLACEHOLDER) -> int | None:
    return size if 0 < size < largest else None


def _wav(recorder: Recorder) -> PcmHeader:
    start = recorder.take(12)
    big = start[:4] == b"RIFX"
    order = ">" if big else "<"
    form: _Form | None = None
    long_size: int | None = None
    while True:
        kind = recorder.take(4)
        size = int(struct.unpack(f"{order}I", recorder.take(4))[0])
        if kind == b"data":
            break
        content = recorder.take_chunk(size)
        if kind == b"ds64" and size >= 16:
            long_size = int(struct.unpack("<Q", content[8:16])[0])
        if kind == b"fmt ":
            form = _format_chunk(recorder, content, order)
    if form is None:
        raise recorder.error("the format of its samples is missing")
    channels, rate, encoding, code, block = form
    claimed = _known(size)
    if size == 0xFFFFFFFF and long_size is not None:
        claimed = _known(long_size, 1 << 62)
    rest = recorder.rest(struct.unpack(f"{order}I", start[4:8])[0])
    return PcmHeader("WAV", rate, channels, encoding, claimed, "riff", big, code, rest, block)


_Form = tuple[int, int, Encoding | None, str, tuple[int, int]]


def _format_chunk(recorder: Recorder, content: bytes, order: str) -> _Form:
    if len(content) < 16:
        raise recorder.error("the format of its samples is cut off")
    tag, channels, rate, _, frame, bits = struct.unpack(f"{order}HHIIHH", content[:16])
    if tag == _EXTENSIBLE and len(content) >= 26:
        tag = struct.unpack(f"{order}H", content[24:26])[0]
    size = frame // channels if channels and frame % channels == 0 else 0
    if not (bits + 7) // 8 <= size <= 8:
        size = (bits + 7) // 8
    samples = struct.unpack(f"{order}H", content[18:20])[0] if len(content) >= 20 else 0
    return channels, rate, _encoding(tag, size, order == ">"), f"encoding {tag}", (frame, samples)


def _encoding(tag: int, size: int, big: bool) -> Encoding | None:
    if tag == _LINEAR and size in (1, 2, 3, 4):
        return Encoding("u" if size == 1 else "s", size, big)
    if tag == _FLOAT and size in (4, 8):
        return Encoding("f", size, big)
    if tag in (_ALAW, _MULAW):
        return Encoding("alaw" if tag == _ALAW else "mulaw", 1)
    return None


def _w64(recorder: Recorder) -> PcmHeader:
    recorder.take(40)
    form = None
    while True:
        kind = recorder.take(16)
        size = int(struct.unpack("<Q", recorder.take(8))[0]) - 24
        if kind == _W64_DATA:
            break
        if size < 0:
            raise recorder.error("a part of its header has no length")
        content = recorder.take((size + 7) // 8 * 8)
        if kind == _W64_FORMAT:
            form = _format_chunk(recorder, content, "<")
    if form is None:
        raise recorder.error("the format of its samples is missing")
    channels, rate, encoding, code, _ = form
    return PcmHeader("W64", rate, channels, encoding, _known(size, 1 << 60), code=code)


_AU = {
    1: Encoding("mulaw", 1),
    2: Encoding("s", 1),
    3: Encoding("s", 2, True),
    4: Encoding("s", 3, True),
    5: Encoding("s", 4, True),
    6: Encoding("f", 4, True),
    7: Encoding("f", 8, True),
    27: Encoding("alaw", 1),
}


def _au(recorder: Recorder) -> PcmHeader:
    big = recorder.take(4) == b".snd"
    offset, size, code, rate, channels = struct.unpack(f"{'>' if big else '<'}5I", recorder.take(20))
    if offset < 24:
        raise recorder.error(f"its audio begins at byte {offset}")
    recorder.take(offset - 24)
    encoding = _AU.get(code)
    encoding = encoding._replace(big=big) if encoding else None
    return PcmHeader("AU", rate, channels, encoding, _known(size), code=f"encoding {code}")


def _aiff(recorder: Recorder) -> PcmHeader:
    start = recorder.take(12)
    form: tuple[int, int, Encoding | None, str] | None = None
    while True:
        kind = recorder.take(4)
        size = int(struct.unpack(">I", recorder.take(4))[0])
        if kind == b"SSND":
            break
        content = recorder.take_chunk(size)
        if kind == b"COMM":
            form = _comm(recorder, content)
    offset = int(struct.unpack(">I", recorder.take(8)[:4])[0])
    recorder.take(offset)
    if form is None:
        raise recorder.error("the format of its samples is missing before the audio")
    channels, rate, encoding, code = form
    rest = recorder.rest(int(struct.unpack(">I", start[4:8])[0]))
    return PcmHeader("AIFF", rate, channels, encoding, _known(size - 8 - offset), "aiff", True, code, rest)


def _comm(recorder: Recorder, content: bytes) -> tuple[int, int, Encoding | None, str]:
    if len(content) < 18:
        raise recorder.error("the format of its samples is cut off")
    channels, _, bits = struct.unpack(">HIH", content[:8])
    exponent, mantissa = struct.unpack(">HQ", content[8:18])
    exponent &= 0x7FFF
    # An 80-bit float; anything beyond 32 bits is no rate.
    rate = mantissa >> (16383 + 63 - exponent) if 0 <= 16383 + 63 - exponent < 64 else 0
    kind = content[18:22] if len(content) >= 22 else b"NONE"
    size = (bits + 7) // 8
    linear = Encoding("s", size, True) if size in (1, 2, 3, 4) else None
    encoding = {
        b"NONE": linear,
        b"twos": linear,
        b"sowt": Encoding("s", size) if size in (1, 2, 3, 4) else None,
        b"raw ": Encoding("u", 1),
        b"in24": Encoding("s", 3, True),
        b"in32": Encoding("s", 4, True),
        **dict.fromkeys((b"fl32", b"FL32"), Encoding("f", 4, True)),
        **dict.fromkeys((b"fl64", b"FL64"), Encoding("f", 8, True)),
        **dict.fromkeys((b"ulaw", b"ULAW"), Encoding("mulaw", 1)),
        **dict.fromkeys((b"alaw", b"ALAW"), Encoding("alaw", 1)),
    }.get(kind)
    return channels, rate, encoding, f"encoding {kind.decode('latin-1').strip()!r}"
