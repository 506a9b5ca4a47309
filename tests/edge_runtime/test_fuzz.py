"""Whatever comes in from outside, the answer is a result or an `EdgeemoError`; found by trying, with hypothesis.

The same examples are tried every time, so that nothing fails by chance; to try new ones:
``EDGEEMO_FUZZ=20000 pytest -m slow tests/edge_runtime/test_fuzz.py``
"""

import contextlib
import io
import json
import math
import resource
import struct
import traceback
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.onnx_file import check_onnx
from edge_runtime.config import ListenSettings, parse_settings, read_settings
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import EmotionEvent, StatusEvent
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.file import FileSource
from edge_runtime.sources.pipe import PipeSource
from tests.conftest import tone
from tests.fuzzing import FEW, MANY, anything, changed, damaged
from tests.plain_bundles import plain_graph, save_plain_bundle

SECRET = "hunter2-äß"


def pytest_generate_tests(metafunc):
    """Try few examples where slow tests are left out, and else many."""
    if "effort" in metafunc.fixturenames:
        few = "not slow" in metafunc.config.option.markexpr
        effort = pytest.param(FEW, id="few") if few else pytest.param(MANY, id="many", marks=pytest.mark.slow)
        metafunc.parametrize("effort", [effort])


def attempt(effort, strategy, work):
    """Run some work on many values; what it raises has to be an `EdgeemoError` of one sane line."""

    @effort
    @given(strategy)
    def run(value):
        message = ""
        try:
            work(value)
        except EdgeemoError as error:
            message = error.message
        assert len(message) < 1_000
        assert message.isprintable() or not message, message

    run()


@pytest.fixture(scope="module")
def sound_bundle(tmp_path_factory):
    return save_plain_bundle(tmp_path_factory.mktemp("fuzz") / "bundle")


class TestBundles:
    def load(self, bundle, content):
        (bundle / "bundle.json").write_bytes(content)
        loaded = load_bundle(bundle)
        # What loads is of use.
        assert len(set(loaded.manifest.labels)) >= 2
        assert np.isfinite(loaded.reference()).all()
        assert math.isfinite(1 / loaded.manifest.temperature)
        assert 0 < loaded.manifest.window.segment <= 120 * 16_000

    def test_values(self, sound_bundle, tmp_path, effort):
        save_plain_bundle(tmp_path / "b")
        content = json.loads((sound_bundle / "bundle.json").read_text())
        attempt(effort, changed(content), lambda value: self.load(tmp_path / "b", json.dumps(value).encode()))

    def test_bytes(self, sound_bundle, tmp_path, effort):
        save_plain_bundle(tmp_path / "b")
        content = (sound_bundle / "bundle.json").read_bytes()
        attempt(effort, damaged(content, len(content)), lambda value: self.load(tmp_path / "b", value))

    def test_graphs(self, effort):
        content = plain_graph().SerializeToString()
        attempt(effort, damaged(content, len(content)), lambda value: check_onnx(io.BytesIO(value), "graph"))


CONFIG = {
    "bundle": "bundle",
    "source": "mic://",
    "paced": False,
    "engine": {"backend": "auto", "threads": 1},
    "vad": {"threshold": 0.5, "neg_threshold": 0.35, "speech_pad": 0.1},
    "decision": {"smoothing": 0.5, "patience": 2, "hop_seconds": 0.5},
    "watch": {"silence_seconds": 10.0},
    "service": {"nice": 5, "memory_mb": 200},
    "sinks": [
        {"kind": "stdout"},
        {"kind": "file", "path": "events.jsonl", "max_mb": 1.5, "keep": 3},
        {"kind": "mqtt", "host": "h", "port": 1883, "username": "u", "password": SECRET, "topic": "t", "qos": 1},
        {"kind": "web", "host": "127.0.0.1", "port": 0, "token": SECRET, "history_minutes": 5.0},
    ],
}


class TestConfig:
    def never_shown(self, work, value):
        try:
            shown = repr(work(value))
        except WrongUseError as error:
            # As a program shows it that does not catch it; a person sees the last line alone.
            shown = "".join(traceback.format_exception(error))
        assert SECRET not in shown

    def test_values(self, effort):
        attempt(
            effort, changed(CONFIG), lambda value: self.never_shown(lambda v: parse_settings(v, "edge.toml"), value)
        )

    def test_bytes(self, tmp_path, effort):
        lines = [f"source = {json.dumps(CONFIG['source'])}"]
        lines += [f"{name} = {_inline(CONFIG[name])}" for name in ("engine", "vad", "decision", "watch", "service")]
        for sink in CONFIG["sinks"]:
            lines += ["[[sinks]]", *(f"{key} = {_inline(value)}" for key, value in sink.items())]
        content = "\n".join(lines).encode()
        (tmp_path / "edge.toml").write_bytes(content)
        assert isinstance(read_settings(tmp_path / "edge.toml"), ListenSettings)

        def read(value):
            (tmp_path / "edge.toml").write_bytes(value)
            return read_settings(tmp_path / "edge.toml")

        attempt(effort, damaged(content, len(content)), lambda value: self.never_shown(read, value))


