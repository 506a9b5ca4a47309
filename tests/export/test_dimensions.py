"""Arousal, valence and dominance from a manifest to events: run, bundle, engines, and what refuses them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from distill.evaluation.predictions import Predictions
from distill.runs.run_directory import read_report
from edge_runtime import load
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clip
from edge_runtime.engines.engine import OnnxEngine, Scores
from edge_runtime.engines.known_answer_test import known_answer_test
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import parse_event
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio
from tests.conftest import edgeemo, invoke, need, succeed
from tests.plain_bundles import change

pytestmark = pytest.mark.slow
RECIPE = """
name = "regression"
threads = 1
[folds]
count = 3
[window]
seconds = 3.0
hop_seconds = 0.5
minimum_seconds = 0.5
segment_seconds = 6.0
[student]
random = { d_model = 32, layers = 1, heads = 2, feed_forward = 64, mel_bins = 40 }
frozen = "all"
pooled_layers = [0, 1]
refit = true
[student.lda]
[student.dimensions]
"""
NAMES = ("arousal", "valence", "dominance")


@pytest.fixture(scope="session")
def regression_recipe(once) -> Path:
    return once("regression.toml", lambda path: path.write_text(RECIPE))


@pytest.fixture(scope="session")
def rendered(once) -> Path:
    """Nine speakers, so that three are tested."""
    need("espeakng_loader")
    from distill.rendered.render import render_corpus

    return once("nine-speakers", lambda folder: render_corpus(folder, speakers=9, share=7, workers=1))


@pytest.fixture(scope="session")
def regression_run(rendered, regression_recipe, cache, once) -> Path:
    """A run in closed form on a frozen encoder of random weights."""
    need("torch", "transformers")
    command = ("distill", regression_recipe, "--corpus", rendered, "--cache", cache, "--out")
    return once("regression-run", lambda out: succeed(*command, out))


@pytest.fixture(scope="session")
def regression_bundle(regression_run, once) -> Path:
    need("onnx", "onnxscript")
    command = ("export", regression_run, "--int8", "--max-drop", "1", "--max-ccc-drop", "0.2", "--out")
    return once("regression-bundle", lambda out: succeed(*command, out))


class TestRun:
    def test_rendered_speech_is_predicted(self, regression_run):
        report = read_report(regression_run).student
        assert tuple(report.dimensions) == NAMES
        assert report.dimensions["arousal"].ccc > 0.4
        assert report.dimensions["arousal"].ccc_interval.low > 0
        assert {f"ridge_{name}" for name in NAMES} <= {key for row in report.history for key in row}

    def test_predictions_hold_prediction_and_target(self, regression_run, rendered):
        found = Predictions.read(regression_run / "predictions.csv")
        rows = (line.split(",") for line in (rendered / "metadata.csv").read_text().splitlines())
        header = next(rows)
        targets = {row[0]: float(row[header.index("arousal")]) for row in rows}
        assert found.dimensions.targets[:, 0] == pytest.approx([targets[name] for name in found.names])
        wanted = read_report(regression_run).student.dimensions["arousal"].ccc
        assert found.dimensions.concordance["arousal"].ccc == pytest.approx(wanted, abs=1e-6)

    def test_a_column_that_is_not_there(self, rendered, regression_recipe, cache, tmp_path):
        shutil.copytree(rendered, tmp_path / "corpus")
        table = tmp_path / "corpus/metadata.csv"
        table.write_text(table.read_text().replace(",dominance", ",strength", 1))
        command = ("distill", regression_recipe, "--corpus", tmp_path / "corpus", "--cache", cache, "--out")
        done = invoke(*command, tmp_path / "run")
        assert done.returncode == 1
        assert "holds no targets of 'dominance'" in done.stderr
        assert "student.dimensions.names" in done.stderr


class TestBundle:
    def test_the_manifest_and_the_card(self, regression_bundle):
        entry = load_bundle(regression_bundle).manifest.dimensions
        assert entry.names == NAMES
        assert entry.scale == (0, 1)
        assert set(entry.metrics) == {"fp32", "int8-cpu", "int8-trt"}
        for found in entry.metrics.values():
            assert found["arousal"].ccc > 0.4
            assert found["arousal"].ccc_low < found["arousal"].ccc < found["arousal"].ccc_high
        assert set(entry.gate["drops"]) == {"int8-cpu", "int8-trt"}
        card = (regression_bundle / "README.md").read_text()
        arousal = entry.metrics["int8-cpu"]["arousal"]
        assert f"| int8-cpu | arousal | {arousal.ccc:.3f} | {arousal.ccc_low:.3f} to {arousal.ccc_high:.3f} |" in card

    def test_events_carry_them(self, regression_bundle, rendered):
        files = sorted((rendered / "r01").glob("*.flac"))[:8]
        signal = np.concatenate([read_audio(path) for path in files])
        with load(regression_bundle) as model:
            events = model(signal, SAMPLE_RATE)
        assert events
        for event in events:
            assert tuple(event.dimensions) == NAMES
            assert all(0 <= value <= 1 for value in event.dimensions.values())
            assert json.loads(event.model_dump_json())["dimensions"] == event.dimensions
            assert parse_event(event.model_dump_json()) == event

    def test_the_command_gives_the_mean_over_windows(self, regression_bundle, rendered):
        path = sorted((rendered / "r02").glob("*.flac"))[0]
        done = edgeemo("listen", regression_bundle, "--source", path, "--no-vad", "--json")
        event = next(each for each in map(json.loads, done.stdout.splitlines()) if each["type"] == "final")
        bundle = load_bundle(regression_bundle)
        wanted = score_clip(OnnxEngine.of(bundle).score, read_audio(path), bundle.manifest.window).dimensions
        assert list(event["dimensions"].values()) == pytest.approx(wanted, abs=1e-3)

    def test_known_answers_include_them(self, regression_bundle):
        bundle = load_bundle(regression_bundle)

        class Shifted(OnnxEngine):
            def score(self, pcm, reference=None):
                found = super().score(pcm, reference)
                return found._replace(dimensions=found.dimensions + 0.5)

        class Without(OnnxEngine):
            def score(self, pcm, reference=None):
                return Scores(*super().score(pcm, reference)[:2])

        assert known_answer_test(OnnxEngine.of(bundle), bundle).outcome == "passed"
        verdict = known_answer_test(Shifted.of(bundle), bundle)
        assert verdict.outcome == "failed"
        assert "its dimensions have an error of 0.5" in verdict.detail
        assert known_answer_test(Without.of(bundle), bundle).outcome == "failed"

    @pytest.mark.parametrize(
        ("edit", "expected"),
        [
            (lambda entry: entry.update(names=["arousal", "arousal", "valence"]), "names a label twice"),
            (lambda entry: entry.update(names=["arousal", "joy", "valence"]), "dimensions.names"),
            (lambda entry: entry.update(scale=[0, 5]), "must be 0 and 1"),
            (lambda entry: entry.update(names=["arousal"]), "known answers of fp32 are not"),
        ],
    )
    def test_a_manifest_that_does_not_fit(self, edit, expected, regression_bundle, tmp_path):
        shutil.copytree(regression_bundle, tmp_path / "bundle")
        change(tmp_path / "bundle", lambda manifest: edit(manifest["dimensions"]))
        with pytest.raises(EdgeemoError, match=expected):
            load_bundle(tmp_path / "bundle")

    def test_a_graph_with_an_output_that_no_manifest_names(self, regression_bundle, tmp_path):
        shutil.copytree(regression_bundle, tmp_path / "bundle")
        change(tmp_path / "bundle", lambda manifest: manifest.pop("dimensions"))
        with pytest.raises(EdgeemoError, match="has the outputs 'dimensions', 'logits', 'statistics', not"):
            OnnxEngine.of(load_bundle(tmp_path / "bundle"))

    def test_a_bundle_without_them_says_nothing_of_them(self, untrained_bundle):
        assert "dimensions" not in json.loads((untrained_bundle / "bundle.json").read_text())
        assert OnnxEngine.of(load_bundle(untrained_bundle)).outputs([np.zeros(16_000, np.float32)]).dimensions.size == 0


class TestGate:
    def test_a_loss_of_concordance_refuses(self, regression_run, tmp_path):
        """Of two graphs, one gives dimensions with a third of their spread."""
        from distill.evaluation.concordance import DimensionScores
        from distill.evaluation.evaluate import Evaluation
        from export.accuracy_gate.dimensions import apply_dimension_gate, dimension_gate_error
        from export.loaded_run import load_run

        run = load_run(regression_run)
        predictions = Predictions.read(regression_run / "predictions.csv")
        truth = predictions.dimensions
        spoilt = DimensionScores(NAMES, 0.5 + 0.3 * (truth.predicted - 0.5), truth.targets, truth.speakers)

        def evaluation(scores):
            return Evaluation(run.fold.test, predictions.labels, predictions.probabilities, dimensions=scores)

        graphs = {"fp32": evaluation(truth), "int8-cpu": evaluation(truth), "int8-trt": evaluation(spoilt)}
        judged = ("int8-cpu", "int8-trt")
        gate = apply_dimension_gate(graphs, "fp32", judged, max_drop=0.02, allow=False)
        assert gate.failed == ("int8-trt",)
        assert not gate.overridden
        assert apply_dimension_gate(graphs, "fp32", judged, max_drop=0.02, allow=True).overridden
        message = dimension_gate_error(gate, "bundle.report.json").message
        assert "int8-trt arousal" in message
        assert "--max-ccc-drop" in message

    def test_the_command_ends_with_3(self, regression_run, tmp_path, monkeypatch):
        out = tmp_path / "bundle"
        options = ("--int8", "--precisions", "int8-cpu", "--calibration", "minmax", "--max-drop", "1")
        done = invoke("export", regression_run, *options, "--max-ccc-drop", "0", "--out", out)
        report = out.with_name("bundle.report.json")
        if done.returncode == 3:
            assert "loss of concordance" in done.stderr
            assert not out.exists()
            assert json.loads(report.read_text())["dimensions"]["gate"]["failed"] == ["int8-cpu"]
        else:
            # INT8 may lose nothing on so few clips; then the gate must say so.
            drops = json.loads((out / "bundle.json").read_text())["dimensions"]["gate"]["drops"]["int8-cpu"]
            assert all(each["high"] <= 0 for each in drops.values())
