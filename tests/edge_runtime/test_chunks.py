"""Windows in chunks: the same result in one piece, in chunks and in a stream, and each second encoded once."""

import shutil

import numpy as np
import onnx
import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clip
from edge_runtime.config import ListenSettings
from edge_runtime.engines.chunks import LEAD, REST, Begun, pieces
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.interface import Block
from edge_runtime.windows import WindowPolicy
from tests.conftest import tone
from tests.plain_bundles import change
from tests.small_bundles import save_bundle

CHUNK = 8000
POLICY = WindowPolicy(seconds=4.0, segment_seconds=4.0, hop_seconds=0.5, minimum_seconds=0.5, chunk_seconds=0.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(save_bundle(tmp_path_factory.mktemp("chunks") / "bundle", policy=POLICY))


@pytest.fixture
def engine(bundle):
    return OnnxEngine.of(bundle, "fp32")


@pytest.fixture
def runs(engine, monkeypatch):
    """Return the new samples of each run of the graph."""
    counted, run = [], engine._run
    monkeypatch.setattr(engine, "_run", lambda feeds: counted.append(feeds["pcm"].shape[1] - LEAD) or run(feeds))
    return counted


@pytest.fixture(scope="module")
def speech():
    """Return 3.3 s that get louder."""
    noise = np.random.default_rng(1).normal(0, 0.05, round(3.3 * 16_000)).astype(np.float32)
    return (tone(3.3, frequency=180) + noise) * np.linspace(0.05, 1, len(noise), dtype=np.float32)


class TestPieces:
    def test_they_cover_the_window_once_with_the_samples_before_each(self):
        pcm = np.arange(1, 20_001, dtype=np.float32)
        found = list(pieces(pcm, CHUNK))
        assert [end for end, _ in found] == [8000, 16_000, 20_000]
        assert np.array_equal(np.concatenate([piece[LEAD:] for _, piece in found]), pcm)
        assert not found[0][1][:LEAD].any()
        assert np.array_equal(found[1][1][:LEAD], pcm[CHUNK - LEAD : CHUNK])

    def test_a_rest_that_is_too_short_is_left_out(self):
        assert [end for end, _ in pieces(np.zeros(CHUNK + REST - 1, np.float32), CHUNK)] == [CHUNK]
        assert [end for end, _ in pieces(np.zeros(REST - 1, np.float32), CHUNK)] == [REST - 1]


class TestEngine:
    def test_a_window_that_grows_has_the_result_of_the_whole(self, engine, speech):
        begun = Begun()
        for end in (5000, 8000, 16_000, 17_000, 30_000, len(speech)):
            grown, whole = engine.score(speech[:end], begun=begun), engine.score(speech[:end])
            for found, wanted in zip(grown, whole, strict=True):
                assert np.array_equal(found, wanted)

    def test_what_is_scored_already_is_not_scored_again(self, engine, speech, runs):
        begun = Begun()
        for end in range(CHUNK, 5 * CHUNK + 1, CHUNK):
            engine.score(speech[:end], begun=begun)
        assert runs == [CHUNK] * 5
        engine.score(speech[: 5 * CHUNK], begun=begun)
        engine.score(speech[: 5 * CHUNK + REST - 1], begun=begun)
        assert len(runs) == 5

    def test_a_window_may_get_shorter(self, engine, speech):
        begun = Begun()
        for end in (CHUNK, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK - 1600, 2 * CHUNK + 900, 3 * CHUNK + 3000):
            found, wanted = engine.score(speech[:end], begun=begun), engine.score(speech[:end])
            assert np.array_equal(found.logits, wanted.logits)

    def test_another_engine_begins_again(self, bundle, engine, speech):
        begun = Begun()
        engine.score(speech[:CHUNK], begun=begun)
        other = OnnxEngine.of(bundle, "int8-cpu", simulated=True)
        found = other.score(speech, begun=begun)
        assert np.array_equal(found.logits, other.score(speech).logits)

    def test_the_result_depends_on_earlier_chunks(self, engine, speech):
        assert not np.allclose(engine.score(speech).logits, engine.score(speech[CHUNK:]).logits, atol=1e-4)


class TestStream:
    def test_final_events_are_those_of_clips_and_each_second_is_encoded_once(self, bundle, engine, speech, runs):
        wanted = score_clip(engine.score, speech, bundle.manifest.window)
        runs.clear()
        listener = Listener(bundle, engine, ListenSettings.model_validate({"vad": {"enabled": False}}))
        events = list(listener.begin("test"))
        for start in range(0, len(speech), 1600):
            events += listener.take(Block(speech[start : start + 1600], lost=0, arrived=0.0))
        events += listener.end("test")
        (final,) = [event for event in events if event.type == "final"]
        assert list(final.probabilities.values()) == [round(float(value), 4) for value in wanted.probabilities]
        assert [event.type for event in events].count("provisional") == len(speech) // CHUNK
        assert sum(runs) == len(speech)

    def test_speech_that_ends_before_the_last_chunk_has_the_result_of_its_clip(self, bundle, engine, clip):
        """Hops in the pause before the end of speech is certain are not scored, so that no window is longer than it."""
        pause, spoken = np.zeros(24_000, np.float32), read_audio(clip)
        pcm = np.concatenate([pause, spoken[:20_000], pause, spoken[30_000:64_000], pause, spoken[80_000:], pause])
        listener = Listener(bundle, engine)
        events = list(listener.begin("test"))
        for start in range(0, len(pcm), 1600):
            events += listener.take(Block(pcm[start : start + 1600], lost=0, arrived=0.0))
        events += listener.end("test")
        finals = [event for event in events if event.type == "final"]
        for final in finals:
            first, last = (round(each * 16_000) for each in (final.start, final.end))
            wanted = score_clip(engine.score, pcm[first:last], bundle.manifest.window)
            assert list(final.probabilities.values()) == [round(float(value), 4) for value in wanted.probabilities]
        ends = {final.start: final.end for final in finals}
        provisional = [event for event in events if event.type == "provisional"]
        assert provisional
        assert all(event.end <= ends[event.start] for event in provisional)


def test_a_graph_of_other_chunks_than_its_manifest_is_refused(bundle, tmp_path):
    shutil.copytree(bundle.root, tmp_path / "bundle")
    change(tmp_path / "bundle", lambda content: content["window"].update(chunk_seconds=1.0))
    with pytest.raises(EdgeemoError, match=r"processes chunks of 8000 samples, and bundle\.json says 16000"):
        OnnxEngine.of(load_bundle(tmp_path / "bundle"), "fp32")


def test_known_answers_need_what_is_passed_on(bundle, engine):
    known = bundle.known_answers
    longest = max(known.windows, key=len)
    assert len(longest) > 2 * CHUNK
    wanted = engine.score(longest).logits
    engine._first_past, forgetful = np.zeros_like(engine._first_past), engine._run
    engine._run = lambda feeds: forgetful(feeds | {"past": engine._first_past})
    # Of an untrained student; a trained one's logits are a hundred times larger.
    assert float(np.abs(engine.score(longest).logits - wanted).max()) > 1e-2


def test_nodes_are_named_by_their_modules(bundle):
    names = [node.name for node in onnx.load(bundle.graph("fp32")).graph.node]
    for module in ("encoder/", "encoder.log_mel/", "encoder.conv1/", "encoder.layers.0.fc1/"):
        assert any(name.startswith(module) for name in names), module