@pytest.mark.parametrize("content", ["x = " + "[" * 100_000, "x = " + "9" * 5_000, "x = 2026-99-99", "\0", "\x1b[2J"])
def test_config_that_no_reader_likes(tmp_path, content):
    (tmp_path / "edge.toml").write_text(content)
    with pytest.raises(WrongUseError, match="is not valid TOML"):
        read_settings(tmp_path / "edge.toml")


def _inline(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=30)
emotions = st.builds(
    EmotionEvent,
    type=st.sampled_from(["provisional", "final"]),
    start=numbers,
    end=numbers,
    label=words,
    probabilities=st.dictionaries(words, numbers, max_size=5),
    confidence=numbers,
    uncertain=st.booleans(),
    latency_ms=numbers,
    windows=st.integers(),
    speech_ratio=st.none() | numbers,
    dropped_samples=st.integers(),
    model=words,
    backend=words,
)
statuses = st.builds(
    StatusEvent,
    start=numbers,
    end=numbers,
    status=st.sampled_from(["started", "gap", "device-lost", "sink", "stopped"]),
    detail=words,
    dropped_samples=st.integers(),
    model=words,
    backend=words,
)


class TestEvents:
    def test_there_and_back(self, effort):
        def back(event):
            text = event.model_dump_json()
            assert "\n" not in text
            assert type(event).model_validate_json(text) == event

        attempt(effort, emotions | statuses, back)

    def test_unknown_fields_are_refused(self, effort):
        def add(pair):
            event, name, value = pair
            content = event.model_dump() | {name: value}
            if name in type(event).model_fields:
                return
            with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
                type(event).model_validate(content)

        attempt(effort, st.tuples(emotions | statuses, words, anything), add)


def audio_file(kind, subtype=None, rate=16_000):
    buffer = io.BytesIO()
    sound = np.stack([tone(0.2, rate)] * 2, axis=1)
    soundfile.write(buffer, sound, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def _wav(form, channels, rate, per_second, frame, bits, length):
    header = struct.pack("<HHIIHH", form, channels, rate, per_second, frame, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + header + b"data" + struct.pack("<I", length) + bytes(4_000)


@contextlib.contextmanager
def bounded_memory(megabytes=600):
    """Let no allocation beyond that succeed: one that is absurd fails here instead of filling the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read_all(source):
    """Read a source to its end, as a device would: samples are numbers, blocks are no longer than some seconds."""
    samples = 0
    with bounded_memory():
        for block in source.blocks():
            assert np.isfinite(block.pcm).all()
            assert len(block.pcm) < 5 * 16_000
            samples += len(block.pcm)
    # A header may claim a low rate, of which each sample becomes several.
    assert samples < 100 * 16_000


@pytest.mark.timeout(120)
class TestSound:
    def test_any_bytes_in_a_pipe(self, effort):
        start = st.sampled_from([b"", b"RIFF", b"RIFF\xff\xff\xff\xffWAVE", b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0"])
        content = st.builds(lambda head, rest: head + rest, start, st.binary(max_size=2_000))
        attempt(effort, content, lambda value: read_all(PipeSource(io.BytesIO(value))))

    def test_any_wav_header_in_a_pipe(self, effort):
        word, long = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
        rates = st.sampled_from([0, 1, 4, 5, 11, 16_000, 48_000, 10**6, 2**31, 2**32 - 1]) | long
        few = st.sampled_from([0, 1, 2, 64, 65_535])
        fields = (st.sampled_from([1, 1, 1, 3, 0xFFFE]), few, rates, long, word, st.sampled_from([16, 16, 8, 32]), long)
        content = st.tuples(*fields).map(lambda each: _wav(*each))
        attempt(effort, content, lambda value: read_all(PipeSource(io.BytesIO(value))))

    def test_damaged_wav_in_a_pipe(self, effort):
        wav = audio_file("WAV", rate=22_050)
        attempt(effort, damaged(wav), lambda value: read_all(PipeSource(io.BytesIO(value))))

    @pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF", "AU", "W64", "CAF"])
    def test_damaged_files(self, tmp_path, kind, effort):
        content = audio_file(kind)
        path = tmp_path / "sound"

        def read(value):
            path.write_bytes(value)
            try:
                with bounded_memory():
                    pcm = read_audio(path)
                assert np.isfinite(pcm).all()
                assert len(pcm) < 100 * 16_000
            finally:
                read_all(FileSource(path))

        attempt(effort, damaged(content), read)
