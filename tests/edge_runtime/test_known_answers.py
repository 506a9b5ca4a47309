"""Engines are tested with the known answers of a bundle: what passes, what fails and what runs then, what is cached."""

import math
from unittest.mock import Mock

import numpy as np
import onnx
import pytest

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.known_answers import synthetic_signal, windows_of
from edge_runtime.bundles.manifest import KNOWN_ANSWERS, LONGEST_KNOWN_SECONDS
from edge_runtime.engines import known_answer_test as module
from edge_runtime.engines.engine import Engine, OnnxEngine, Scores
from edge_runtime.engines.known_answer_test import known_answer_test, verdict_on
from edge_runtime.errors import EdgeemoError, EngineError
from edge_runtime.loop.listener import Listener
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sinks.web import state
from edge_runtime.windows import SHORTEST
from export.bundle.known_answers import MAX_LOSS, tolerance
from tests.conftest import tone
from tests.laid_out import LaidOut, in_blocks
from tests.plain_bundles import change, entry, hearing_graph, plain_graph, save_plain_bundle


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def add_known_answers(folder, graphs=("model.fp32.onnx",), tolerance=0.01, off=0.0):
    """Give a plain bundle known answers; ``off`` is added to the logits, so that every engine fails."""
    loaded = load_bundle(folder)
    sound, stretches = synthetic_signal(loaded.manifest.window.samples)
    (folder / KNOWN_ANSWERS).write_bytes(sound.astype("<i2").tobytes())
    windows = list(windows_of(sound, stretches))
    names = {name: {"model.fp32.onnx": "fp32", "model.int8.cpu.onnx": "int8-cpu"}[name] for name in graphs}
    logits = {
        precision: (OnnxEngine.of(loaded, precision).score_windows(windows) + off).tolist()
        for precision in names.values()
    }
    known = {"stretches": [each.model_dump() for each in stretches], "logits": logits, "tolerance": tolerance}

    def edit(content):
        content["known_answers"] = known
        content["files"].append(entry(folder, KNOWN_ANSWERS))

    change(folder, edit)
    return folder


def with_int8_graph(folder, model):
    save_plain_bundle(folder, hearing_graph())
    (folder / "model.int8.cpu.onnx").write_bytes(model.SerializeToString())
    change(folder, lambda content: content["files"].append(entry(folder, "model.int8.cpu.onnx")))
    return folder


@pytest.fixture
def plain(tmp_path):
    return add_known_answers(save_plain_bundle(tmp_path / "bundle", hearing_graph()))


@pytest.fixture
def loaded(plain):
    return load_bundle(plain)


@pytest.fixture
def working(loaded):
    """An engine whose calls are counted and whose scores are right."""
    return Broken(OnnxEngine.of(loaded), lambda logits, pcm: logits)


@pytest.fixture
def both(tmp_path):
    """A bundle with a graph for INT8 and one for FP32, both float, whose INT8 answers can be made wrong."""
    folder = with_int8_graph(tmp_path / "both", hearing_graph())
    return add_known_answers(folder, ("model.fp32.onnx", "model.int8.cpu.onnx"))


def wrong_answers(folder, precision, off=5.0):
    def edit(content):
        rows = content["known_answers"]["logits"][precision]
        content["known_answers"]["logits"][precision] = [[value + off for value in row] for row in rows]

    change(folder, edit)


class Broken(Engine):
    """An engine that does to another one's scores what a fault would do."""

    precision = "fp32"
    backend = "broken 1.0 fp32"

    def __init__(self, engine, damage):
        self._engine, self._damage, self.calls = engine, damage, 0
        self.depends_on = (self.backend, str(id(damage)))

    def score(self, pcm, reference=None):
        self.calls += 1
        scores = self._engine.score(pcm, reference)
        return Scores(self._damage(scores.logits, pcm), scores.statistics)


class TestTheSound:
    def test_it_has_what_breaks_engines_and_takes_three_seconds(self):
        sound, stretches = synthetic_signal(80_000)
        found = dict(zip([each.sound for each in stretches], windows_of(sound, stretches), strict=True))
        assert set(found) == {"noise", "tones", "silence", "step", "full scale", "whisper", "voice"}
        assert sum(map(len, found.values())) <= 3.2 * 16_000
        assert all(len(window) >= SHORTEST for window in found.values())
        assert not found["silence"].any()
        assert np.abs(found["full scale"]).max() > 0.99
        assert 10 * math.log10(float(np.square(found["whisper"]).mean())) == pytest.approx(-55, abs=1)

    def test_no_stretch_is_longer_than_the_window(self):
        _, stretches = synthetic_signal(SHORTEST)
        assert {each.samples for each in stretches} == {SHORTEST}


