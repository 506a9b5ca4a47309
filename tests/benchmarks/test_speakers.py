"""A student with a speaker model: trained by the command, exported, and measured after utterances of the speaker."""

import csv
import json

import numpy as np
import pytest

from benchmarks.bench.accuracy.graphs import held_out
from benchmarks.lab.speaker_conditions import NONE, conditions
from benchmarks.lab.speakers import make_rows, measure_all
from benchmarks.lab.strangers import unseen
from distill.corpora import read_corpus
from distill.load_recipe import load_recipe
from distill.runs.run_directory import read_report
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import SPEAKER_MODEL
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.command import ALONE, distil
from tests.conftest import edgeemo, need

CLOSED_FORM = (
    'student={random={d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40}, frozen="all", refit=true, '
    "pooled_deviation=false, lda={shrinkage=[0.3, 0.9]}, speaker={}}"
)


@pytest.mark.parametrize("setting", ["student.lda=0", "student.speaker.trust=5", "student.speaker.share=0.5"])
def test_recipes_that_make_no_sense_are_refused(setting):
    with pytest.raises(WrongUseError):
        load_recipe("edge", settings=(setting,))


@pytest.fixture(scope="module")
def run(corpus_dir, recipe_file, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("speakers") / "run"
    distil(recipe_file, corpus_dir, out, cache, *ALONE, "--set", CLOSED_FORM)
    return out


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    need("onnx", "onnxscript")
    out = tmp_path_factory.mktemp("speakers") / "bundle"
    edgeemo("export", run, "--allow-chance", "--out", out, code=0)
    return out


def test_the_student_is_chosen_as_unknown_and_as_known(run):
    need("torch", "transformers")
    from distill.student import Student

    student = Student.from_pretrained(run / "student")
    assert student.config.speaker_directions == len(student.speaker_model().projection) > 2
    report = read_report(run)
    first, chosen = (each["validation_ua"] + each["validation_ua_adapted"] for each in report.student.history)
    assert first <= chosen
    assert report.temperature == report.student.temperature == report.student.history[-1]["temperature"]
    assert 0.25 < report.threshold < 1.0


def test_the_bundle_has_the_speaker_model_of_the_student(run, exported, bundle_dir):
    from distill.student import Student

    student = Student.from_pretrained(run / "student").speaker_model()
    bundle = load_bundle(exported)
    assert (exported / SPEAKER_MODEL).read_bytes() == student.dump()
    assert bundle.manifest.speaker.directions == len(student.projection)
    statistics = np.random.default_rng(0).normal(size=(4, bundle.manifest.statistics_size)) + student.origin
    found, wanted = (each.prior().logits(each.reduced(statistics)) for each in (bundle.speaker_model, student))
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-2)
    assert load_bundle(bundle_dir).speaker_model is None
    assert not (bundle_dir / SPEAKER_MODEL).exists()


def test_the_export_measures_unknown_and_known_speakers(exported):
    report = json.loads((exported / "report.json").read_text())
    assert report["referenced"].keys() == {"fp32"}
    assert report["referenced"]["fp32"]["ua"] != report["accuracy"]["fp32"]["ua"]
    assert "After 20 utterances of the speaker" in (exported / "report.md").read_text()
    assert "After 20 unlabelled utterances of the tested speaker" in (exported / "README.md").read_text()


def test_each_condition_is_measured_on_held_out_speakers(run, exported, corpus_dir):
    found = measure_all([exported], read_corpus(corpus_dir), "fp32", repeats=1)
    rows = make_rows(found, {"corpus": "rendered", "precision": "fp32"})
    assert [row.system for row in rows] == [kind.name for kind in conditions(2)]
    plain = found[NONE, 0].runs[0]
    assert plain.accuracy.ua == pytest.approx(rows[0].ua, abs=1e-5)
    assert plain.accuracy.ua == pytest.approx(read_report(run).student.test.ua, abs=0.02)
    report = json.loads((exported / "report.json").read_text())
    assert found["random", 20].runs[0].accuracy.ua == pytest.approx(report["referenced"]["fp32"]["ua"], abs=0.02)
    changed = [name for name, kind in found.items() if not np.allclose(kind.runs[0].probabilities, plain.probabilities)]
    assert ("random", 20) in changed
    assert ("in turn", 0) in changed


