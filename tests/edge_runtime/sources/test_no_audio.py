"""What is no audio is refused in one sentence that says what it is; raw PCM is read when asked for, or when it fits."""

import gzip
import io
import pickle
import sys
import zipfile

import numpy as np
import pytest

from edge_runtime.sources.decoding.raw import RawPcm, contradiction
from tests.conftest import need
from tests.edge_runtime.sources.sounds import Heard, encoded, encoded_by_pyav, sound


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.wav", encoded(sound()))
    return buffer.getvalue()


REFUSED = {
    "text": (b"The quick brown fox\n" * 50, "is a text;"),
    "Latin-1": ("Grüße aus Köln, ein Text\n".encode("latin-1") * 20, "is a text;"),
    "UTF-16": (("ein Text " * 20).encode("utf-16"), "is a text (UTF-16)"),
    "UTF-16 without a mark": (("ein Text, in Zeilen\n" * 20).encode("utf-16-le"), "is a text (UTF-16)"),
    "Cyrillic in UTF-16": (("Привет мир как дела\n" * 90).encode("utf-16"), "is a text (UTF-16)"),
    "Cyrillic in an old encoding": (("Привет мир как дела\n" * 90).encode("cp1251"), "is a text;"),
    "Chinese in an old encoding": (("你好世界我们是" * 2000).encode("gbk"), "no header of a known audio format"),
    "old pickle": (pickle.dumps(list(range(9_000)), 2), "is a Python pickle"),
    "pickle": (pickle.dumps({"a": "x" * 40}, 5), "is a Python pickle"),
    "compiled Python": (b"\xcb\r\r\n" + bytes(500), "is a compiled Python program"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform" + bytes(500), "is a MATLAB file"),
    "JSON": (b'{"a": 1}', "is a text;"),
    "HTML": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "is a web page"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "run: git lfs pull"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(500), "is a PNG image"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(500), "is a JPEG image"),
    "BMP": (b"BM\x36\x10\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(500), "is a BMP image"),
    "WebP": (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(500), "is a WebP image"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(500), "is a PDF document"),
    "ZIP": (zipped(), "is a ZIP archive; unpack it"),
    "gzip": (gzip.compress(encoded(sound())), "is gzip data; unpack it"),
    "program": (b"\x7fELF" + bytes(500), "is a program"),
    "MIDI": (b"MThd\0\0\0\x06\0\x01\0\x02\x01\xe0MTrk" + bytes(100), "is MIDI; it holds notes"),
    "NumPy": (b"\x93NUMPY\x01\0v\0{'descr'" + bytes(500), "is a NumPy array"),
    "random": (np.random.default_rng(0).bytes(50_000), "no header of a known audio format"),
    "empty": (b"", ""),
    "WAV header alone": (encoded(sound())[:44], "gives 3.0 s, and 0.0 s are there"),
    "half a WAV header": (encoded(sound())[:30], "ends within its header"),
    "WAV of nothing": (b"RIFF....WAVE", "ends within its header"),
    "no rate": (encoded(sound())[:24] + bytes(4) + encoded(sound())[28:], "at 0 Hz"),
    "no channels": (encoded(sound())[:22] + bytes(2) + encoded(sound())[24:], "has 0 channels"),
}


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind, pipe):
    content, message = REFUSED[kind]
    heard = Heard(content, pipe=pipe)
    assert len(heard.pcm) == 0
    assert heard.code == 1
    assert message in heard.error
    assert heard.error.startswith("x: ")
    assert "\n" not in heard.error


def ints(kind, scale, samples):
    return (samples * scale).astype(kind).tobytes()


WIDE = sound()
RAW = {
    "s8": ints("i1", 127, WIDE),
    "u8": (WIDE * 127 + 128).astype("u1").tobytes(),
    "s16le": ints("<i2", 32767, WIDE),
    "s16be": ints(">i2", 32767, WIDE),
    "s32le": ints("<i4", 2**31 - 1, WIDE.astype("f8")),
    "s32be": ints(">i4", 2**31 - 1, WIDE.astype("f8")),
    "f32le": WIDE.astype("<f4").tobytes(),
    "f32be": WIDE.astype(">f4").tobytes(),
    "s24le": ints("<i4", 2**31 - 1, WIDE.astype("f8")),
}
RAW["s24le"] = np.frombuffer(RAW["s24le"], np.uint8).reshape(-1, 4)[:, 1:].tobytes()


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("form", RAW)
def test_raw_when_asked_for(form, pipe):
    heard = Heard(RAW[form], pipe=pipe, raw=RawPcm(16_000, form))
    assert heard.error == ""
    assert np.abs(heard.pcm - WIDE).max() < 0.02