class TestTheTolerance:
    def test_it_is_the_error_that_costs_half_a_point(self):
        """Found once more by drawing errors instead of integrating."""
        random = np.random.default_rng(0)
        logits = random.normal(0, 2.0, (400, 4))
        allowed = tolerance(logits, 1.3)
        probabilities = np.exp(logits / 1.3) / np.exp(logits / 1.3).sum(axis=1, keepdims=True)
        best = probabilities.max(axis=1)
        lost = [
            float(np.mean(best - np.take_along_axis(probabilities, moved.argmax(1)[:, None], 1)[:, 0]))
            for moved in (logits + random.normal(0, allowed, logits.shape) for _ in range(200))
        ]
        # Of four classes others than the second may win too, so a little more is lost than two classes lose.
        assert MAX_LOSS * 0.9 < np.mean(lost) < MAX_LOSS * 1.5

    def test_a_student_that_decides_by_chance_allows_no_more_than_half_the_deviation(self):
        logits = np.random.default_rng(0).normal(0, 0.01, (200, 4))
        assert tolerance(logits, 1.0) == pytest.approx(0.5 * logits.std(), rel=1e-6)

    def test_a_student_that_always_gives_the_same_has_one_too(self):
        assert tolerance(np.ones((20, 4)), 1.0) > 0

    def test_surer_decisions_allow_larger_errors(self):
        logits = np.random.default_rng(0).normal(0, 1.0, (200, 4))
        assert tolerance(3 * logits, 3.0) == pytest.approx(3 * tolerance(logits, 1.0), rel=1e-6)


class TestVerdicts:
    def test_a_sound_engine_passes(self, loaded):
        verdict = known_answer_test(OnnxEngine.of(loaded), loaded)
        assert (verdict.outcome, verdict.detail) == ("passed", "")
        assert verdict.error < 1e-5

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda logits, pcm: logits * np.nan, "not numbers"),
            (lambda logits, pcm: logits[::-1], "logits have an error of"),
            (lambda logits, pcm: np.zeros_like(logits), "logits have an error of"),
            (lambda logits, pcm: np.clip(logits, -0.2, 0.2), "logits have an error of"),
            (lambda logits, pcm: logits + (0 if pcm.any() else np.inf), "not numbers"),
            (lambda logits, pcm: logits + (5 if np.abs(pcm).max() > 0.9 else 0), "logits have an error of"),
            (lambda logits, pcm: logits[:2], "but the bundle has 3 labels"),
            (lambda logits, pcm: logits[:1], "but the bundle has 3 labels"),
        ],
        ids=["NaN", "swapped classes", "zeros", "saturated", "silence only", "full scale only", "two logits", "one"],
    )
    def test_a_broken_engine_fails(self, loaded, damage, why):
        verdict = known_answer_test(Broken(OnnxEngine.of(loaded), damage), loaded)
        assert verdict.outcome == "failed"
        assert why in verdict.detail

    def test_the_second_start_costs_nothing(self, loaded, working):
        first = verdict_on(working, loaded)
        assert working.calls == len(loaded.known_answers.windows)
        assert verdict_on(working, loaded) == first
        assert working.calls == len(loaded.known_answers.windows)

    @pytest.mark.parametrize("other", ["library", "processor", "bundle"])
    def test_whatever_the_verdict_depends_on_asks_for_another_test(self, plain, loaded, working, other):
        verdict_on(working, loaded)
        calls = working.calls
        if other == "bundle":
            change(plain, lambda content: content.update(created="2026-02-02T00:00:00+00:00"))
        else:
            working.depends_on = (*working.depends_on, other)
        verdict_on(working, load_bundle(plain))
        assert working.calls == 2 * calls

    def test_what_onnx_runtime_depends_on(self, plain, monkeypatch):
        monkeypatch.setattr("edge_runtime.engines.engine.instruction_sets", lambda: "avx2")
        monkeypatch.setattr("edge_runtime.engines.engine.processor", lambda: "")
        found = OnnxEngine.of(load_bundle(plain)).depends_on
        assert found[0].startswith("onnxruntime ")
        assert "avx2" in found

    def test_a_cache_that_cannot_be_written_costs_a_test_each_time(self, loaded, working, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert [verdict_on(working, loaded).outcome for _ in range(2)] == ["passed", "passed"]
        assert working.calls == 2 * len(loaded.known_answers.windows)

    @pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), EdgeemoError("no home directory")])
    def test_a_cache_that_cannot_be_read_costs_a_test_each_time(self, loaded, monkeypatch, error):
        """As another user's is, left by a start as root; or where there is no home directory."""
        monkeypatch.setattr(module, "cache_directory", Mock(side_effect=error))
        assert verdict_on(OnnxEngine.of(loaded), loaded).outcome == "passed"
        assert open_engine(loaded).history() == ()

    def test_what_could_not_be_scored_is_tried_again(self, loaded, working):
        """A GPU whose memory is full now may have room at the next start."""
        score = working.score
        working.score = Mock(side_effect=EngineError("the GPU's memory is full"))
        assert verdict_on(working, loaded).outcome == "failed"
        working.score = score
        assert verdict_on(working, loaded).outcome == "passed"

    @pytest.mark.parametrize("content", [b"", b'{"outcome": "sure"}', b"\x00" * 10, b'{"outcome": "passed"}'])
    def test_a_verdict_that_is_damaged_or_that_others_may_write_is_not_trusted(self, loaded, tmp_path, content):
        engine = Broken(OnnxEngine.of(loaded), lambda logits, pcm: logits * np.nan)
        verdict_on(engine, loaded)
        (kept,) = (tmp_path / "cache" / "edgeemo" / "verdicts").glob("*.json")
        kept.write_bytes(content)
        if b"passed" in content:
            kept.chmod(0o666)
        assert verdict_on(engine, loaded).outcome == "failed"


