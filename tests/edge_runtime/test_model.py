"""Models: arrays of any type, streams in any chunk sizes, one engine."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge_runtime
from edge_runtime import EdgeemoError, ListenSettings, StatusEvent, backends, listen, load, score_file
from edge_runtime.config import VadSettings
from edge_runtime.errors import WrongUseError
from edge_runtime.model import frames_of
from edge_runtime.sources.audio import read_audio
from tests.conftest import ROOT, tone

PLAIN = ListenSettings(vad=VadSettings(enabled=False))
CLOCK = {"latency_ms", "time"}


def facts(events, leave=CLOCK):
    return [event.model_dump(exclude=leave) for event in events]


def emotions(events):
    return facts(event for event in events if not isinstance(event, StatusEvent))


@pytest.fixture(scope="module")
def model(bundle_dir):
    with load(bundle_dir) as opened:
        yield opened


@pytest.fixture(scope="module")
def speech(clip):
    return read_audio(clip)


def fed(model, sound, rate, sizes):
    """Feed a stream with chunks of these sizes in turns, and return all events."""
    stream, events, start = model.stream(rate), [], 0
    while start < len(sound):
        size = sizes[len(events) % len(sizes)] if len(sizes) > 1 else sizes[0]
        events += stream.feed(sound[start : start + size])
        start += size
    return events + stream.close()


class TestCalls:
    def test_three_lines(self, bundle_dir, clip):
        model = edge_runtime.load(bundle_dir)
        events = model(read_audio(clip), 16_000)
        assert facts(events) == facts(score_file(bundle_dir, clip))

    def test_the_default_bundle(self, speech):
        with load() as model:
            assert model.labels == ("angry", "happy", "neutral", "sad")
            assert model.backend.startswith("onnxruntime")
            assert model(speech, 16_000)

    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: x.astype(np.float64),
            lambda x: np.round(x * 32767).astype(np.int16),
            lambda x: np.round(x * 2147483000).astype(np.int32),
            lambda x: np.stack([x, x], axis=1),
            lambda x: np.asfortranarray(np.stack([x] * 4, axis=1)),
            lambda x: np.repeat(x, 2)[::2],
        ],
        ids=["float64", "int16", "int32", "stereo", "four channels", "strided"],
    )
    def test_any_type_and_number_of_channels(self, model, speech, convert):
        wanted, found = model(speech, 16_000), model(convert(speech), 16_000)
        assert [(event.start, event.end, event.label) for event in found] == [
            (event.start, event.end, event.label) for event in wanted
        ]
        for one, other in zip(found, wanted, strict=True):
            assert one.confidence == pytest.approx(other.confidence, abs=0.02)

    def test_the_range_of_integers(self):
        assert frames_of(np.array([-32768, 0, 16384], np.int16))[:, 0].tolist() == [-1, 0, 0.5]
        assert frames_of(np.array([0, 128, 192], np.uint8))[:, 0].tolist() == [-1, 0, 0.5]
        assert frames_of(np.array([-(2**31), 0], np.int32))[:, 0].tolist() == [-1, 0]

    @pytest.mark.parametrize(
        "signal",
        [np.zeros((2, 3, 4), np.float32), np.zeros(4, complex), np.zeros(4, bool), np.array(["a"]), np.float32(1)],
        ids=["three axes", "complex", "bool", "text", "a number"],
    )
    def test_what_is_no_sound(self, model, signal):
        with pytest.raises(WrongUseError, match="is not audio; give"):
            model(signal, 16_000)

    @pytest.mark.parametrize("rate", [0, -1, 10, 10_000_000])
    def test_rates_that_no_recording_has(self, model, rate):
        with pytest.raises(EdgeemoError, match="are read"):
            model(np.zeros(100, np.float32), rate)

    def test_nothing_and_silence_have_no_events(self, model):
        assert model(np.zeros(0, np.float32), 16_000) == []
        assert model(np.zeros(40_000, np.float32), 16_000) == []


class TestStreams:
    @pytest.mark.parametrize("sizes", [[1], [160], [511], [1600], [4_000], [100_000], [7, 3_000, 1, 1_599]])
    def test_chunks_of_any_size_give_what_the_command_gives(self, model, bundle_dir, clip, speech, sizes):
        if sizes == [1]:
            speech = speech[:20_000]
            wanted = model.stream(16_000)
            wanted = wanted.feed(speech) + wanted.close()
        else:
            wanted = list(listen(bundle_dir, clip))
        found = fed(model, speech, 16_000, sizes)
        assert emotions(found) == emotions(wanted)
        reported = [(event.status, event.start) for event in found if isinstance(event, StatusEvent)]
        assert reported == [(event.status, event.start) for event in wanted if isinstance(event, StatusEvent)]

    @pytest.mark.parametrize("rate", [44_100, 48_000])
    def test_resampled_chunks_give_what_a_file_gives(self, bundle_dir, tmp_path, rate):
        sound = np.stack([tone(3.0, rate=rate), tone(3.0, rate=rate, frequency=330)], axis=1)
        soundfile.write(tmp_path / "x.wav", sound, rate, subtype="FLOAT")
        with load(bundle_dir, settings=PLAIN) as plain:
            wanted = emotions(listen(plain, tmp_path / "x.wav"))
            assert wanted
            for size in (441, 4_800, 50_000):
                assert emotions(fed(plain, sound, rate, [size])) == wanted

    def test_status_events_name_the_stream(self, model):
        stream = model.stream(16_000, "kitchen")
        (started,) = stream.feed(np.zeros(10, np.int16))
        assert (started.status, started.detail) == ("started", "listening to kitchen")
        (stopped,) = stream.close()
        assert (stopped.status, stopped.detail) == ("stopped", "the end of kitchen")

    def test_closed_ones_refuse_and_close_again(self, model):
        with model.stream(16_000) as stream:
            stream.feed(np.zeros(10, np.float32))
        assert stream.close() == []
        with pytest.raises(WrongUseError, match=r"is closed; open another one with Model\.stream$"):
            stream.feed(np.zeros(10, np.float32))

    def test_the_number_of_channels_stays(self, model):
        stream = model.stream(16_000)
        stream.feed(np.zeros((10, 2), np.float32))
        with pytest.raises(WrongUseError, match="a chunk has 1 channels, those before had 2"):
            stream.feed(np.zeros(10, np.float32))

    def test_two_at_a_time_are_independent(self, model, speech):
        one, other = model.stream(16_000), model.stream(16_000)
        first, second = [], []
        for start in range(0, len(speech), 1_600):
            first += one.feed(speech[start : start + 1_600])
            second += other.feed(np.zeros(1_600, np.float32))
        first, second = first + one.close(), second + other.close()
        assert emotions(first) == emotions(fed(model, speech, 16_000, [1_600]))
        assert emotions(second) == []


class TestOneEngine:
    def test_for_as_long_as_the_model_lives(self, bundle_dir, clip, speech, monkeypatch):
        opened = []
        open_engine = backends.open_engine
        monkeypatch.setattr(
            "edge_runtime.model.open_engine", lambda *given, **more: opened.append(1) or open_engine(*given, **more)
        )
        with load(bundle_dir) as model:
            for _ in range(2):
                model(speech, 16_000)
                score_file(model, clip)
                list(listen(model, clip))
                model.stream(8_000).close()
        assert opened == [1]

    def test_settings_are_given_once(self, model, clip):
        with pytest.raises(WrongUseError, match="has its own settings; give them to"):
            score_file(model, clip, PLAIN)

    def test_a_profile_that_cannot_be_used_is_refused_at_once(self, bundle_dir):
        with pytest.raises(EdgeemoError, match="profile"):
            load(bundle_dir, profile="no/name")


def test_it_is_typed(tmp_path):
    """For a program that uses the installed package: its types are those of the source."""
    assert Path(edge_runtime.__file__).with_name("py.typed").is_file()
    program = tmp_path / "program.py"
    program.write_text(
        "import edge_runtime\nimport numpy as np\n"
        "reveal_type(edge_runtime.load()(np.zeros(1), 16_000)[0].label)\n"
        "edge_runtime.load(profile=3)\n"
    )
    # With our settings and from here, so that what `make types` found is not analysed once more.
    command = [sys.executable, "-m", "mypy", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.search(r'Revealed type is "(builtins\.)?str"', done.stdout), done.stdout + done.stderr
    assert 'Argument "profile" to "load" has incompatible type "int"' in done.stdout
