"""What stands around the audio of a file: chunks, tags, other bytes, and files that are cut off or follow it."""

import struct

import numpy as np
import pytest

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import read_audio
from tests.conftest import need
from tests.edge_runtime.sources.sounds import Heard, encoded, encoded_by_pyav, sound

WAV = encoded(sound())
RANDOM = np.random.default_rng(0).bytes
BOTH = pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])


def chunk(kind, content, *, filled=True):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2 if filled else 0)


def riff(*chunks):
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


FORMAT, DATA = WAV[12:36], WAV[36:]


@BOTH
@pytest.mark.parametrize(
    "chunks",
    [
        (FORMAT, chunk(b"LIST", b"INFOabc", filled=False), DATA),
        (chunk(b"JUNK", bytes(28)), FORMAT, DATA),
        (FORMAT, chunk(b"bext", RANDOM(603)), chunk(b"ABCD", RANDOM(200_001)), DATA),
        (FORMAT, DATA, chunk(b"SAUR", RANDOM(60_000))),
        (FORMAT, DATA, chunk(b"_CMT", b"<note>abc</note>" * 1300)),
        (FORMAT, DATA, chunk(b"LIST", b"INFOabc", filled=False), chunk(b"cue ", b"q" * 4001)),
    ],
    ids=["odd", "before", "large and unknown before", "random after", "text after", "odd after"],
)
def test_chunks_are_no_sound(chunks, pipe):
    heard = Heard(riff(*chunks), pipe=pipe)
    assert (heard.error, heard.notices) == ("", [])
    assert np.abs(heard.pcm - sound()).max() < 1e-4


@BOTH
def test_a_length_that_is_too_small_is_not_taken_for_a_chunk(pipe):
    half = chunk(b"data", DATA[8:])[:4] + struct.pack("<I", len(DATA) // 2) + DATA[8:]
    heard = Heard(riff(FORMAT, half), pipe=pipe)
    assert len(heard.pcm) == 48_000
    assert "more follows" in heard.notices[0]


@BOTH
@pytest.mark.parametrize("junk", [bytes(512), b"\n", b"\xef\xbb\xbf", b"HTTP/1.0 200 OK\r\n\r\n", RANDOM(777)])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3"])
def test_bytes_before_a_file_are_skipped_and_told(form, junk, pipe):
    heard = Heard(junk + encoded(sound(), form=form), pipe=pipe)
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.1
    assert heard.notices == [f"x: {len(junk)} bytes before the first header of a file are skipped"]


CUT = {
    "IMA ADPCM": ("WAV", "IMA_ADPCM"),
    "MS ADPCM": ("WAV", "MS_ADPCM"),
    "GSM": ("WAV", "GSM610"),
    "CAF": ("CAF", "PCM_16"),
    "VOC": ("VOC", "PCM_16"),
    "NIST": ("NIST", "PCM_16"),
    "8SVX": ("SVX", "PCM_16"),
}


@BOTH
@pytest.mark.parametrize("kind", CUT)
def test_a_file_that_is_cut_off_is_told(kind, pipe):
    form, subtype = CUT[kind]
    content = encoded(sound(6.0), form=form, subtype=subtype)
    heard = Heard(content[: len(content) * 6 // 10], pipe=pipe)
    assert heard.code == 1
    assert abs(heard.seconds - 3.6) < 0.1
    whole = Heard(content, pipe=pipe)
    assert (whole.error, whole.notices) == ("", [])


@BOTH
@pytest.mark.parametrize("container", ["avi", "wav"])
def test_a_container_that_is_cut_off_is_told(container, pipe):
    need("av")
    content = encoded_by_pyav(container, "libmp3lame", 44_100, seconds=6.0)
    heard = Heard(content[: len(content) * 6 // 10], pipe=pipe)
    assert heard.code == 1
    assert abs(heard.seconds - 3.6) < 0.2


JOINED = {
    "WAV": lambda: WAV,
    "FLAC": lambda: encoded(sound(), form="FLAC"),
    "MP3": lambda: encoded(sound(), form="MP3"),
    "OGG": lambda: encoded(sound(), form="OGG"),
    "ADPCM": lambda: encoded(sound(), subtype="IMA_ADPCM"),
    "CAF": lambda: encoded(sound(), form="CAF", subtype="PCM_16"),
    "VOC": lambda: encoded(sound(), form="VOC", subtype="PCM_16"),
    "M4A": lambda: encoded_by_pyav("ipod", "aac"),
    "AAC": lambda: encoded_by_pyav("adts", "aac"),
    "Matroska": lambda: encoded_by_pyav("matroska", "libopus", 48_000),
    "transport stream": lambda: encoded_by_pyav("mpegts", "mp2", 48_000),
}


@BOTH
@pytest.mark.parametrize("second", JOINED)
@pytest.mark.parametrize("first", JOINED)
def test_joined_files_are_heard_or_told(first, second, pipe):
    need("av")
    heard = Heard(JOINED[first]() + JOINED[second](), pipe=pipe)
    assert heard.code == 1 or abs(heard.seconds - 6.0) < 0.3
    # After a file that states its length, and after frames, each other one is heard; libFLAC reads ahead.
    if first not in ("FLAC", "MP3") or second in ("WAV", "FLAC", "MP3", "OGG", "ADPCM", "CAF", "VOC"):
        assert heard.error == ""


def test_w64_with_adpcm():
    heard = Heard(encoded(sound(), form="W64", subtype="IMA_ADPCM"))
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.06


def test_a_length_beyond_the_longest_file_is_the_end(tmp_path):
    """Found by `test_fuzz.py`: file systems refuse such a position."""
    content = (
        b"caff\0\1\0\0"
        + b"desc"
        + (32).to_bytes(8, "big")
        + struct.pack(">d4sIIIII", 16_000.0, b"lpcm", 0, 2, 1, 1, 16)
    )
    (tmp_path / "x.caf").write_bytes(content + b"free" + ((1 << 50) - 1).to_bytes(8, "big") + bytes(100))
    with pytest.raises(EdgeemoError) as refused:
        read_audio(tmp_path / "x.caf")
    assert "\n" not in refused.value.message
