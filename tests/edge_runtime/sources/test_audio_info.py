"""Durations of files, by their headers where these are plausible, else by what is in them."""

import pytest
import soundfile

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.audio_file import audio_info
from tests.conftest import need
from tests.edge_runtime.sources.sounds import encoded, encoded_by_pyav, size_of, sound, with_size
from tests.edge_runtime.sources.test_joined_and_lengths import flac_of_unknown_length

WAV = encoded(sound())
FILES = {
    "WAV": (WAV, 3.0),
    "FLAC": (encoded(sound(), form="FLAC"), 3.0),
    "Vorbis": (encoded(sound(), form="OGG"), 3.0),
    "MP3": (encoded(sound(), form="MP3"), 3.0),
    "WAV that claims half": (with_size(WAV, size_of(WAV) // 2), 3.0),
    "WAV of unknown length": (with_size(WAV, 0xFFFFFFFF), 3.0),
    "two WAVs": (WAV + WAV, 6.0),
    "chained Ogg": (encoded(sound(), form="OGG") + encoded(sound(2.0), form="OGG", subtype="OPUS"), 5.0),
    "joined MP3": (encoded(sound(), form="MP3") * 2, 6.0),
    "FLAC of unknown length": (flac_of_unknown_length(), 3.0),
}


@pytest.mark.parametrize("kind", FILES)
def test_duration(kind, tmp_path):
    content, seconds = FILES[kind]
    (tmp_path / "a").write_bytes(content)
    info = audio_info(tmp_path / "a")
    assert (info.rate, info.channels) == (16_000, 1)
    assert abs(info.seconds - seconds) < 0.3


def test_a_container_of_pyav(tmp_path):
    need("av")
    (tmp_path / "a").write_bytes(encoded_by_pyav("ipod", "aac"))
    assert abs(audio_info(tmp_path / "a").seconds - 3.0) < 0.2


@pytest.mark.parametrize("form", ["OGG", "MP3", "FLAC"])
def test_ordinary_files_are_not_decoded(form, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(encoded(sound(), form=form))
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert abs(audio_info(tmp_path / "a").seconds - 3.0) < 0.3


@pytest.mark.parametrize(("content", "message"), [(b"", "is an empty file"), (b"hello, a text", "is a text")])
def test_no_audio(content, message, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(EdgeemoError, match=message):
        audio_info(tmp_path / "a")
