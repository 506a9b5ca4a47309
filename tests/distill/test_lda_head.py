"""The LDA head: what it computes, what other corpora do to it, and a student that has nothing else."""

import numpy as np
import pytest
import torch

from distill.distillation.build_student import build_student
from distill.heads.lda import LabelledRows, fit_lda
from distill.recipe import LdaHead, RandomEncoder, Schedule
from distill.recipe import Student as StudentRecipe
from distill.runs.run_directory import read_report, read_run
from distill.student import Student
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.windows import WindowPolicy
from export.export_run import export_run
from export.graphs.float_graph import export_graph
from export.graphs.policy import SMALLEST_CHANNELS, choose
from export.loaded_run import load_run
from export.options import Changes, ExportOptions
from export.prepare import prepare
from tests.command import ALONE, distil, invoke
from tests.conftest import need, tone

CLASSES, SIZE = 3, 40
DISCRIMINANT = (
    "--set",
    'student={random={d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40}, frozen="all", refit=true, '
    "lda={shrinkage=[0.3, 0.9]}}",
)


def data(count=30, seed=0):
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(CLASSES), count)
    centres = random.normal(size=(CLASSES, SIZE))
    return random.normal(size=(len(classes), SIZE)) @ np.diag(np.linspace(0.2, 3, SIZE)) + centres[classes], classes


def blocks(statistics, classes, weights=None, size=7):
    weights = np.ones(len(classes)) if weights is None else weights
    return lambda: (
        LabelledRows(statistics[start : start + size], classes[start : start + size], weights[start : start + size])
        for start in range(0, len(classes), size)
    )


def fit(rows, shrinkage):
    (found,) = fit_lda(rows, CLASSES, [shrinkage])
    return found


@pytest.mark.parametrize("shrinkage", [0.1, 0.75, 1.0])
def test_it_is_linear_discriminant_analysis_as_scikit_learn_has_it(shrinkage):
    need("sklearn")
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    statistics, classes = data()
    found = fit(blocks(statistics, classes), shrinkage)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / CLASSES] * CLASSES)
    theirs.fit(statistics, classes)
    mine = statistics @ found.weight.T + found.bias
    wanted = theirs.decision_function(statistics)
    # Logits mean the same whatever is added to all of them.
    assert np.allclose(mine - mine[:, :1], wanted - wanted[:, :1], atol=1e-3)


def test_a_weight_of_two_is_being_there_twice():
    statistics, classes = data()
    weights = np.where(np.arange(len(classes)) % 2, 2.0, 1.0)
    weighted = fit(blocks(statistics, classes, weights), 0.3)
    twice = np.repeat(np.arange(len(classes)), weights.astype(int))
    repeated = fit(blocks(statistics[twice], classes[twice]), 0.3)
    assert np.allclose(weighted.weight, repeated.weight, atol=1e-4)
    assert np.allclose(weighted.bias, repeated.bias, atol=1e-3)


def test_rare_classes_count_alike():
    statistics, classes = data()
    rare = np.concatenate([np.flatnonzero(classes != 2), np.flatnonzero(classes == 2)[:4]])
    found = fit(blocks(statistics[rare], classes[rare]), 0.75)
    centre = statistics[rare][classes[rare] == 2].mean(axis=0)
    assert (centre @ found.weight.T + found.bias).argmax() == 2


