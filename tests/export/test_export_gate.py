"""The accuracy gate, and what an export does with bad input, full disks, kills and places that cannot be written."""

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from distill.corpus import Utterance
from distill.evaluation.chance import Chance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import unweighted_accuracy
from distill.runs.run_directory import WEIGHTS
from distill.speech.spread_windows import spread_windows
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import GRAPHS
from edge_runtime.errors import EdgeemoError
from edge_runtime.files import sha256, write_text
from export.accuracy_gate.evaluate_graphs import drop
from export.accuracy_gate.gate import Drop, apply_gate, gate_error
from export.bundle.write_bundle import staged
from tests.command import working_edgeemo
from tests.conftest import edgeemo, invoke, need
from tests.plain_bundles import change, save_plain_bundle


def gate(high, *, speakers=30, allow=False, max_drop=0.01):
    drops = {"int8-cpu": Drop(ua=0.002, low=-0.001, high=high), "int8-trt": Drop(ua=0.0, low=0.0, high=0.0)}
    return apply_gate(
        drops, baseline="fp32", baseline_ua=0.8, max_drop=max_drop, allow_drop=allow, speakers=speakers, utterances=500
    )


class TestGate:
    def test_the_upper_end_decides(self):
        assert gate(0.01).passed
        assert gate(0.0101).failed == ("int8-cpu",)
        assert gate(0.0101, max_drop=0.02).passed
        assert gate(float("nan")).failed == ("int8-cpu",), "what is no number is no pass"

        assert gate(0.05, allow=True).overridden
        assert not gate(0.05, allow=True).passed
        assert not gate(0.0, allow=True).overridden

    def test_the_bundle_records_a_graph_that_failed(self, tmp_path):
        root = save_plain_bundle(tmp_path / "bundle")
        change(root, lambda content: content.update(gate=gate(0.042, allow=True).model_dump(mode="json")))
        bundle = load_bundle(root)
        assert "(95 % interval -0.1 to +4.2; allowed: 1.0)" in bundle.refused_by_gate("int8-cpu")
        assert bundle.refused_by_gate("int8-trt") is None

    def test_the_error_has_losses_and_numbers_of_speakers(self):
        error = gate_error(gate(0.042), "b.report.json")
        assert error.exit_code == 3
        assert "int8-cpu +0.2 points (95 % interval -0.1 to +4.2)" in error.message
        assert "500 utterances of 30 held-out speakers" in error.message
        assert "int8-trt" not in error.message
        assert "few speakers" not in error.message
        assert "so few speakers make the interval wide" in gate_error(gate(0.042, speakers=4), "x").message
        assert "--max-drop 0.043" in gate_error(gate(0.042, speakers=4), "x").message
        assert gate(0.042, max_drop=0.043).passed, "what the message proposes is enough"


def one_sentence(done, code):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    return line


@pytest.fixture(scope="module")
def run(run_dir):
    need("onnx", "onnxscript", "matplotlib")
    return run_dir


@pytest.fixture(scope="module")
def wavering_run(run, tmp_path_factory):
    """The run with a student whose decisions vary, and are right as often as possible.

    Its logits are shifted to zero on average, and its classes exchanged for each other, so that what changes it costs.
    """
    import torch

    from distill.scoring import student_score
    from export.accuracy_gate.evaluate_graphs import evaluate
    from export.loaded_run import load_run

    folder = tmp_path_factory.mktemp("wavering") / "run"
    shutil.copytree(run, folder)
    loaded = load_run(folder)
    last = loaded.student.head[-1]
    heard = list(spread_windows(loaded.fold.test, loaded.policy, 64))
    with torch.no_grad():
        last.bias -= torch.from_numpy(student_score(loaded.student)(heard).logits).mean(dim=0)
        found = evaluate(loaded, student_score(loaded.student), loaded.fold.test)
        orders = list(itertools.permutations(range(len(loaded.record.labels))))
        best = max(orders, key=lambda order: unweighted_accuracy(found.truth, np.argsort(order)[found.decided]))
        last.weight.copy_(last.weight[list(best)])
        last.bias.copy_(last.bias[list(best)])
    loaded.student.save_pretrained(folder / "student")
    weights = sha256(folder / "student" / WEIGHTS)
    write_text(folder / "report.json", loaded.report.model_copy(update={"weights": weights}).model_dump_json())
    return folder


