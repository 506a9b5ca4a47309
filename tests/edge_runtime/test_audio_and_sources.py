"""Every way in gives the same samples: any format, rate, channel count, file or pipe."""

import io
import re
import time
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.file import FileSource
from edge_runtime.sources.pipe import PipeSource
from edge_runtime.sources.source_uri import open_source
from tests.conftest import tone


def collected(source):
    return np.concatenate([block.pcm for block in source.blocks()])


def write_stereo(path, rate):
    mono = tone(2.0, rate)
    # Different channels: only their mean is the tone.
    soundfile.write(path, np.stack([mono * 1.5, mono * 0.5], axis=1), rate)


def test_stereo_44100_is_mixed_and_resampled(tmp_path):
    write_stereo(tmp_path / "a.wav", 44_100)
    pcm = read_audio(tmp_path / "a.wav")
    assert pcm.dtype == np.float32
    assert abs(len(pcm) - 32_000) <= 1
    assert np.abs(pcm[400:-400] - tone(2.0)[400 : len(pcm) - 400]).max() < 2e-3


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 96_000])
def test_file_in_blocks_equals_file_at_once(tmp_path, rate):
    write_stereo(tmp_path / "a.wav", rate)
    whole, blocks = read_audio(tmp_path / "a.wav"), collected(FileSource(tmp_path / "a.wav"))
    assert abs(len(whole) - len(blocks)) <= 1
    shortest = min(len(whole), len(blocks))
    assert np.abs(whole[:shortest] - blocks[:shortest]).max() < 1e-4


def test_eight_bit_file_reads(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5), 16_000, subtype="PCM_U8")
    assert np.abs(read_audio(tmp_path / "a.wav") - tone(0.5)).max() < 0.02


def wav_bytes(rate, channels):
    pcm = (np.repeat(tone(1.0, rate)[:, None], channels, axis=1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue(), pcm


def test_pipe_takes_raw_pcm():
    _, pcm = wav_bytes(16_000, 1)
    assert np.abs(collected(PipeSource(io.BytesIO(pcm.tobytes()))) - tone(1.0)).max() < 1e-4


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2)])
def test_pipe_takes_wav(rate, channels):
    content, _ = wav_bytes(rate, channels)
    got = collected(PipeSource(io.BytesIO(content)))
    assert abs(len(got) - 16_000) <= 1
    assert np.abs(got[400:-400] - tone(1.0)[400 : len(got) - 400]).max() < 2e-3


@pytest.mark.parametrize("unknown", [b"\xff" * 4, bytes(4)], ids=["largest", "zero"])
def test_pipe_takes_wav_of_unknown_length(unknown):
    """What recorders write for both sizes into a pipe, before they have the length."""
    content, pcm = wav_bytes(16_000, 1)
    at = content.index(b"data") + 4
    endless = content[:4] + unknown + content[8:at] + unknown + content[at + 4 :]
    assert len(collected(PipeSource(io.BytesIO(endless)))) == len(pcm)


def test_pipe_ends_in_the_middle_of_a_sample():
    assert len(collected(PipeSource(io.BytesIO(b"\x01\x00" * 1000 + b"\x01")))) == 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no audio"),
        (b"RIFF....", "is WAV whose header cannot be read"),
        (b"RIFF....ABCD", "is a RIFF file without audio"),
    ],
)
def test_bad_pipe(content, message):
    with pytest.raises(EdgeemoError, match=message):
        collected(PipeSource(io.BytesIO(content)))


def test_pipe_stops_where_the_wav_stops():
    """Programs append tags after the audio; they are no sound."""
    content, pcm = wav_bytes(16_000, 1)
    tagged = content + b"LIST" + (2_000).to_bytes(4, "little") + b"\x7f" * 2_000
    assert len(collected(PipeSource(io.BytesIO(tagged)))) == len(pcm)


