"""A student trained by gradient steps predicts dimensions; the prosodic teacher stands in for missing targets."""

import csv
import shutil

import pytest

from distill.evaluation.predictions import Predictions
from distill.runs.run_directory import read_report, read_run
from tests.conftest import need, succeed

pytestmark = pytest.mark.slow
RECIPE = """
name = "trained-regression"
threads = 1
[folds]
count = 3
[window]
seconds = 2.0
hop_seconds = 0.5
minimum_seconds = 0.5
segment_seconds = 6.0
[[teachers]]
kind = "prosodic"
channels = [16]
embedding_size = 16
training = { epochs = 1, learning_rate = 2e-3 }
[student]
hidden_size = 32
random = { d_model = 32, layers = 1, heads = 2, feed_forward = 64, mel_bins = 40 }
training = { epochs = 2, batch_size = 16, learning_rate = 2e-3 }
[student.dimensions]
names = ["arousal", "dominance"]
teacher_share = 0.3
"""


def test_missing_targets_are_the_teachers(corpus_dir, cache, tmp_path):
    need("torch", "transformers", "opensmile")
    corpus = tmp_path / "corpus"
    shutil.copytree(corpus_dir, corpus)
    with (corpus / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[::3]:
        row["arousal"] = ""
    with (corpus / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    succeed("distill", recipe, "--corpus", corpus, "--cache", cache, "--out", tmp_path / "run")
    report = read_report(tmp_path / "run")
    assert read_run(tmp_path / "run").recipe.student.dimensions.teacher_share == 0.3
    teacher, student = report.teachers["prosodic"], report.student
    assert tuple(student.dimensions) == tuple(teacher.dimensions) == ("arousal", "dominance")
    assert student.dimensions["arousal"].utterances < student.dimensions["dominance"].utterances
    assert teacher.dimensions["dominance"].ccc > 0.3, "effort is what descriptors of the voice measure"
    of_teacher = Predictions.read(tmp_path / "run/predictions-prosodic.csv").dimensions
    assert ((of_teacher.predicted >= 0) & (of_teacher.predicted <= 1)).all()