@pytest.mark.slow
class TestThroughTheCommand:
    # Half of the weights removed without recovery: decisions change.
    HARSH = ("--prune", "0.015", "--sparsity", "2:4", "--recover-epochs", "0")

    def test_refused_with_report_and_old_bundle_intact(self, wavering_run, float_bundle_dir, tmp_path):
        out = tmp_path / "bundle"
        shutil.copytree(float_bundle_dir, out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        done = edgeemo("export", wavering_run, *self.HARSH, "--max-drop", "0", "--allow-chance", "--out", out)
        message = one_sentence(done, 3)
        assert "may exceed 0 points" in message
        assert f"{out}.report.json" in message
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        report = json.loads((tmp_path / "bundle.report.json").read_text())
        assert (report["gate"]["baseline"], report["gate"]["failed"]) == ("unpruned", ["fp32"])
        assert "**failed**" in (tmp_path / "bundle.report.md").read_text()
        # With the override the same bundle is written, marked, and the report of the failure is removed.
        edgeemo(
            "export",
            wavering_run,
            *self.HARSH,
            "--max-drop",
            "0",
            "--allow-chance",
            "--allow-drop",
            "--out",
            out,
            code=0,
        )
        manifest = load_bundle(out).manifest
        assert manifest.gate["overridden"] is True
        assert "--allow-drop" in (out / "README.md").read_text()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]

    def test_pruned_int8_with_everything(self, run, tmp_path):
        """Pruning, sparsity, recovery, simulated INT8, sensitivity, groups in float: all of it is in the bundle."""
        need("tensorrt_rtx")
        out = tmp_path / "bundle"
        options = "--int8 --fp16 --prune 0.015 --sparsity 2:4 --recover-epochs 1 --qat-epochs 1 --sensitivity"
        options += " --keep-float 1 --calibration percentile --max-drop 1 --allow-chance"
        edgeemo("export", run, *options.split(), "--out", out, code=0)
        manifest = load_bundle(out).manifest
        assert set(manifest.metrics) == set(manifest.gate["drops"]) == set(GRAPHS.values())
        checked = {name: each["tensorrt_check"] for name, each in manifest.quantisation.items() if name != "int8-cpu"}
        assert set(checked) == {"fp32", "fp16", "int8-trt"}
        assert checked["int8-trt"]["int8_layers"] > 0
        assert checked["int8-trt"]["library"].startswith("tensorrt_rtx")
        assert all(each["sparse"] for each in checked.values()), "2:4 reaches NVIDIA's builder"
        assert manifest.pruning["sparsity"] == "2:4"
        assert manifest.pruning["removed"] >= 0.015
        assert len(manifest.pruning["recovery"]["history"]) == 1
        quantised = manifest.quantisation["int8-cpu"]
        assert (quantised["calibration"], quantised["aware"]["epochs"]) == ("percentile", 1)
        (kept,) = quantised["kept_in_float"]
        report = json.loads((out / "report.json").read_text())
        assert report["sensitivity"][0]["group"] == kept
        assert (out / "report.svg").read_text().startswith("<svg")
        assert {"report.json", "report.md", "report.svg"} <= {entry.name for entry in manifest.files}
        assert sum(manifest.macs.values()) == sum(manifest.pruning["plan"]["macs_after"].values())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"], "checkpoints are gone"

    def test_dry_run_writes_nothing(self, run, tmp_path):
        done = edgeemo("export", run, "--prune", "0.015", "--dry-run", cwd=tmp_path, code=0)
        plan = json.loads(done.stdout)
        assert sum(plan["macs_after"].values()) <= 0.985 * sum(plan["macs_before"].values())
        assert "nothing was written" in done.stderr
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("limit", [10_000, 120_000])
    def test_no_room(self, run, tmp_path, limit):
        """A limit on file sizes breaks the graph's writing, or that of a later file."""
        done = edgeemo(
            "export", run, "--allow-chance", "--out", tmp_path / "bundle", limits={resource.RLIMIT_FSIZE: limit}
        )
        assert "cannot be written" in one_sentence(done, 1)
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_interrupted(self, run, float_bundle_dir, tmp_path, how):
        out = tmp_path / "bundle"
        shutil.copytree(float_bundle_dir, out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with working_edgeemo("export", run, "--out", out) as working:
            while not (tmp_path / ".bundle.part" / "model.fp32.onnx").exists():
                assert working.is_alive()
                time.sleep(0.02)
            os.kill(working.pid, how)
            working.join(60)
            assert working.exitcode == (-how if how == signal.SIGKILL else 1)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        left = [".bundle.part", "bundle"] if how == signal.SIGKILL else ["bundle"]
        assert sorted(path.name for path in tmp_path.iterdir()) == left


def of_speakers(count):
    """The loss of a graph that is wrong once in 40 utterances."""
    labels = ("a", "b")
    items = [Utterance(Path(f"{n}.wav"), f"{n}.wav", f"s{n % count}", labels[n % 2]) for n in range(40)]
    right = np.eye(2)[[n % 2 for n in range(40)]]
    wrong = right.copy()
    wrong[0] = wrong[0, ::-1]
    return drop(Evaluation(items, labels, right), Evaluation(items, labels, wrong))


@pytest.mark.parametrize("speakers", [1, 2])
def test_of_two_speakers_no_loss_is_excluded(speakers, tmp_path):
    found = of_speakers(speakers)
    assert (found.ua, found.low, found.high) == (pytest.approx(0.025), None, None)
    facts = {"baseline": "fp32", "baseline_ua": 1.0, "speakers": speakers, "utterances": 40}
    verdict = apply_gate({"int8-cpu": found}, max_drop=0.99, allow_drop=False, **facts)
    assert verdict.refused
    error = gate_error(verdict, "b.report.json")
    people = "1 speaker" if speakers == 1 else "2 speakers"
    assert f"int8-cpu +2.5 points (no interval: {people}, at least 3 are needed)" in error.message
    assert "--allow-drop" in error.message
    assert apply_gate({"int8-cpu": found}, max_drop=1.0, allow_drop=False, **facts).passed
    root = save_plain_bundle(tmp_path / "bundle")
    allowed = apply_gate({"int8-cpu": found}, max_drop=0.01, allow_drop=True, **facts)
    assert not allowed.refused
    change(root, lambda content: content.update(gate=allowed.model_dump(mode="json")))
    sentence = load_bundle(root).refused_by_gate("int8-cpu")
    assert "it loses +2.5 points of unweighted accuracy (no interval, for too few speakers; allowed: 1.0)" in sentence


def test_of_three_speakers_there_is_an_interval():
    found = of_speakers(3)
    assert found.low <= found.ua <= found.high


FACTS = {"baseline": "fp32", "baseline_ua": 0.3, "speakers": 4, "utterances": 40, "max_drop": 0.01}
CHANCE = {"fp32": Chance(ua=0.25, at_chance=False), "int8-cpu": Chance(ua=0.25, at_chance=True)}


class TestChance:
    def test_a_graph_at_chance_level_is_refused(self):
        fine = {"int8-cpu": Drop(ua=0.0, low=0.0, high=0.0)}
        verdict = apply_gate(fine, chance=CHANCE, allow_drop=True, **FACTS)
        assert verdict.refused, "--allow-drop is about losses"
        error = gate_error(verdict, "b.report.json")
        assert error.exit_code == 3
        assert "int8-cpu on 40 utterances of 4 held-out speakers is at chance level (0.250)" in error.message
        assert "--allow-chance" in error.message

    def test_the_bundle_records_it(self, tmp_path):
        verdict = apply_gate({}, chance=CHANCE, allow_drop=False, allow_chance=True, **FACTS)
        assert not verdict.refused
        assert verdict.chance_allowed
        root = save_plain_bundle(tmp_path / "bundle")
        change(root, lambda content: content.update(gate=verdict.model_dump(mode="json")))
        bundle = load_bundle(root)
        assert "no better than by chance" in bundle.refused_by_gate("int8-cpu")
        assert bundle.refused_by_gate("int8-trt") is None

    @pytest.mark.slow
    def test_through_the_command(self, run_dir, float_bundle_dir, tmp_path):
        """The session's student, of two epochs, is at chance level on its two test speakers."""
        need("onnx", "onnxscript")
        message = one_sentence(edgeemo("export", run_dir, "--allow-drop", "--out", tmp_path / "b"), 3)
        assert "at chance level (0.250)" in message
        assert "--allow-chance" in message
        assert json.loads((tmp_path / "b.report.json").read_text())["gate"]["at_chance"] == ["fp32"]
        assert "**At chance level**: fp32." in (tmp_path / "b.report.md").read_text()
        assert not (tmp_path / "b").exists()
        gate = load_bundle(float_bundle_dir).manifest.gate
        assert (gate["at_chance"], gate["chance_allowed"]) == (["fp32"], True)
        assert gate["chance"]["fp32"]["p"] > 0.025
        card = (float_bundle_dir / "README.md").read_text()
        assert "At chance level" in card
        assert "no interval: 2 speakers, at least 3 are needed" in card
        assert "Choices made with test figures visible: not stated." in card
        metrics = load_bundle(float_bundle_dir).manifest.metrics["fp32"]
        assert (metrics.ua_low, metrics.ua_high) == (None, None)


def test_killed_between_two_renames_the_old_bundle_comes_back(tmp_path):
    """And what the killed export left is no hindrance, and does not stay."""
    for name in ("old", "part"):
        (tmp_path / f".bundle.{name}").mkdir()
        (tmp_path / f".bundle.{name}" / "bundle.json").write_text(name)

    def export():
        with staged(tmp_path / "bundle") as part:
            assert not any(part.iterdir())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        export()
    assert (tmp_path / "bundle" / "bundle.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


class TestBadInput:
    def test_prune_beyond_what_can_be(self, run, tmp_path):
        done = invoke("export", run, "--prune", "0.99", "--out", tmp_path / "b")
        assert "at most 0." in one_sentence(done, 2)
        assert not any(tmp_path.iterdir())

    def test_a_cross_validation_names_its_folds(self, run, tmp_path):
        shutil.copytree(run, tmp_path / "all" / "fold-3")
        message = one_sentence(invoke("export", tmp_path / "all", "--out", tmp_path / "b"), 2)
        assert f"edgeemo export {tmp_path / 'all' / 'fold-3'}" in message

    @pytest.mark.parametrize(
        ("file", "change", "expected"),
        [
            ("run.json", {"recipe": {"from_the_future": 1}}, "another version of edgeemo"),
            ("student/config.json", {"family": "data2vec-audio"}, "family 'data2vec-audio', which this edgeemo"),
            (
                "student/config.json",
                {"encoder": {"encoder_layers": 1, "sizes": {"heads": [1, 1], "feed_forward": [32]}}},
                "do not fit",
            ),
            ("student/model.safetensors", None, "the student cannot be loaded"),
        ],
        ids=["version", "family", "sizes", "weights"],
    )
    def test_a_run_that_cannot_be_loaded(self, run, tmp_path, file, change, expected):
        shutil.copytree(run, tmp_path / "run")
        path = tmp_path / "run" / file
        if change is None:
            path.write_bytes(b"cut short")
        else:
            content = json.loads(path.read_text())
            merged = {key: content[key] | value if isinstance(value, dict) else value for key, value in change.items()}
            path.write_text(json.dumps(content | merged))
        assert expected in one_sentence(invoke("export", tmp_path / "run", "--out", tmp_path / "b"), 1)

    def test_a_place_that_cannot_be_written(self, run, tmp_path):
        (tmp_path / "file").write_text("no directory")
        done = invoke("export", run, "--out", tmp_path / "file" / "bundle")
        assert "cannot be written" in one_sentence(done, 1)

    @pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
    def test_a_disk_that_takes_no_more(self, tmp_path, number):
        with pytest.raises(EdgeemoError, match="cannot be written"), staged(tmp_path / "bundle"):
            raise OSError(number, os.strerror(number))

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--qat-epochs", "1"), "give --int8"),
            (("--keep-float", "auto"), "give --int8"),
            (("--recover-epochs", "2"), "nothing to recover"),
            (("--keep-float", "two", "--int8"), "neither a number nor auto"),
            (("--max-drop", "3"), "--max-drop"),
        ],
    )
    def test_options_that_do_not_fit(self, run, tmp_path, options, said):
        done = invoke("export", run, *options, "--out", tmp_path / "b", code=2)
        assert said in done.stderr

    def test_no_place(self, run):
        assert "--out" in one_sentence(invoke("export", run), 2)
        assert "--dry-run" in one_sentence(invoke("export", run, "--dry-run"), 2)


def test_a_loss_with_references_alone_fails():
    fine, bad = Drop(ua=0.0, low=-0.01, high=0.005), Drop(ua=0.03, low=0.01, high=0.06)
    known = {"baseline": "fp32", "baseline_ua": 0.8, "max_drop": 0.01, "allow_drop": False}
    known |= {"speakers": 20, "utterances": 400}
    assert apply_gate({"int8-cpu": fine}, reference_drops={"int8-cpu": fine}, reference_utterances=20, **known).passed
    gate = apply_gate({"int8-cpu": fine}, reference_drops={"int8-cpu": bad}, reference_utterances=20, **known)
    assert gate.failed == ("int8-cpu",)
    assert "+3.0 points" in gate_error(gate, "report.md").message
    assert apply_gate({"int8-cpu": fine}, **known).reference_utterances == 0
