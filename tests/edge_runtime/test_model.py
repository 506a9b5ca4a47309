"""Models: arrays of any type, streams in any chunk sizes, one engine."""

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edge_runtime
from edge_runtime import EdgeemoError, ListenSettings, StatusEvent, backends, listen, load, score_file
from edge_runtime.backends import GuardedEngine
from edge_runtime.config import VadSettings
from edge_runtime.engines.engine import Engine, Scores
from edge_runtime.errors import EngineError, WrongUseError
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
        assert facts(events) == facts(score_file(clip, bundle_dir))

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
        with pytest.raises(EdgeemoError, match="are supported"):
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


class TestStreamEnds:
    def test_all_events_of_some_chunks(self, model, speech):
        chunks = np.array_split(speech, 7)
        assert facts(model.stream(16_000).events(chunks)) == facts(fed(model, speech, 16_000, [len(chunks[0])]))

    def test_no_window_spans_lost_samples(self, bundle_dir):
        """At 8 kHz: two seconds, a gap of one, two seconds. The clock and the event count the gap."""
        sound = tone(2.0)[::2]
        with load(bundle_dir, settings=PLAIN) as model:
            stream = model.stream(8_000)
            events = [*stream.feed(sound), *stream.feed(sound, lost=8_000), *stream.close()]
        finals = [(event.start, event.end) for event in events if event.type == "final"]
        assert finals == [
            (0.0, pytest.approx(2.0, abs=0.01)),
            (pytest.approx(3.0, abs=0.01), pytest.approx(5.0, abs=0.02)),
        ]
        (gap,) = [event for event in events if event.type == "status" and event.status == "gap"]
        assert (gap.detail, events[-1].dropped_samples) == ("16000 samples were lost in capture", 16_000)

    def test_a_closed_model_is_reported(self, bundle_dir, speech):
        model = load(bundle_dir)
        stream = model.stream(16_000)
        model.close()
        with pytest.raises(WrongUseError, match="the model is closed"):
            stream.feed(speech)


class TestSettings:
    def test_bundle_and_source_of_the_settings(self, bundle_dir, clip):
        given = listen(settings=ListenSettings(bundle=bundle_dir, source=str(clip)))
        assert facts(given, {*CLOCK, "detail"}) == facts(listen(bundle_dir, clip), {*CLOCK, "detail"})

    def test_places_as_text(self, bundle_dir, tmp_path):
        (tmp_path / "edge.toml").write_text("paced = true\n")
        assert edge_runtime.read_settings(str(tmp_path / "edge.toml")).paced
        assert edge_runtime.load_bundle(str(bundle_dir)).root == bundle_dir


class TestOneEngine:
    def test_threads_that_fail_together_replace_it_once(self):
        opened, closed = [], []

        class Failing(Engine):
            precision, backend = "fp32", "failing"

            def score(self, pcm, reference=None):
                together.wait(timeout=10)
                raise EngineError("it failed")

            def close(self):
                closed.append(1)

        class Working(Failing):
            backend = "working"

            def score(self, pcm, reference=None):
                return Scores(np.zeros(2, np.float32), np.zeros(2, np.float32))

        together = threading.Barrier(4)
        engine = GuardedEngine(
            [lambda notices: opened.append(1) or Failing(), lambda notices: opened.append(1) or Working()]
        )
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(lambda _: engine.score(tone(0.5)), range(4)))) == 4
        assert (len(opened), len(closed), engine.history()) == (2, 1, ("it failed; working takes over",))

    def test_each_stream_reports_what_happened_to_it(self, bundle_dir, monkeypatch):
        with load(bundle_dir) as model:
            monkeypatch.setattr(model._engine, "history", lambda: ("replaced",))
            for _ in range(2):
                details = [event.detail for event in model.stream(16_000).close() if event.status == "backend"]
                assert details == ["replaced"]

    def test_for_as_long_as_the_model_lives(self, bundle_dir, clip, speech, monkeypatch):
        opened = []
        open_engine = backends.open_engine
        monkeypatch.setattr(
            "edge_runtime.model.open_engine", lambda *given, **more: opened.append(1) or open_engine(*given, **more)
        )
        with load(bundle_dir) as model:
            for _ in range(2):
                model(speech, 16_000)
                score_file(clip, model)
                list(listen(model, clip))
                model.stream(8_000).close()
        assert opened == [1]

    def test_settings_are_given_once(self, model, clip):
        with pytest.raises(WrongUseError, match="has its own settings; give them to"):
            score_file(clip, model, PLAIN)

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
