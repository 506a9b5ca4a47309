"""Formats by their first bytes; never by a name."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from edge_runtime.sources.decoding.mpeg_frames import is_mpeg

LONGEST_MARK = 28
"""Bytes that `MARKS` may take."""
HEAD = 4096
"""Bytes that `recognise` looks at."""

MARKS = re.compile(
    rb"RIF[FX]....WAVE|(?:RF64|BW64)....WAVE|FORM....AIF[FC]"
    rb"|riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"
    rb"|\.snd\0\0......\0\0\0[\x01-\x1b]\0[\0-\x0b]..\0\0\0[\x01-\x40]"
    rb"|#!AMR(?:-WB)?\n|caff\0\x01\0\0desc|Creative Voice File\x1a|NIST_1A\n"
    rb"|fLaC[\0\x80]\0\0\x22"
    rb"|OggS\0[\x02\x03\x06\x07]\0\0\0\0\0\0\0\0",
    re.DOTALL,
)
"""Beginnings of files that are too long to occur in audio data: in a stream, the next file begins there."""


UNCOMPRESSED_MARKS = re.compile(MARKS.pattern[: MARKS.pattern.index(rb"|fLaC")], re.DOTALL)
"""Those of `MARKS` that no container of compressed audio holds in itself."""


_WORDS = (b"WAVE", b"AIF", b"riff", b".snd", b"fLaC", b"OggS", b"#!AMR", b"caff", b"Creative", b"NIST_1A")
"""One of them is in each of `MARKS`: searching for words takes a tenth of the time."""


def find_mark(data: bytes, start: int = 0) -> int | None:
    """Return where the first of `MARKS` begins, from ``start`` on; None if there is none."""
    if not any(word in data for word in _WORDS):
        return None
    mark = MARKS.search(data, start)
    return mark.start() if mark else None


class Format(NamedTuple):
    """A recognised format.

    Attributes:
        name: as it is called in messages.
        reader: ``pcm``, ``flac``, ``ogg``, ``mpeg`` (decoded here), ``library`` (libsndfile reads such files),
            ``pyav`` (needs PyAV), ``refused`` (no audio).
        advice: what to do about a refused one.
    """

    name: str
    reader: str
    advice: str = "give a recording"


_PICTURE = "give the recording, not a picture"
_UNPACK = "unpack it, and give the recording in it"
_SIGNATURES: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"fLaC", Format("FLAC", "flac")),
    (0, b"OggS", Format("Ogg", "ogg")),
    (0, b".snd", Format("AU", "pcm")),
    (0, b"dns.", Format("AU", "pcm")),
    (0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", Format("W64", "pcm")),
    (4, b"ftyp", Format("MP4 (M4A, AAC)", "pyav")),
    (4, b"moov", Format("QuickTime", "pyav")),
    (0, b"\x1a\x45\xdf\xa3", Format("WebM or Matroska", "pyav")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Format("WMA (ASF)", "pyav")),
    (0, b"#!AMR", Format("AMR", "pyav")),
    (0, b"FLV\x01", Format("Flash video", "pyav")),
    (0, b"\0\0\x01\xba", Format("MPEG video", "pyav")),
    (0, b"wvpk", Format("WavPack", "pyav")),
    (0, b"MAC ", Format("Monkey's Audio", "pyav")),
    (0, b"TTA1", Format("True Audio", "pyav")),
    (0, b"DSD ", Format("DSD", "pyav")),
    (0, b"FRM8", Format("DSDIFF", "pyav")),
    (0, b"MPCK", Format("Musepack", "pyav")),
    (0, b"MP+", Format("Musepack", "pyav")),
    (0, b".RMF", Format("RealMedia", "pyav")),
    (0, b"\x0b\x77", Format("AC-3", "pyav")),
    (0, b"\x7f\xfe\x80\x01", Format("DTS", "pyav")),
    (0, b"caff\0\x01", Format("CAF", "library")),
    (0, b"Creative Voice File\x1a", Format("VOC", "library")),
    (0, b"NIST_1A\n", Format("NIST Sphere", "library")),
    *((0, bytes((0x64, 0xA3, number, 0)), Format("IRCAM", "library")) for number in (1, 2, 3, 4)),
    *((0, bytes((0, number, 0xA3, 0x64)), Format("IRCAM", "library")) for number in (1, 2, 3, 4)),
    (0, b"PVF1\n", Format("PVF", "library")),
    (0, b"2BIT", Format("AVR", "library")),
    (0, b"\x89PNG\r\n\x1a\n", Format("a PNG image", "refused", _PICTURE)),
    (0, b"\xff\xd8\xff", Format("a JPEG image", "refused", _PICTURE)),
    (0, b"GIF8", Format("a GIF image", "refused", _PICTURE)),
    (0, b"II*\0", Format("a TIFF image", "refused", _PICTURE)),
    (0, b"MM\0*", Format("a TIFF image", "refused", _PICTURE)),
    (0, b"\0\0\x01\0\x01\0", Format("an icon", "refused", _PICTURE)),
    (0, b"%PDF", Format("a PDF document", "refused")),
    (0, b"PK\x03\x04", Format("a ZIP archive", "refused", _UNPACK)),
    (0, b"PK\x05\x06", Format("an empty ZIP archive", "refused")),
    (0, b"\x1f\x8b", Format("gzip data", "refused", _UNPACK)),
    (0, b"BZh", Format("bzip2 data", "refused", _UNPACK)),
    (0, b"\xfd7zXZ\0", Format("xz data", "refused", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Format("Zstandard data", "refused", _UNPACK)),
    (0, b"\x04\x22\x4d\x18", Format("LZ4 data", "refused", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Format("a 7-Zip archive", "refused", _UNPACK)),
    (0, b"Rar!\x1a\x07", Format("a RAR archive", "refused", _UNPACK)),
    (257, b"ustar", Format("a tar archive", "refused", _UNPACK)),
    (0, b"\x7fELF", Format("a program", "refused")),
    (0, b"MZ\x90\0", Format("a program", "refused")),
    (0, b"SQLite format 3\0", Format("an SQLite database", "refused")),
    (0, b"\x89HDF\r\n\x1a\n", Format("an HDF5 file", "refused")),
    (0, b"\x93NUMPY", Format("a NumPy array", "refused", "write it as audio with soundfile.write")),
    (0, b"MThd", Format("MIDI", "refused", "it holds notes and no sound; give a recording")),
    (1, b"\r\r\n", Format("a compiled Python program", "refused")),
    (0, b"MATLAB 5.0 MAT-file", Format("a MATLAB file", "refused", "write it as audio with audiowrite")),
    (0, b" paf", Format("PAF", "library")),
    (0, b"fap ", Format("PAF", "library")),
    (0, b"ALawSoundFile**", Format("Psion WVE", "library")),
    (0, b"Extended Instrument:", Format("XI", "library")),
)
_RIFF = {
    b"WAVE": Format("WAV", "pcm"),
    b"AVI ": Format("AVI", "pyav"),
    b"WEBP": Format("a WebP image", "refused", _PICTURE),
    b"RMID": Format("MIDI", "refused", "it holds notes and no sound; give a recording"),
}
_OTHER_RIFF = Format("a RIFF file without audio", "refused")
_FORM = {
    b"AIFF": Format("AIFF", "pcm"),
    b"AIFC": Format("AIFF", "pcm"),
    b"8SVX": Format("8SVX", "library"),
    b"16SV": Format("16SV", "library"),
    b"ILBM": Format("an IFF image", "refused", _PICTURE),
}
_STARTS = re.compile(
    rb"\xff[\xe0-\xff][\x10-\xef]|ID3[\x02-\x04]\0|\0\0\0.ftyp|\x1a\x45\xdf\xa3[\x01\x40-\xff].{0,40}(?:webm|matroska)",
    re.DOTALL,
)
SURE = 4
"""Consecutive frame headers that other data does not hold by chance."""
_PICKLE = re.compile(
    rb"\x80[\x04\x05]\x95.{6}\0\0|\x80[\x02-\x05](?:[\]}]q\0|[\]}]\x94|c[a-z_.]{3}|X.{2}\0\0|[(KMJG]..?[qX.\x94])",
    re.DOTALL,
)
_LFS = b"version https://git-lfs.github.com/spec/"
_ASCII_SHARE = 0.7
"""Of a text in an older encoding than UTF-8."""
_BLANKS = b" \t\r\n"
_BLANK_SHARE = 0.05
"""Of a text in another alphabet; audio of 8 bits without control characters is quiet, and far from them."""
MPEG = Format("MP3", "mpeg")
AAC = Format("AAC", "pyav")
TRANSPORT_STREAM = Format("an MPEG transport stream", "pyav")


def recognise(head: bytes) -> Format | None:
    """Return the format of a stream by its first bytes, up to `HEAD` of them; None for an unknown one."""
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _RIFF.get(head[8:12], _RIFF[b"WAVE"] if len(head) < 12 else _OTHER_RIFF)
    if kind == b"FORM":
        return _FORM.get(head[8:12])
    found = next((form for at, mark, form in _SIGNATURES if head[at : at + len(mark)] == mark), None)
    if found:
        return found
    if _PICKLE.match(head):
        return Format("a Python pickle", "refused")
    if head[:2] == b"BM" and int.from_bytes(head[6:10], "little") == 0 and 14 <= _little(head, 10) < 4096:
        return Format("a BMP image", "refused", _PICTURE)
    if is_transport_stream(head):
        return TRANSPORT_STREAM
    if is_adts(head):
        return AAC
    return MPEG if is_mpeg(head) else text_format(head)


def _little(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 4], "little")


def adts_size(head: bytes) -> int:
    """Return the size of the frame of AAC (ADTS) that begins with these seven bytes; 0 if none does."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or (head[2] >> 2) & 0xF > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size >= 7 else 0


