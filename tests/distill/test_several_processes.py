"""Several processes give what one gives: order, crops, shares, gradients, the student's running mean, the report."""

import csv
import dataclasses
import shutil
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

from distill.corpora import read_corpus
from distill.corpus import Utterance
from distill.folds import make_fold
from distill.load_recipe import load_recipe
from distill.runs.run_directory import read_report
from distill.speech.audio_data import Windows
from distill.speech.batch_order import BatchOrder, generator, share
from distill.training.processes import together
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from tests.conftest import edgeemo
from tests.distill.test_interrupted_training import STOP

WEIGHT_TOLERANCE = 1e-5
"""Sums over a batch are rounded in another order (1e-7 of a gradient), and Adam divides by the gradient's own size, so
small gradients pass their rounding on. Seen: 2e-7 after 18 steps; a step moves a weight by up to 2e-3."""


EDGEEMO = ("-m", "edge_runtime")


def torchrun(processes, *arguments):
    """Start a program in several CPU processes, as the documents show."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture(autouse=True)
def _on_cpus(monkeypatch):
    """Where there is a GPU, two processes cannot share it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_more_processes_than_gpus(monkeypatch):
    """The GPU is simulated: what counts is the error of each process before any joins another."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(WrongUseError, match="2 processes cannot share 1 GPU: give --nproc-per-node 1"), together():
        pytest.fail("it went on")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as ended, together():
        pytest.fail("it went on")
    assert ended.value.code == WrongUseError.exit_code


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 10])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shares_make_up_the_batch(size, count):
    shares = [share(list(range(size)), rank, count) for rank in range(count)]
    if size < count:
        assert shares == [list(range(size))] * count
    else:
        assert list(chain(*shares)) == list(range(size))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_order_is_a_function_of_seed_and_epoch():
    one, parts = BatchOrder(21, 4, seed=5), [BatchOrder(21, 4, 5, rank, 2) for rank in range(2)]
    epochs = []
    for epoch in range(3):
        for order in (one, *parts):
            order.epoch = epoch
        whole, shares = list(one), [list(part) for part in parts]
        assert len(whole) == len(one) == len(parts[0]) == 6
        assert sorted(chain(*whole)) == list(range(21))
        for batch, *pair in zip(whole, *shares, strict=True):
            assert pair == [batch, batch] if len(batch) == 1 else list(chain(*pair)) == batch
        epochs.append(whole)
    assert epochs[0] != epochs[1] != epochs[2]
    assert list(BatchOrder(21, 4, seed=6)) != epochs[0]
    one.epoch = 1
    assert list(one) == epochs[1]
    draws = {place: generator(3, *place).integers(1 << 60) for place in [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(set(draws.values())) == len(draws)
    assert generator(3, 1, 1).integers(1 << 60) == draws[1, 1]


def test_batches_by_length_hold_each_item_once_and_little_padding():
    lengths = np.random.default_rng(0).uniform(1.0, 8.0, 400)
    plain, sorted_ = BatchOrder(400, 8, seed=1), BatchOrder(400, 8, seed=1, lengths=lengths)
    assert sorted(chain(*sorted_)) == list(range(400))
    longest = {order: sum(max(lengths[batch]) * len(batch) for batch in order) for order in (plain, sorted_)}
    assert longest[sorted_] < 1.15 * lengths.sum() < longest[plain]
    sorted_.epoch = 1
    again = list(sorted_)
    assert again == list(sorted_)
    # Not the shortest first.
    assert np.corrcoef(np.arange(len(again)), [lengths[batch].mean() for batch in again])[0, 1] < 0.5


def test_crops_depend_on_seed_epoch_and_utterance_only(tmp_path):
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 0.1, 48_000).astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
    items = [Utterance(tmp_path / f"{n}.wav", f"{n}.wav", f"s{n}", "a", "", "", 3.0, 0, {}) for n in range(4)]
    policy = WindowPolicy(seconds=1.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=2.0)
    forwards, backwards = (Windows(items, ["a"], policy, seed=1) for _ in range(2))
    first = [forwards[i].pcm for i in range(4)]
    torch.rand(7)
    again = [backwards[i].pcm for i in reversed(range(4))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    forwards.set_epoch(1)
    assert not any(np.array_equal(forwards[i].pcm, first[i]) for i in range(4))
    forwards.set_epoch(0)
    assert np.array_equal(forwards[2].pcm, first[2])


def _leaving_one_over(corpus_dir, recipe_file, folder):
    """Copy the corpus without some training utterances, so that the last batch of 16 holds a single one."""
    shutil.copytree(corpus_dir, folder)
    corpus, folds = read_corpus(folder), load_recipe(str(recipe_file)).folds
    kept = corpus
    # One by one: a dropped utterance may take a sentence with it, and with that change how sentences are cut.
    while len(train := make_fold(kept, folds, 0).train) % 16 != 1:
        kept = dataclasses.replace(kept, utterances=tuple(item for item in kept.utterances if item != train[0]))
    names = {item.name for item in kept.utterances}
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["file"] in names)
    return folder


@pytest.mark.slow
def test_two_processes_give_what_one_gives(corpus_dir, recipe_file, known_sounds, tmp_path):
    """Without dropout, whose masks cannot be equal; the last batch holds one utterance; teachers to the bit."""
    corpus = _leaving_one_over(corpus_dir, recipe_file, tmp_path / "corpus")
    settings = ("--set", "student.dropout=0", "--set", "student.training.epochs=2")
    command = ["distill", recipe_file, "--corpus", corpus, *settings]
    edgeemo(*command, "--out", tmp_path / "one", "--cache", known_sounds(tmp_path / "cache1"), code=0)
    done = torchrun(2, *EDGEEMO, *command, "--out", tmp_path / "two", "--cache", known_sounds(tmp_path / "cache2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("student: epoch 1/2") == 1, "only the first process reports"
    assert done.stderr.count("Next: edgeemo export") == 1
    predictions = {"predictions.csv", "predictions-linguistic.csv", "predictions-prosodic.csv"}
    for name in ("one", "two"):
        written = {path.name for path in (tmp_path / name).iterdir()}
        assert written == {"run.json", "report.json", "student", "training-speech.u32"} | predictions, name
    paths = list((tmp_path / "cache1" / "teachers").rglob("*.npy"))
    assert len(paths) == 4
    for path in paths:
        other = tmp_path / "cache2" / path.relative_to(tmp_path / "cache1")
        assert np.array_equal(np.load(path), np.load(other)), path.name
    one, two = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "two"))
    for name, values in one.items():
        assert np.abs(values - two[name]).max() < WEIGHT_TOLERANCE, name
    assert np.abs(one["reference"]).max() > 0.1, "the running mean is part of what is compared"
    one, two = (read_report(tmp_path / name) for name in ("one", "two"))
    assert two.parts == one.parts
    for mine, theirs in zip(one.student.history, two.student.history, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)
    assert two.temperature == pytest.approx(one.temperature, rel=1e-2)


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_as_one(whole_run, tmp_path):
    """Checkpoints belong to the run, not to a number of processes."""
    command, whole = whole_run
    broken = tmp_path / "broken"
    done = torchrun(2, *EDGEEMO, *command, broken, "--set", "student.training.batch_size=15")
    assert done.returncode != 0
    assert done.stderr.count("student.training.batch_size: 15 utterances cannot be shared evenly by 2 processes") == 1
    assert not broken.exists(), "a refused start must not stand in the way of the next one"
    (tmp_path / "stop.py").write_text(STOP)
    done = torchrun(2, tmp_path / "stop.py", "student", "2.4", *command, broken)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr, "it ended by something else"
    assert list((broken / "checkpoints" / "student").glob("checkpoint-*")), done.stderr
    edgeemo(*command, broken, code=0)
    ours, theirs = (load_file(folder / "student" / "model.safetensors") for folder in (broken, whole))
    for name, values in theirs.items():
        assert np.abs(values - ours[name]).max() < WEIGHT_TOLERANCE, name