def test_a_damaged_file_is_one_sentence(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(size=64_000) * 0.1, 16_000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[30_000:40_000] = bytes(10_000)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(EdgeemoError, match="is damaged and cannot be read to its end"):
        collected(FileSource(tmp_path / "a.flac"))


def test_nan_is_refused_for_training_and_replaced_for_listening(tmp_path):
    pcm = tone(1.0)
    pcm[[9_000, 9_001]] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", pcm, 16_000, subtype="FLOAT")
    with pytest.raises(EdgeemoError, match="not numbers"):
        read_audio(tmp_path / "a.wav")
    blocks = list(FileSource(tmp_path / "a.wav").blocks())
    got = np.concatenate([block.pcm for block in blocks])
    assert np.array_equal(got, np.nan_to_num(pcm, posinf=0.0))
    notices = [block.notice for block in blocks if block.notice]
    assert [kind for kind, _ in notices] == ["bad-audio"]
    assert "are not numbers" in notices[0][1]
    assert [bool(block.replaced) for block in blocks if len(block.pcm)].count(True) == 1


def test_zero_samples_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(EdgeemoError, match="holds no samples"):
        read_audio(tmp_path / "a.wav")


def test_a_pipe_that_gives_little_at_a_time():
    pcm = (tone(0.5) * 32_000).astype("<i2")
    pipe = io.BytesIO(pcm.tobytes())
    got = collected(PipeSource(SimpleNamespace(read=lambda size: pipe.read(min(size, 37)))))
    assert np.array_equal(np.round(got * 32_768).astype("<i2"), pcm)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "names nothing; use mic://"),
        ("mic", "did you mean mic://?"),
        ("mic:/usb", "did you mean mic://usb?"),
        ("MIC://usb", "did you mean mic://usb?"),
        ("file:call.wav", "did you mean call.wav?"),
        (
            "ftp://host/call.wav",
            "use mic://, mic://NAME, file://PATH, a path, an address (http",
        ),
    ],
)
def test_sources_that_mean_nothing(uri, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongUseError, match=re.escape(message)) as refused:
        open_source(uri)
    assert refused.value.message.startswith("--source ")


def test_a_directory_is_no_source(tmp_path):
    for uri in (str(tmp_path), tmp_path.as_uri()):
        with pytest.raises(EdgeemoError, match="is a directory; name an audio file"):
            open_source(uri)


def test_files_may_have_names_that_look_like_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mic", "mic:usb", "file:a"):
        soundfile.write(tmp_path / name, tone(0.5), 16_000, format="WAV")
        assert len(collected(open_source(name))) == 8_000


def test_a_paced_file_does_not_wait_for_a_listener_that_is_behind(tmp_path):
    """A block is due by the file's clock; what waits for the listener is as late as it is."""
    soundfile.write(tmp_path / "a.wav", tone(0.5), 16_000)
    arrived, taken = [], []
    for block in FileSource(tmp_path / "a.wav", paced=True).blocks():
        arrived.append(block.arrived)
        taken.append(time.monotonic())
        if len(taken) == 1:
            time.sleep(0.35)
    assert np.diff(arrived) == pytest.approx([0.1] * 4, abs=1e-6)
    assert taken[1] - arrived[1] > 0.24
    assert taken[-1] - arrived[-1] < 0.1


def test_a_file_goes_on_where_its_last_listener_stopped(tmp_path):
    """`teach` takes clip after clip from one source."""
    soundfile.write(tmp_path / "a.wav", tone(1.0), 16_000)
    source = FileSource(tmp_path / "a.wav")
    first = next(source.blocks()).pcm
    assert np.abs(np.concatenate([first, collected(source)]) - tone(1.0)).max() < 1e-4


def test_a_closed_file_ends_without_an_error(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.tile(tone(1.0), 20), 16_000)
    source = FileSource(tmp_path / "a.flac")
    blocks = source.blocks()
    next(blocks)
    source.close()
    assert list(blocks) == []