def is_adts(head: bytes, count: int = 2, *, sure: bool = False) -> bool:
    """Whether ``count`` frames of AAC (ADTS) begin here, or as many as the rest holds if that need not be ``sure``."""
    at = 0
    for _ in range(count):
        frame = head[at : at + 7]
        if len(frame) < 7:
            return not sure and at > 0
        if not (size := adts_size(frame)):
            return False
        at += size
    return True


def is_transport_stream(head: bytes) -> bool:
    """Whether the packets of an MPEG transport stream begin here."""
    return len(head) >= 565 and all(transport_size(head[at : at + 1]) for at in (0, 188, 376, 564))


def transport_size(head: bytes) -> int:
    """Return the size of the packet of an MPEG transport stream that begins here; 0 if none does."""
    return 188 if head[:1] == b"\x47" else 0


def next_file(data: bytes, start: int = 0) -> int | None:
    """Return where the next file begins in the midst of other data; None if none is certain."""
    mark = find_mark(data, start)
    end = len(data) if mark is None else mark
    for found in _STARTS.finditer(data, start, end):
        at = found.start()
        head = data[at : at + HEAD]
        if head[:1] != b"\xff" or is_mpeg(head, SURE, sure=True) or is_adts(head, SURE, sure=True):
            return at
    return mark


