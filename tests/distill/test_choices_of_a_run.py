"""Labels, folds and left-out files of a recipe hold from training to bundle and report."""

import csv
import json

import numpy as np
import pytest
import soundfile

from benchmarks.bench.accuracy.graphs import held_out
from benchmarks.bench.results import Results
from distill.corpora import read_corpus
from distill.runs.run_directory import read_report, read_run
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import EdgeemoError
from tests.command import ALONE, distil
from tests.conftest import edgeemo, invoke, need

CHOICES = ('labels={angry="loud", happy="loud", neutral="calm"}', 'folds={by="utterance", count=4, speaker_mixed=true}')


@pytest.fixture(scope="module")
def broken_corpus(corpus_dir, tmp_path_factory):
    """The rendered corpus by a manifest beside it, one of its files damaged and another one gone."""
    root = tmp_path_factory.mktemp("broken") / "corpus"
    root.mkdir()
    with (corpus_dir / "metadata.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["emotion"] != "sad" or row["speaker"] < "r04"]
    for row in rows:
        row["file"] = str(corpus_dir / row["file"])
    soundfile.write(root / "damaged.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    rows.append(rows[0] | {"file": "damaged.wav", "emotion": "angry"})
    rows.append(rows[0] | {"file": "gone.wav", "emotion": "angry"})
    with (root / "some.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root / "some.csv"


@pytest.fixture(scope="module")
def chosen_run(broken_corpus, recipe_file, cache, tmp_path_factory):
    need("torch", "transformers", "opensmile")
    out = tmp_path_factory.mktemp("chosen") / "run"
    settings = [f"--set={choice}" for choice in CHOICES]
    command = ("distill", recipe_file, "--corpus", f"mixed={broken_corpus}", "--out", out, "--cache", cache)
    command += (*ALONE, *settings)
    done = invoke(*command, code=1)
    assert "gone.wav: is missing" in done.stderr
    done = edgeemo(*command, "--skip-broken", code=0)
    assert "left out" in done.stderr
    assert "damaged.wav: holds samples that are not numbers" in done.stderr
    return out


@pytest.mark.slow
def test_the_run_records_what_was_chosen(chosen_run, broken_corpus):
    record, report = read_run(chosen_run), read_report(chosen_run)
    assert report.teachers == {}
    assert (record.labels, record.corpus.facts.name) == (("calm", "loud"), "mixed")
    assert record.corpus.root == str(broken_corpus.resolve())
    assert record.corpus.left_out == ("damaged.wav",)
    assert "Speaker-mixed folds" in report.note
    assert set(report.student.test.recall) == {"calm", "loud"}
    assert "SPEAKER-MIXED" in record.recipe.folds.describe(record.fold)


@pytest.mark.slow
def test_bundle_and_report_state_it_too(chosen_run, broken_corpus, corpus_dir, tmp_path):
    need("onnx", "onnxscript", "matplotlib")
    bundle = tmp_path / "bundle"
    edgeemo("export", chosen_run, "--allow-chance", "--out", bundle, code=0)
    loaded = load_bundle(bundle)
    (entry,) = loaded.manifest.corpora
    assert loaded.manifest.labels == ("calm", "loud")
    assert entry.folds.speaker_mixed
    assert (entry.folds.by, entry.folds.count, entry.left_out) == ("utterance", 4, ("damaged.wav",))
    assert "SPEAKER-MIXED" in (bundle / "README.md").read_text()

    part = held_out(loaded, read_corpus(broken_corpus, skip_broken=True))
    assert part.speaker_independent is False
    with (chosen_run / "predictions.csv").open(newline="") as stream:
        assert [row["file"] for row in csv.DictReader(stream)] == [item.name for item in part.utterances]
    with pytest.raises(EdgeemoError, match="has the label 'angry', which the bundle does not have"):
        held_out(loaded, read_corpus(corpus_dir))

    report = tmp_path / "report"
    edgeemo("bench", bundle, "--corpus", broken_corpus, "--out", report, "--rounds", 10, code=0)
    (row,) = [row for row in Results.read(report / "results.json").rows if row.system == "student"]
    assert row.speaker_independent is False
    assert "SPEAKER-MIXED" in row.folds
    assert "SPEAKER-MIXED" in (report / "report.html").read_text()
    assert row.ua == pytest.approx(loaded.manifest.metrics["fp32"].ua, abs=1e-3)


@pytest.mark.slow
def test_another_choice_is_another_run(chosen_run, broken_corpus, recipe_file, cache):
    settings = ("--skip-broken", "--set", CHOICES[1], "--set", 'labels={angry="loud", neutral="calm"}')
    done = distil(recipe_file, f"mixed={broken_corpus}", chosen_run, cache, *ALONE, *settings, code=2)
    assert "another recipe" in done.stderr
    assert json.loads((chosen_run / "run.json").read_text())["labels"] == ["calm", "loud"]
