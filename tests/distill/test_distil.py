"""Distillation end to end on a small rendered corpus: the run directory, resume, teachers, what leaks and what not."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from distill.caching.per_file import extract_with
from distill.corpora import read_corpus
from distill.folds import make_fold
from distill.load_recipe import built_in_recipes, load_recipe
from distill.runs.run_directory import read_report, read_run
from distill.teachers.egemaps import DESCRIPTORS, extract
from tests.command import distil


def test_the_run_directory_is_complete(run_dir, corpus_dir):
    record, report = read_run(run_dir), read_report(run_dir)
    predictions = {"predictions.csv", "predictions-linguistic.csv", "predictions-prosodic.csv"}
    assert {path.name for path in run_dir.iterdir()} == {
        *predictions,
        "report.json",
        "run.json",
        "student",
        "training-speech.u32",
    }
    assert record.recipe.seed == 3
    assert record.provenance.versions["torch"]
    assert record.provenance.command.startswith("edgeemo distill")
    assert set(report.teachers) == {"linguistic", "prosodic"}
    for system in (*report.teachers.values(), report.student):
        assert 0 <= system.test.ua <= 1
        assert system.history
        assert {"epoch", "loss", "validation_loss", "validation_ua"} <= set(system.history[0])
    assert report.student.test.utterances == report.parts["test"]
    fold = make_fold(read_corpus(corpus_dir), record.recipe.folds, record.fold)
    assert report.student.test.speakers == len({item.speaker for item in fold.test})
    assert "no evidence of accuracy on people" in report.note


def test_a_finished_run_is_left_alone(run_dir, corpus_dir, recipe_file, cache):
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    distil(recipe_file, corpus_dir, run_dir, cache)
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_teachers_come_from_the_cache_the_second_time(run_dir, corpus_dir, recipe_file, cache, tmp_path):
    """Also for another student: outputs depend on the teacher, the fold and the seed only."""
    settings = ("--set=student.hidden_size=16", "--set=teachers.linguistic.signal.temperature=2.0")
    done = distil(recipe_file, corpus_dir, tmp_path / "r", cache, *settings)
    assert done.stderr.count("taken from the cache") == 2
    ours, theirs = read_report(tmp_path / "r").teachers, read_report(run_dir).teachers
    assert ours["linguistic"].test == theirs["linguistic"].test


def test_a_corpus_without_transcripts_names_the_way_out(corpus_dir, recipe_file, cache, tmp_path):
    shutil.copytree(corpus_dir, tmp_path / "c")
    metadata = tmp_path / "c" / "metadata.csv"
    head, *rows = (line.split(",") for line in metadata.read_text().splitlines())
    metadata.write_text("\n".join(",".join(row) for row in [head, *([*row[:4], "", *row[5:]] for row in rows)]))
    done = distil(recipe_file, tmp_path / "c", tmp_path / "r", cache, code=1)
    assert "has no transcript" in done.stderr
    assert "--without linguistic" in done.stderr
    assert not (tmp_path / "r").exists(), "a failed start must not stand in the way of the next one"


def test_test_speakers_touch_no_choice(corpus_dir, recipe_file, run_dir, known_sounds, tmp_path):
    """Other labels of the test part change no weight, temperature or threshold."""
    corpus = read_corpus(corpus_dir)
    recipe = load_recipe(str(recipe_file))
    tested = {item.name for item in make_fold(corpus, recipe.folds, 0).test}
    shutil.copytree(corpus_dir, tmp_path / "c")
    metadata = tmp_path / "c" / "metadata.csv"
    swap = {"angry": "sad", "sad": "angry", "happy": "neutral", "neutral": "happy"}
    rows = [line.split(",") for line in metadata.read_text().splitlines()]
    for row in rows:
        if row[0] in tested:
            row[2] = swap[row[2]]
    metadata.write_text("\n".join(map(",".join, rows)) + "\n")
    done = distil(recipe_file, tmp_path / "c", tmp_path / "r", known_sounds(tmp_path / "k"))
    assert "taken from the cache" not in done.stderr
    ours, theirs = read_report(tmp_path / "r"), read_report(run_dir)
    assert ours.student.test.wa != theirs.student.test.wa
    assert (ours.temperature, ours.threshold) == (theirs.temperature, theirs.threshold)
    for name, weights in load_file(run_dir / "student" / "model.safetensors").items():
        assert np.array_equal(load_file(tmp_path / "r" / "student" / "model.safetensors")[name], weights), name


@pytest.mark.parametrize("name", built_in_recipes())
def test_built_in_recipes_are_valid(name):
    assert load_recipe(name).name == name


def test_settings_reach_the_recipe(recipe_file):
    recipe = load_recipe(
        str(recipe_file), settings=("student.training.epochs=7", 'folds.hold_out="transcript"'), without=("prosodic",)
    )
    assert (recipe.student.training.epochs, recipe.folds.hold_out) == (7, "transcript")
    assert [each.name for each in recipe.teachers] == ["linguistic"]


def test_descriptors_are_cached_by_content(corpus_dir, tmp_path):
    path = sorted(corpus_dir.rglob("*.flac"))[0]
    copy = tmp_path / "copy.flac"
    shutil.copy(path, copy)
    first, second = extract([path, copy], tmp_path / "cache", workers=2)
    assert first == second
    matrix = np.load(first)
    assert matrix.shape[1] == len(DESCRIPTORS) == 25
    assert np.isfinite(matrix).all()


def test_only_what_is_missing_is_computed_in_the_order_of_the_files(tmp_path):
    """Each file once by its content; where nothing is missing no process starts: a lambda could not be sent to it."""
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(paths):
        np.array([number % 3], float).tofile(path)
    ticks = []

    def results(function, some):
        found = extract_with(function, some, tmp_path / "cache", workers=2, progress=lambda: ticks.append(1))
        return [int(np.load(path)[0]) for path in found]

    assert results(np.fromfile, paths[:1]) == [0]
    assert results(np.fromfile, paths) == [0, 1, 2, 0, 1]
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert results(lambda path: pytest.fail("computed again"), paths[::-1]) == [1, 0, 2, 1, 0]
    assert len(ticks) == 1 + 5 + 5


def test_metrics_by_scikit_learn(run_dir):
    """Every figure of the report, from the file of decisions by other code: scikit-learn, and NumPy for calibration."""
    from sklearn import metrics

    report = read_report(run_dir)
    for name, system in (
        ("predictions.csv", report.student),
        ("predictions-prosodic.csv", report.teachers["prosodic"]),
    ):
        with (run_dir / name).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        labels = [column for column in list(rows[0])[4:] if not column.startswith("before:")]
        truth, decided, test = [row["emotion"] for row in rows], [row["decided"] for row in rows], system.test
        assert metrics.confusion_matrix(truth, decided, labels=labels).tolist() == test.confusion
        assert metrics.balanced_accuracy_score(truth, decided) == pytest.approx(test.ua)
        assert metrics.accuracy_score(truth, decided) == pytest.approx(test.wa)
        present = sorted(set(truth))
        f1 = metrics.f1_score(truth, decided, labels=present, average="macro", zero_division=0)
        assert f1 == pytest.approx(test.macro_f1)
        recalls = metrics.recall_score(truth, decided, labels=present, average=None)
        shown = {label: value for label, value in test.recall.items() if value is not None}
        assert shown == pytest.approx(dict(zip(present, recalls, strict=True)))
        assert [max(labels, key=lambda label: float(row[label])) for row in rows] == decided
        for columns, error in ((labels, test.ece), ([f"before:{label}" for label in labels], test.ece_before)):
            probabilities = np.array([[float(row[column]) for column in columns] for row in rows])
            assert calibration_error_in_bins(probabilities, truth, labels) == pytest.approx(error, abs=1e-6)
        assert (test.utterances, test.speakers) == (len(rows), len({row["speaker"] for row in rows}))


def calibration_error_in_bins(probabilities, truth, labels):
    """The expected calibration error of Guo et al. (2017), equation 3, bin by bin."""
    from sklearn.calibration import calibration_curve

    confidence = probabilities.max(axis=1)
    right = np.array(labels)[probabilities.argmax(axis=1)] == np.array(truth)
    shares, means = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, bins=15, range=(0, 1))[0]
    return float((counts[counts > 0] * np.abs(shares - means)).sum() / len(truth))


def test_the_report_of_two_speakers_has_no_interval_and_states_chance(run_dir):
    report = read_report(run_dir)
    content = json.loads((run_dir / "report.json").read_text())["student"]["test"]
    assert content["speakers"] == 2
    assert [content[name] for name in ("ua_low", "ua_high", "wa_interval", "macro_f1_interval", "ece_interval")] == [
        None
    ] * 5
    assert set(content["recall_intervals"].values()) == {None}
    assert report.student.test.chance.p is not None
    assert report.student.test.chance.at_chance
    assert report.choices_with_test_figures is None
