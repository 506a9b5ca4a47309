"""Audio is written only with --record, and then all of it."""

import stat
import time

import numpy as np
import pytest
import soundfile

from edge_runtime import score_file
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources import recorder
from edge_runtime.sources.interface import Block
from edge_runtime.sources.recorder import RecordedSource
from tests.conftest import tone
from tests.laid_out import LaidOut, in_blocks


def written(folder):
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.iterdir())]


def test_all_audio_is_written(tmp_path):
    pcm = tone(3.0)
    source = RecordedSource(LaidOut(*in_blocks(pcm)), tmp_path / "new" / "folder")
    assert sum(len(block.pcm) for block in source.blocks()) == len(pcm)
    (found,) = written(tmp_path / "new" / "folder")
    assert np.abs(found - pcm).max() < 1e-4


def test_a_new_directory_is_its_owners_only(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o750)
    for name, mode in (("new", 0o700), ("shared", 0o750)):
        list(RecordedSource(LaidOut(*in_blocks(tone(0.5))), tmp_path / name).blocks())
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_a_gap_is_silence_and_a_long_one_a_new_file(tmp_path):
    half = tone(0.5)
    blocks = [Block(half, 0, 0.0), Block(half, 1_000, 0.0), Block(half, 61 * 16_000, 0.0)]
    list(RecordedSource(LaidOut(*blocks), tmp_path).blocks())
    first, second = written(tmp_path)
    assert len(first) == 2 * len(half) + 1_000
    assert not first[len(half) : len(half) + 1_000].any()
    assert len(second) == len(half)


def test_files_are_of_ten_minutes(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "_FILE_SECONDS", 1)
    for _ in RecordedSource(LaidOut(*[Block(tone(0.5), 0, 0.0)] * 5), tmp_path).blocks():
        time.sleep(0.002)
    assert [len(pcm) for pcm in written(tmp_path)] == [16_000, 16_000, 8_000]


def test_the_file_is_complete_when_it_stops_early(tmp_path):
    source = RecordedSource(LaidOut(*[Block(tone(0.5), 0, 0.0)] * 4), tmp_path).blocks()
    next(source)
    next(source)
    source.close()
    assert [len(pcm) for pcm in written(tmp_path)] == [16_000]


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeemoError, match="recording cannot be made"):
        RecordedSource(LaidOut(), tmp_path / "file" / "folder")


def test_nothing_is_written_without_it(untrained_bundle, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "clip.wav", tone(3.0), 16_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    score_file(tmp_path / "clip.wav", untrained_bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]