@pytest.fixture(scope="module")
def run(corpus_dir, recipe_file, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("lda") / "run"
    distil(recipe_file, corpus_dir, out, cache, *ALONE, *DISCRIMINANT)
    return out


class TestStudentInClosedForm:
    def test_it_is_the_lda_head_alone(self, run):
        student = Student.from_pretrained(run / "student")
        assert student.branches == {}
        assert not hasattr(student, "head")
        assert student.lda_head.weight.abs().sum() > 0
        with torch.inference_mode():
            heard = student(torch.from_numpy(tone(1.0))[None])
        standardised = (heard.statistics - student.reference) / student.scale
        assert torch.allclose(heard.logits, student.lda_head(standardised), atol=1e-5)
        report = read_report(run)
        first, chosen = report.student.history
        assert {first["shrinkage"], chosen["shrinkage"]} == {0.3, 0.9}
        assert first["validation_ua"] <= chosen["validation_ua"]

    @pytest.mark.slow
    def test_it_is_pruned_recovers_and_becomes_int8(self, run, tmp_path):
        """Its encoder, which was frozen, learns; what was fitted in closed form stays as it was."""
        need("onnx", "onnxscript")
        before = Student.from_pretrained(run / "student")
        changes = Changes(prune=0.015, sparsity="2:4", recover_epochs=1, qat_epochs=1)
        options = ExportOptions(int8=True, fp16=True, changes=changes, allow_drop=True, allow_chance=True)
        after = export_run(run, tmp_path / "bundle", options).student
        assert torch.equal(after.reference, before.reference)
        assert torch.equal(after.scale, before.scale)
        assert torch.equal(after.lda_head.weight, before.lda_head.weight)
        assert torch.equal(after.lda_head.bias, before.lda_head.bias)
        assert sum(after.encoder.sizes.feed_forward) < sum(before.encoder.sizes.feed_forward)
        cut = prepare(load_run(run), Changes(prune=0.015, sparsity="2:4"), tmp_path, lambda text: None).student
        name = "layers.0.fc2.weight"
        learnt = after.encoder.state_dict()[name] - cut.encoder.state_dict()[name]
        assert learnt.abs().max() > 1e-5
        bundle = load_bundle(tmp_path / "bundle")
        assert bundle.manifest.labels == read_run(run).labels
        assert bundle.precisions == ("fp32", "fp16", "int8-cpu", "int8-trt")
        assert set(bundle.manifest.gate["drops"]) == set(bundle.precisions)
        assert set(bundle.manifest.metrics) == set(bundle.precisions)
        wanted = dict.fromkeys(bundle.precisions, "fp32") | {"fp32": "pytorch"}
        assert {rung["lower"]: rung["upper"] for rung in bundle.manifest.parity} == wanted
        for precision in ("int8-cpu", "int8-trt"):
            told = bundle.manifest.quantisation[precision]["left_in_float"]
            assert [reason for node, reason in told.items() if node.startswith("lda_head/")] == ["last classifier"]

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            (DISCRIMINANT, "the teacher 'linguistic' has no effect on a student without 'training'"),
            (("--set", "student.lda={shrinkage=[0.3, 0.9]}"), "'lda' is for a frozen encoder"),
        ],
    )
    def test_recipes_that_make_no_sense(self, corpus_dir, recipe_file, tmp_path, settings, expected):
        out = ("--out", tmp_path / "run")
        assert expected in invoke("distill", recipe_file, "--corpus", corpus_dir, *settings, *out, code=2).stderr


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "with branches"])
def test_all_that_makes_the_logits_stays_float(tmp_path, taught):
    """With as many classes as make a layer worth INT8, too."""
    need("torch", "onnx", "onnxscript")
    import onnx

    recipe = StudentRecipe(
        random=RandomEncoder(d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40),
        frozen="all",
        lda=LdaHead(),
        training=Schedule(epochs=1, learning_rate=1e-3) if taught else None,
    )
    student = build_student(recipe, tuple(f"class{number}" for number in range(SMALLEST_CHANNELS + 4)))
    export_graph(student, WindowPolicy(seconds=2.0), tmp_path / "model.onnx")
    choices = choose(onnx.load(tmp_path / "model.onnx"))
    reasons = {each.node.partition("/")[0]: each.reason for each in choices if not each.quantise}
    last = {"lda_head", "head.3"} if taught else {"lda_head"}
    assert {name for name, reason in reasons.items() if reason == "last classifier"} == last
    assert any(each.quantise and each.node.startswith("head.0/") for each in choices) == taught


def test_training_starts_from_the_lda_head_and_keeps_it(corpus_dir, recipe_file, cache, tmp_path):
    settings = ("--set", 'student.frozen="all"', "--set", "student.lda={shrinkage=[0.3, 0.9]}")
    students = []
    for number, epochs in enumerate((1, 2)):
        out = tmp_path / f"run{number}"
        more = ("--without", "linguistic", *settings, "--set", f"student.training.epochs={epochs}")
        distil(recipe_file, corpus_dir, out, cache, *more)
        students.append(Student.from_pretrained(out / "student"))
    one, two = students
    assert torch.equal(one.lda_head.weight, two.lda_head.weight)
    assert two.head[-1].weight.abs().sum() > 0
