"""Every format is heard from a file and from a pipe, whatever its name, and gives the samples that were written."""

import numpy as np
import pytest
import soundfile

from edge_runtime.sources.audio import read_audio
from tests.conftest import need
from tests.edge_runtime.sources.sounds import Heard, encoded, encoded_by_pyav, likeness, sound

PLAIN = {
    "WAV 16 bit": ("WAV", "PCM_16", None),
    "WAV 8 bit": ("WAV", "PCM_U8", None),
    "WAV 24 bit": ("WAV", "PCM_24", None),
    "WAV 32 bit": ("WAV", "PCM_32", None),
    "WAV float": ("WAV", "FLOAT", None),
    "WAV double": ("WAV", "DOUBLE", None),
    "WAV mu-law": ("WAV", "ULAW", None),
    "WAV A-law": ("WAV", "ALAW", None),
    "WAV extensible": ("WAVEX", "PCM_24", None),
    "RIFX": ("WAV", "PCM_16", "BIG"),
    "RF64": ("RF64", "PCM_16", None),
    "W64": ("W64", "PCM_16", None),
    "AU": ("AU", "PCM_16", None),
    "AU little-endian": ("AU", "PCM_16", "LITTLE"),
    "AU 24 bit": ("AU", "PCM_24", None),
    "AU float": ("AU", "FLOAT", None),
    "AU mu-law": ("AU", "ULAW", None),
    "AIFF": ("AIFF", "PCM_16", None),
    "AIFF 24 bit": ("AIFF", "PCM_24", None),
    "AIFF float": ("AIFF", "FLOAT", None),
    "AIFF little-endian": ("AIFF", "PCM_16", "LITTLE"),
    "AIFF mu-law": ("AIFF", "ULAW", None),
    "FLAC": ("FLAC", "PCM_16", None),
    "FLAC 24 bit": ("FLAC", "PCM_24", None),
    "CAF": ("CAF", "PCM_16", None),
    "VOC": ("VOC", "PCM_16", None),
    "NIST Sphere": ("NIST", "PCM_16", None),
    "IRCAM": ("IRCAM", "PCM_16", None),
    "8SVX": ("SVX", "PCM_16", None),
}
LOSSY = {
    "WAV IMA ADPCM": ("WAV", "IMA_ADPCM", None),
    "WAV MS ADPCM": ("WAV", "MS_ADPCM", None),
    "WAV GSM": ("WAV", "GSM610", None),
    "AU G.721": ("AU", "G721_32", None),
    "Ogg Vorbis": ("OGG", "VORBIS", None),
    "Ogg Opus": ("OGG", "OPUS", None),
    "MP3": ("MP3", "MPEG_LAYER_III", None),
}
BY_PYAV = {
    "M4A": ("ipod", "aac", 16_000, {}),
    "M4A, index first": ("mp4", "aac", 16_000, {"movflags": "frag_keyframe+empty_moov"}),
    "WebM": ("webm", "libopus", 48_000, {}),
    "Matroska": ("matroska", "pcm_s16le", 16_000, {}),
    "AAC": ("adts", "aac", 16_000, {}),
    "MPEG transport stream": ("mpegts", "aac", 16_000, {}),
    "Flash video": ("flv", "aac", 16_000, {}),
    "AVI": ("avi", "pcm_s16le", 16_000, {}),
    "AC-3": ("ac3", "ac3", 48_000, {}),
    "MP2": ("mp2", "mp2", 16_000, {}),
    "WavPack": ("wv", "wavpack", 16_000, {}),
    "True Audio": ("tta", "tta", 16_000, {}),
    "AMR": ("amr", "libopencore_amrnb", 8_000, {}),
    "ALAC in CAF": ("caf", "alac", 16_000, {}),
    "MP3 in WAV": ("wav", "mp3", 16_000, {}),
}


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("kind", PLAIN)
def test_uncompressed_and_lossless(kind, pipe):
    form, subtype, endian = PLAIN[kind]
    content = encoded(sound(), form=form, subtype=subtype, endian=endian)
    heard = Heard(content, pipe=pipe)
    assert heard.error == ""
    assert len(heard.pcm) == 48_000
    assert np.abs(heard.pcm - sound()).max() < (0.02 if "8 bit" in kind or "law" in kind else 2e-4)


@pytest.mark.parametrize(("form", "subtype"), [("WAV", "ULAW"), ("WAV", "ALAW"), ("WAV", "PCM_24"), ("AU", "PCM_S8")])
def test_samples_are_those_of_libsndfile(form, subtype, tmp_path):
    content = encoded(sound(), form=form, subtype=subtype)
    (tmp_path / "a").write_bytes(content)
    wanted, _ = soundfile.read(tmp_path / "a", dtype="float32")
    assert np.abs(Heard(content).pcm - wanted).max() < 1e-6


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("kind", LOSSY)
def test_lossy(kind, pipe):
    form, subtype, endian = LOSSY[kind]
    heard = Heard(encoded(sound(), form=form, subtype=subtype, endian=endian), pipe=pipe)
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.1
    assert likeness(heard.pcm, sound()) > 0.97


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("kind", BY_PYAV)
def test_what_only_pyav_decodes(kind, pipe):
    need("av")
    heard = Heard(encoded_by_pyav(*BY_PYAV[kind]), pipe=pipe)
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.15
    assert likeness(heard.pcm, sound()) > 0.95


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "AU", "W64", "AIFF"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (11_025, 2), (44_100, 6), (96_000, 2)])
def test_rates_and_channels(form, rate, channels):
    heard = Heard(encoded(sound(2.0, rate, channels), rate, form))
    assert heard.error == ""
    assert abs(heard.seconds - 2.0) < 0.01


@pytest.mark.parametrize("name", ["a.raw", "a.mp3", "a.txt", "a", "a.wav"])
def test_the_name_does_not_matter(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(sound(), form="FLAC"))
    assert len(read_audio(tmp_path / name)) == 48_000


@pytest.mark.parametrize("kind", ["id3v2", "id3v1", "ape"])
def test_tags_around_an_mp3_are_no_sound(kind):
    mp3 = encoded(sound(), form="MP3")
    tagged = {
        "id3v2": b"ID3\x04\0\0\0\0\x4e\x20" + bytes(10_016) + mp3,
        "id3v1": mp3 + b"TAG" + b"a" * 125,
        "ape": mp3 + b"APETAGEX\xd0\x07\0\0\x28\0\0\0\x01\0\0\0\0\0\0\0" + bytes(8) + b"x" * 40,
    }[kind]
    heard = Heard(tagged)
    assert heard.error == ""
    assert abs(heard.seconds - 3.0) < 0.1


@pytest.mark.parametrize("piece", [1, 7, 44, 65_536])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_pieces_of_any_size_give_the_same(form, piece):
    content = encoded(sound(1.0), form=form)
    assert np.array_equal(Heard(content, piece=piece).pcm, Heard(content).pcm)


def test_an_aiff_whose_format_stands_behind_its_audio():
    content = encoded(sound(), form="AIFF")
    at = content.index(b"COMM")
    size = 8 + int.from_bytes(content[at + 4 : at + 8], "big")
    moved = content[:at] + content[at + size :] + content[at : at + size]
    assert len(Heard(moved, pipe=False).pcm) == 48_000
    # A pipe has no end that could be looked at first.
    assert "the format of its samples is missing before the audio" in Heard(moved).error