def test_a_bundle_without_a_speaker_model_is_refused(bundle_dir, corpus_dir):
    with pytest.raises(WrongUseError, match="has no speaker model"):
        measure_all([bundle_dir], read_corpus(corpus_dir), "fp32", repeats=1)


@pytest.mark.slow
def test_the_gate_judges_int8_of_known_speakers_too(run, tmp_path):
    """The graphs in the bundle and the float graph are measured; the gate applies to those in the bundle."""
    need("onnx", "onnxscript")
    how = ("--int8", "--calibration=minmax", "--prune=0.015", "--allow-drop", "--precisions=int8-cpu")
    edgeemo("export", run, *how, "--allow-chance", "--out", tmp_path / "bundle", code=0)
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["referenced"].keys() == {"unpruned", "fp32", "int8-cpu"}
    assert report["gate"]["drops"].keys() == report["gate"]["reference_drops"].keys() == {"int8-cpu"}
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.precisions == ("int8-cpu",)
    assert bundle.manifest.metrics.keys() == {"fp32", "int8-cpu"}
    assert "| fp32 |" in (tmp_path / "bundle" / "README.md").read_text()
    assert report["gate"]["reference_utterances"] == 20


@pytest.fixture(scope="module")
def by_corpus(corpus_dir, tmp_path_factory):
    """Three corpora of two speakers each."""
    root = tmp_path_factory.mktemp("corpora")
    with (corpus_dir / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    speakers = sorted({row["speaker"] for row in rows})
    for number, name in enumerate(("one", "two", "three")):
        own = [row for row in rows if row["speaker"] in speakers[2 * number : 2 * number + 2]]
        (root / name).mkdir()
        with (root / name / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["file", "speaker", "emotion"], extrasaction="ignore")
            writer.writeheader()
            for row in own:
                file = row["file"].replace("/", "-")
                (root / name / file).symlink_to(corpus_dir / row["file"])
                writer.writerow(row | {"file": file})
    return [root / name for name in ("one", "two", "three")]


@pytest.mark.slow
def test_a_fold_by_corpus_from_the_command_to_the_bundle(by_corpus, recipe_file, cache, tmp_path):
    """Each test part is one corpus, which the report, the model card and the unseen corpora of the bundle say."""
    need("onnx", "onnxscript")
    corpora = [word for place in by_corpus[1:] for word in ("--corpus", f"{place.name}={place}")]
    how = (*corpora, *ALONE, "--set", CLOSED_FORM, "--set", 'folds={by="corpus", count="all"}', "--fold=2")
    first = f"{by_corpus[0].name}={by_corpus[0]}"
    done = distil(recipe_file, first, tmp_path / "run", cache, *how)
    assert "fold 2, held-out corpora" in done.stderr
    edgeemo("export", tmp_path / "run", "--allow-chance", "--out", tmp_path / "bundle", code=0)
    bundle = load_bundle(tmp_path / "bundle")
    speech = {place.name: read_corpus(place, name=place.name) for place in by_corpus}
    # The names of the corpora, sorted: one, three, two.
    part = held_out(bundle, speech["two"])
    assert len(part.utterances) == len(speech["two"].utterances)
    assert part.folds == "fold 2 of 3, corpora held out"
    assert part.speaker_independent is True
    assert {name: bool(unseen(bundle, each)) for name, each in speech.items()} == {
        "one": False,
        "two": True,
        "three": False,
    }
    with pytest.raises(EdgeemoError, match="was trained on all of this corpus"):
        held_out(bundle, speech["one"])
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert card.count("corpora held out") == 1
    assert card.count("none: trained on all of it") == 2


def test_a_single_corpus_has_no_folds_by_corpus(corpus_dir, recipe_file, cache, tmp_path):
    how = (*ALONE, "--set", CLOSED_FORM, "--set", 'folds={by="corpus", count="all"}')
    done = distil(recipe_file, corpus_dir, tmp_path / "run", cache, *how, code=None)
    assert done.returncode != 0
    assert "is a single corpus" in done.stderr
    assert 'folds.by = "speaker"' in done.stderr
