"""Several files in one stream are all heard, and lengths in headers are not trusted in either direction."""

import struct

import numpy as np
import pytest

from edge_runtime.sources.decoding.audio_file import audio_info
from edge_runtime.sources.recorder import RecordedSource
from tests.conftest import need
from tests.edge_runtime.sources.sounds import Heard, encoded, encoded_by_pyav, size_of, sound, with_size
from tests.laid_out import LaidOut, in_blocks

WAV = encoded(sound())
OTHER = encoded(sound(2.0, 44_100, 2), 44_100)
FORMS = ("WAV", "FLAC", "OGG", "MP3", "AU", "W64", "AIFF", "RF64")


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("second", FORMS)
@pytest.mark.parametrize("first", FORMS)
def test_two_files_of_any_formats_and_rates(first, second, pipe):
    one, two = encoded(sound(2.0), form=first), encoded(sound(1.5, 44_100, 2), 44_100, form=second)
    heard = Heard(one + two, pipe=pipe)
    assert heard.error == ""
    assert abs(heard.seconds - 3.5) < 0.15
    # The second one is as loud as the first.
    assert np.abs(heard.pcm[-8_000:]).max() > 0.15


def test_three_wavs_in_one_stream():
    assert abs(Heard(WAV + OTHER + WAV).seconds - 8.0) < 0.01


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize(
    ("first", "second"),
    # Where a container ends, or an uncompressed file begins.
    [
        *((first, "wav") for first in ("m4a", "m4a in pieces", "webm", "aac")),
        *(("wav", second) for second in ("m4a", "webm", "aac")),
        *(("m4a", "m4a"), ("m4a in pieces", "m4a"), ("webm", "webm"), ("aac", "aac")),
    ],
)
def test_joined_files_of_pyav(first, second, pipe):
    need("av")
    files = {
        "m4a": lambda: encoded_by_pyav("ipod", "aac"),
        "m4a in pieces": lambda: encoded_by_pyav("mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
        "webm": lambda: encoded_by_pyav("webm", "libopus", 48_000),
        "aac": lambda: encoded_by_pyav("adts", "aac"),
        "wav": lambda: WAV,
    }
    heard = Heard(files[first]() + files[second](), pipe=pipe)
    assert heard.error == ""
    assert abs(heard.seconds - 6.0) < 0.2


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize(
    ("claimed", "told"),
    [
        (lambda size: size // 2, True),
        (lambda size: size // 2 + 1, True),
        (lambda size: size - 1, False),
        (lambda size: 0, False),
        (lambda size: 0xFFFFFFFF, False),
        (lambda size: 0x7FFFFFFF, False),
        (lambda size: 0x7FFFF000, False),
    ],
    ids=["half", "half and odd", "odd", "zero", "all ones", "largest signed", "sox"],
)
def test_a_wav_is_heard_whatever_its_header_claims(claimed, told, pipe):
    heard = Heard(with_size(WAV, claimed(size_of(WAV))), pipe=pipe)
    assert heard.error == ""
    assert abs(len(heard.pcm) - 48_000) <= 1
    assert np.abs(heard.pcm[:47_999] - sound()[:47_999]).max() < 2e-4
    assert bool(heard.notices) == told
    # The header of the next file is found behind audio of unknown length too.
    both = Heard(with_size(WAV, claimed(size_of(WAV))) + OTHER, pipe=pipe)
    assert abs(both.seconds - 5.0) < 0.01


@pytest.mark.parametrize("form", ["AU", "W64", "AIFF", "RF64"])
@pytest.mark.parametrize("share", [0.5, 0.0])
def test_other_headers_that_claim_too_little(form, share):
    content = bytearray(encoded(sound(), form=form))
    at, code = {
        "AU": (8, ">I"),
        "W64": (content.find(b"data\xf3") + 16, "<Q"),
        "AIFF": (content.find(b"SSND") + 4, ">I"),
        "RF64": (content.find(b"ds64") + 16, "<Q"),
    }[form]
    wide = struct.calcsize(code)
    (size,) = struct.unpack(code, content[at : at + wide])
    content[at : at + wide] = struct.pack(code, int(size * share) // 2 * 2)
    heard = Heard(bytes(content))
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.01


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
def test_a_header_that_claims_too_much_is_heard_and_told(pipe):
    heard = Heard(with_size(WAV, 4 * size_of(WAV)), pipe=pipe)
    assert len(heard.pcm) == 48_000
    assert heard.code == 1
    assert "the WAV header gives 12.0 s, and 3.0 s are there" in heard.error


def test_less_than_a_second_too_much_is_tolerated():
    heard = Heard(with_size(WAV, size_of(WAV) + 20_000))
    assert heard.error == ""
    assert heard.notices == ["x: the WAV header gives 0.62 s more than are there"]


@pytest.mark.parametrize("tail", [b"LIST\xd0\x07\0\0" + b"\x7f" * 2000, b"id3 \x0a\0\0\0" + b"x" * 10, bytes(5000)])
def test_what_follows_the_audio_is_no_sound(tail):
    heard = Heard(WAV + tail)
    assert (heard.error, len(heard.pcm), heard.notices) == ("", 48_000, [])


@pytest.mark.parametrize("what", [b"hello, this is a text. " * 5000, np.random.default_rng(1).bytes(100_000)])
def test_much_that_is_no_audio_after_the_audio_is_told(what):
    heard = Heard(WAV + what)
    assert len(heard.pcm) == 48_000
    assert heard.code == 1
    assert "follows the audio" in heard.error


def test_a_second_chunk_of_audio():
    more = encoded(sound(1.0))
    heard = Heard(WAV + more[more.index(b"data") :])
    assert (heard.error, len(heard.pcm)) == ("", 64_000)


@pytest.mark.parametrize(("form", "share"), [("FLAC", 0.5), ("MP3", 0.5), ("WAV", 0.5), ("AU", 0.5), ("W64", 0.5)])
def test_a_file_that_was_cut_off_is_told(form, share):
    content = encoded(sound(6.0), form=form)
    heard = Heard(content[: round(share * len(content))])
    assert 2.0 < heard.seconds < 4.5
    assert heard.code == 1
    assert "gives" in heard.error


def test_an_ogg_file_that_was_cut_off_gives_a_notice():
    content = encoded(sound(6.0), form="OGG")
    assert any("without its last page" in each for each in Heard(content[: len(content) // 2]).notices)


def flac_of_unknown_length():
    content = bytearray(encoded(sound(), form="FLAC"))
    # The number of samples, and the checksum.
    content[21] &= 0xF0
    content[22:42] = bytes(20)
    return bytes(content)


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
def test_a_flac_of_unknown_length_is_read_to_its_end(pipe):
    heard = Heard(flac_of_unknown_length(), pipe=pipe)
    assert (heard.error, len(heard.pcm)) == ("", 48_000)


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
def test_damage_in_the_middle_is_told_or_short(form):
    content = bytearray(encoded(sound(10.0), form=form))
    middle = len(content) // 2
    content[middle : middle + len(content) // 4] = bytes(len(content) // 4)
    heard = Heard(bytes(content))
    assert heard.seconds > 3.0
    assert heard.code == 1
    assert "is damaged and cannot be read to its end" in heard.error


def test_our_own_recording_after_a_kill(tmp_path):
    """The file is read while it is open, as a killed process leaves it: without a length and its last frames."""
    recorded = RecordedSource(LaidOut(*in_blocks(sound(10.0))), tmp_path)
    blocks = recorded.blocks()
    for _ in range(99):
        next(blocks)
    (path,) = tmp_path.glob("*.flac")
    content = path.read_bytes()
    for pipe in (True, False):
        heard = Heard(content, pipe=pipe)
        assert heard.error == ""
        assert heard.seconds > 8
        assert np.abs(heard.pcm - sound(10.0)[: len(heard.pcm)]).max() < 2e-4
    assert audio_info(path).seconds == pytest.approx(heard.seconds, abs=0.01)
    blocks.close()
