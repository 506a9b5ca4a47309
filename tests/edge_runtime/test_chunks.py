"""Windows in chunks: the same result in one piece, in chunks and in a stream, and each second encoded once."""

import numpy as np
import pytest

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clip
from edge_runtime.config import ListenSettings
from edge_runtime.engines.chunks import LEAD, REST, Begun, pieces
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.interface import Block
from edge_runtime.windows import WindowPolicy
from tests.conftest import tone
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
