"""Channels are chosen wherever audio is decoded: files, pipes, joined files, damage, raw PCM, corpora."""

import os

import numpy as np
import pytest
import soundfile

from distill.checks.audio_scan import scan_file
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.decoding.audio_file import audio_info
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.file import FileSource
from edge_runtime.sources.source_uri import open_source
from tests.edge_runtime.sources.sounds import Heard, encoded, sound

OPPOSITE = sound(channels=2) * np.float32([1, -1])


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
def test_joined_files_of_other_channels(pipe):
    """Each has a choice of its own, reported with its first samples."""
    content = b"".join(
        encoded(each, subtype="FLOAT") for each in (sound(), OPPOSITE, sound(), 0.5 * OPPOSITE[:, [0] * 3])
    )
    heard = Heard(content, pipe=pipe)
    assert heard.error == ""
    assert heard.notices == []
    assert np.array_equal(heard.pcm[:48_000], sound())
    assert np.abs(heard.pcm[48_000:96_000] - sound()).max() < 1e-6
    assert np.array_equal(heard.pcm[96_000:144_000], sound())
    assert np.abs(heard.pcm[144_000:] - 0.5 * sound()).max() < 1e-6
    assert heard.choices == [
        "channels 0-1 of 2 are used: 1 is in opposite phase and is inverted",
        "channels 0-2 of 3 are used: no speech yet",
    ]
    assert all(len(block.pcm) for block in heard.blocks if block.notice)


def test_the_held_second_comes_in_pieces():
    heard = Heard(encoded(OPPOSITE))
    assert max(len(block.pcm) for block in heard.blocks) < 3_200
    assert len(heard.choices) == 1


def test_a_file_at_once_and_in_blocks(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(
        encoded(OPPOSITE, subtype="FLOAT") + encoded(sound(channels=4), subtype="FLOAT") + encoded(sound())
    )
    in_blocks = np.concatenate([block.pcm for block in FileSource(path).blocks()])
    assert np.array_equal(in_blocks, read_audio(path))
    assert len(in_blocks) == 3 * 48_000


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_mono_is_the_first_channel_bit_by_bit(rate):
    mono = sound(3.0, rate)
    two = np.stack([mono, 0 * mono], axis=1)
    assert np.array_equal(Heard(encoded(mono, rate)).pcm, Heard(encoded(two, rate), channels=(0,)).pcm)


def test_a_failure_between_stereo_files_brings_no_other_choice():
    """The report of a failure has one channel and no samples."""
    content = encoded(OPPOSITE, subtype="PCM_16", form="FLAC")
    broken = content[: len(content) // 2] + b"no audio at all " * 400 + content
    heard = Heard(broken)
    assert heard.code == 1
    assert all("of 2 are used" in each for each in heard.choices)
    assert np.sqrt(np.mean(heard.pcm**2)) > 0.05


@pytest.mark.parametrize("at", [4_000, 15_990, 30_000])
def test_what_is_no_number_is_marked_when_it_is_heard(at):
    """Also in the second that is held back, and over the end of a block."""
    stored = sound(channels=2)
    stored[at : at + 20, 1] = np.nan
    heard = Heard(encoded(stored, subtype="FLOAT"))
    position, marked = 0, np.zeros(len(stored), bool)
    for block in heard.blocks:
        marked[position : position + len(block.pcm)] = block.replaced
        position += len(block.pcm)
    assert marked[at : at + 20].all()
    assert marked.sum() <= 20_000
    assert np.isfinite(heard.pcm).all()


def test_a_channel_that_is_not_there(tmp_path):
    """At the beginning, and in a later file of a pipe."""
    path = tmp_path / "x.wav"
    path.write_bytes(encoded(sound()))
    with pytest.raises(WrongUseError, match="has 1 channel, number 0; channel 1 cannot be chosen"):
        FileSource(path, channels=(1,))
    heard = Heard(encoded(OPPOSITE) + encoded(sound()), channels=(1,))
    assert heard.code == 2
    assert "channel 1 cannot be chosen" in heard.error
    assert len(heard.pcm) == 48_000


def test_raw_pcm_of_several_channels(tmp_path):
    path = tmp_path / "x.raw"
    path.write_bytes((OPPOSITE * 32767).astype("<i2").tobytes())
    source = open_source(path, channels=(1,), raw=RawPcm(channels=2))
    pcm = np.concatenate([block.pcm for block in source.blocks()])
    assert np.abs(pcm + sound()).max() < 1e-3
    with pytest.raises(WrongUseError, match="channel 1 cannot be chosen"):
        open_source(path, channels=(1,), raw=RawPcm())


def test_a_scan_of_a_corpus_hears_what_training_reads(tmp_path):
    for name, samples in (("one", sound()), ("two", OPPOSITE)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    one, two = (scan_file(tmp_path / f"{name}.wav") for name in ("one", "two"))
    assert two.problem == ""
    assert two == one


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(encoded(sound()))
    assert audio_info(path).seconds == 3.0
    assert len(read_audio(path)) == 48_000
    assert scan_file(path).problem == ""
    source = FileSource(path)
    assert source.name.endswith(r"caf\udce9.wav")
    source.close()
    path.write_bytes(b"a text. " * 1000)
    assert "caf" not in scan_file(path).problem