class TestOlderBundles:
    def test_they_are_tested_with_their_own_graph_in_float(self, tmp_path):
        loaded = load_bundle(save_plain_bundle(tmp_path / "older", hearing_graph()))
        assert loaded.known_answers is None
        assert known_answer_test(OnnxEngine.of(loaded), loaded).outcome == "passed"
        broken = Broken(OnnxEngine.of(loaded), lambda logits, pcm: logits[::-1])
        assert known_answer_test(broken, loaded).outcome == "failed"

    def test_a_graph_without_numbers_for_silence_is_reported(self, tmp_path):
        """What the exporter made of `log(x + 1e-10)`."""
        model = hearing_graph()
        mean = next(node for node in model.graph.node if node.op_type == "ReduceMean")
        mean.output[0] = "level"
        for node in (
            onnx.helper.make_node("Div", ["level", "level"], ["one"]),
            onnx.helper.make_node("Mul", ["level", "one"], ["mean"]),
        ):
            model.graph.node.insert(list(model.graph.node).index(mean) + 1 + (node.op_type == "Mul"), node)
        loaded = load_bundle(save_plain_bundle(tmp_path / "older", model))
        engine = open_engine(loaded)
        (news,) = engine.history()
        assert "gives NaN for 1 of 7 signals" in news
        assert "export the bundle again" in news

    def test_a_graph_that_never_gives_a_number_is_untested(self, tmp_path):
        model = hearing_graph()
        weights = next(item for item in model.graph.initializer if item.name == "weights")
        values = np.full_like(onnx.numpy_helper.to_array(weights), np.nan)
        weights.CopyFrom(onnx.numpy_helper.from_array(values, "weights"))
        loaded = load_bundle(save_plain_bundle(tmp_path / "older", model))
        verdict = known_answer_test(OnnxEngine.of(loaded), loaded)
        assert verdict.outcome == "untested"
        assert "NaN for all signals" in verdict.detail

    def test_what_cannot_be_computed_in_float_is_untested(self, tmp_path, monkeypatch):
        loaded = load_bundle(save_plain_bundle(tmp_path / "older", hearing_graph()))
        engine = OnnxEngine.of(loaded)
        monkeypatch.setattr(module.OnnxEngine, "of", Mock(side_effect=EdgeemoError("too little memory")))
        verdict = known_answer_test(engine, loaded)
        assert verdict.outcome == "untested"
        assert "too little memory" in verdict.detail