_SHORT_MARKS = ("MP3", "AAC", "AC-3", "a BMP image", "a GIF image", "gzip data", "bzip2 data", "Musepack")


def begins_a_file(head: bytes) -> bool:
    """Whether another file begins here, or anything else that is certainly no audio of the one before."""
    if MARKS.match(head) or is_mpeg(head, SURE, sure=True) or is_adts(head, SURE, sure=True):
        return True
    found = recognise(head)
    # Two bytes of a frame header occur in any audio.
    return found is not None and found.name not in _SHORT_MARKS


def _is_utf16(head: bytes) -> bool:
    """Whether bytes are a text in UTF-16 or UTF-32: with a mark, or else one in Latin letters with blanks."""
    marked = head[:2] in (b"\xff\xfe", b"\xfe\xff") or head[:4] == b"\0\0\xfe\xff"
    if len(head) < 16:
        return False
    if marked and head[2:16].count(0) >= 5:
        return True
    big = head[:2] == b"\xfe\xff" or (not marked and head[0] == 0)
    text = head[: len(head) // 2 * 2].decode("utf-16-be" if big else "utf-16-le", "replace")
    # The last character may be cut.
    if not all(each.isprintable() or each in "\t\r\n\ufeff" for each in text[:-1]):
        return False
    return marked or (max(text) < "\u0180" and sum(each in " \t\r\n,;" for each in text) >= _BLANK_SHARE * len(text))


def text_format(head: bytes) -> Format | None:
    """Return what a text is, or None for bytes that are no text."""
    if head.startswith(_LFS):
        return Format(
            "a Git LFS pointer and not the recording itself", "refused", "run: git lfs pull, and give the file again"
        )
    if _is_utf16(head):
        return Format("a text (UTF-16)", "refused")
    controls = sum(byte < 0x20 and byte not in b"\t\n\v\f\r\x1b" for byte in head)
    if len(head) < 4 or controls:
        return None
    try:
        # The last character may be cut.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        ascii_share = sum(byte < 0x80 for byte in head) / len(head)
        blank_share = sum(byte in _BLANKS for byte in head) / len(head)
        old = ascii_share >= _ASCII_SHARE or (len(head) >= 64 and blank_share >= _BLANK_SHARE)
        text = head.decode("latin-1") if old else ""
    if not text:
        return None
    start = text.lstrip("\ufeff \r\n\t").lower()
    if start.startswith(("<!doctype html", "<html")):
        return Format("a web page", "refused", "it may be an error message of a download; get the recording again")
    return Format("a text", "refused")