def test_raw_with_another_rate_and_channels():
    stereo = ints("<i2", 32767, sound(2.0, 48_000, 2))
    heard = Heard(stereo, raw=RawPcm(48_000, "s16le", 2))
    assert abs(heard.seconds - 2.0) < 0.01


def test_a_format_is_not_looked_for_when_raw_is_asked_for():
    content = encoded(sound())
    heard = Heard(content, raw=RawPcm())
    assert len(heard.pcm) == len(content) // 2
    assert "begins like WAV" in heard.notices[0]


def test_quiet_samples_with_an_offset_are_no_text():
    rng = np.random.default_rng(0)
    for offset in (0, 70, 90, 110):
        samples = np.clip(np.rint(rng.normal(offset, 8, 48_000)), -32768, 32767).astype("<i2")
        assert Heard(samples.tobytes()).error == ""


@pytest.mark.parametrize("form", [form for form in RAW if form != "s16le"])
def test_other_samples_are_not_taken_for_16_bit(form):
    heard = Heard(RAW[form])
    assert len(heard.pcm) == 0
    assert "--raw-rate 16000 --raw-format" in heard.error
    if form not in ("f32be", "s32be"):
        assert f"looks like {form} samples" in heard.error


@pytest.mark.parametrize("form", ["s32le", "f32le", "s16be", "random"])
def test_what_contradicts_16_bit_after_silence_is_told_within_seconds(form):
    content = np.random.default_rng(0).bytes(200_000) if form == "random" else RAW[form]
    heard = Heard(bytes(96_000) + content)
    assert heard.code == 1
    assert "looks like" in heard.error
    assert heard.seconds < 5


PLAUSIBLE = {
    "speech": sound(),
    "quiet": 0.001 * sound(),
    "silence": np.zeros(48_000),
    "faint noise": np.random.default_rng(0).normal(size=48_000) * 2e-4,
    "noise": np.random.default_rng(0).normal(size=48_000) * 0.1,
    "clipped": np.clip(10 * sound(), -1, 1),
    "high tone": 0.9 * np.sin(2 * np.pi * 7_900 * np.arange(48_000) / 16_000),
    "low tone": 0.9 * np.sin(2 * np.pi * 50 * np.arange(48_000) / 16_000),
    "offset": np.full(48_000, 0.25),
    "silence, then speech": np.concatenate([np.zeros(16_000), sound()]),
}


@pytest.mark.parametrize("kind", PLAUSIBLE)
def test_raw_audio_without_being_asked_for(kind):
    heard = Heard(ints("<i2", 32767, PLAUSIBLE[kind]))
    assert heard.error == ""
    assert len(heard.pcm) == len(PLAUSIBLE[kind])


@pytest.mark.parametrize("codec", ["OGG", "MP3", "FLAC"])
def test_compressed_bytes_without_their_header_are_no_pcm(codec):
    content = encoded(np.random.default_rng(0).normal(size=160_000) * 0.1, form=codec)
    assert contradiction(content[5_001:25_001])


def test_a_file_without_a_header_is_raw_only_when_asked_for():
    assert "--raw-rate 16000 --raw-format s16le" in Heard(RAW["s16le"], pipe=False).error


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("form", ["ipod", "webm", "adts"])
def test_without_pyav_the_error_names_the_extra_and_a_pipe(form, pipe, monkeypatch):
    need("av")
    codec, rate = ("libopus", 48_000) if form == "webm" else ("aac", 16_000)
    content = encoded_by_pyav(form, codec, rate)
    # Stands for an environment without it; tests/project/test_wheels.py has a real one.
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("edge_runtime.sources.decoding.pyav.missing_modules", lambda extra: ["av"])
    heard = Heard(content, pipe=pipe)
    assert heard.code == 2
    assert 'pip install "edgeemo[decode]"' in heard.error
    assert f"ffmpeg -i {'-' if pipe else 'x'} -f wav - | edgeemo listen --source -" in heard.error