class TestWhatRunsInstead:
    def test_the_next_graph(self, both):
        assert open_engine(load_bundle(both)).backend.endswith("int8-cpu")
        wrong_answers(both, "int8-cpu")
        engine = open_engine(load_bundle(both))
        assert engine.backend.endswith("fp32")
        (news,) = engine.history()
        assert "int8-cpu fails the known-answer test of this bundle: its logits have an error of 5" in news
        assert news.endswith(f"; {engine.backend} takes over")

    def test_int8_in_float_where_its_kernels_are_broken(self, both, monkeypatch):
        """As on a processor whose kernels are wrong whatever is asked for: only the float simulation is right."""
        score = OnnxEngine.score

        def saturated(self, pcm, reference=None):
            scores = score(self, pcm, reference)
            return scores if self.simulated else scores._replace(logits=np.clip(scores.logits, -0.2, 0.2))

        monkeypatch.setattr(OnnxEngine, "score", saturated)
        engine = open_engine(load_bundle(both))
        assert engine.backend.endswith("int8-cpu simulated")
        assert engine.history()[0].count("fails the known-answer test") == 2

    def test_a_graph_that_onnx_runtime_cannot_load_gives_way(self, tmp_path):
        model = hearing_graph()
        model.graph.node[0].op_type = "NoSuchOperator"
        folder = with_int8_graph(tmp_path / "both", model)
        engine = open_engine(load_bundle(folder))
        assert engine.backend.endswith("fp32")
        assert "cannot load it" in engine.history()[0]

    @pytest.mark.parametrize("name", ["model.int8.trt.onnx", "model.fp16.onnx"])
    def test_a_bundle_for_tensorrt_alone_runs_as_a_simulation(self, tmp_path, name):
        folder = save_plain_bundle(tmp_path / "one", hearing_graph())
        (folder / "model.fp32.onnx").rename(folder / name)
        change(folder, lambda content: content.update(files=[entry(folder, name), entry(folder, "README.md")]))
        loaded = load_bundle(folder)
        assert open_engine(loaded).precision == loaded.precisions[0]

    def test_nothing_is_left(self, plain):
        wrong_answers(plain, "fp32")
        with pytest.raises(EdgeemoError, match=r"^no engine can run this bundle here: onnxruntime .* fails the known-"):
            open_engine(load_bundle(plain))

    def test_the_event_and_the_web_page_report_it(self, both):
        wrong_answers(both, "int8-cpu")
        loaded = load_bundle(both)
        monitor = Monitor()
        listener = Listener(loaded, open_engine(loaded), monitor=monitor)
        events = list(listener.listen(LaidOut(*in_blocks(tone(1.0)))))
        told = [event for event in events if event.type == "status" and event.status == "backend"]
        assert len(told) == 1
        assert "fails the known-answer test" in told[0].detail
        assert state.level(monitor.snapshot())["backend_note"] == told[0].detail
        assert state.state(monitor.snapshot())["backend_note"] == told[0].detail


class TestRefusedBundles:
    def refused(self, folder, message):
        with pytest.raises(EdgeemoError, match=message):
            load_bundle(folder)

    def test_the_file_is_missing_from_the_list(self, plain):
        change(plain, lambda content: content["files"].pop())
        self.refused(plain, f"has known answers but names no {KNOWN_ANSWERS}; export the bundle again$")

    def test_the_file_is_too_long(self, plain):
        (plain / KNOWN_ANSWERS).write_bytes(bytes(2 * 16_000 * LONGEST_KNOWN_SECONDS + 2))
        change(plain, lambda content: content["files"][-1].update(entry(plain, KNOWN_ANSWERS)))
        self.refused(plain, f"are longer than {LONGEST_KNOWN_SECONDS} s")

    def test_stretches_that_take_too_long_though_the_file_is_short(self, plain):
        def edit(content):
            known = content["known_answers"]
            known |= {"stretches": known["stretches"][-1:] * 60, "logits": {"fp32": known["logits"]["fp32"][-1:] * 60}}

        change(plain, edit)
        self.refused(plain, f"are longer than {LONGEST_KNOWN_SECONDS} s")

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda known: known["stretches"][0].update(start=10**6), "do not fit"),
            (lambda known: known["stretches"][0].update(samples=1), "do not fit"),
            (lambda known: known["stretches"][0].update(samples=40_000), "do not fit"),
            (lambda known: known["stretches"].pop(), "are not 6 times 3 logits"),
            (lambda known: known["logits"]["fp32"][0].pop(), "are not 7 times 3 logits"),
            (lambda known: known.update(tolerance=0.0), "known_answers.tolerance"),
            (lambda known: known.update(stretches=[]), "known_answers.stretches"),
        ],
    )
    def test_what_makes_no_sense(self, plain, edit, message):
        change(plain, lambda content: edit(content["known_answers"]))
        self.refused(plain, message)


def test_known_answers_without_the_graph_that_runs(tmp_path):
    """Known answers that lack the graph: it is computed in float, with the bundle's sound and tolerance."""
    folder = add_known_answers(save_plain_bundle(tmp_path / "bundle", plain_graph()))
    change(folder, lambda content: content["known_answers"].update(logits={}))
    loaded = load_bundle(folder)
    verdict = known_answer_test(OnnxEngine.of(loaded), loaded)
    assert (verdict.outcome, verdict.tolerance) == ("passed", 0.01)
