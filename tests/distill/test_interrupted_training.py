"""Training that is killed or meets a full disk, wherever it stands, goes on to what an unbroken run gives."""

import dataclasses
import os
import resource
import signal
import subprocess

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional

from distill.recipe import Schedule
from distill.runs.run_directory import read_report
from distill.training import loop
from distill.training.loop import Task, fit
from tests.conftest import edgeemo
from tests.memory_of_distill import multiply, peak_megabytes

# Kills itself in the middle of epoch EPOCH of the part TITLE. Guarded, since helpers that decode audio import it too.
STOP = """
import os, signal, sys
from distill.training import loop
from edge_runtime.cli import main

title, epoch = sys.argv[1], float(sys.argv[2])

class Stop(loop.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch > epoch:
            os.kill(os.getpid(), signal.SIGKILL)

make = loop._trainer

def made(model, task, *data):
    trainer = make(model, task, *data)
    if task.title == title:
        trainer.add_callback(Stop())
    return trainer

if __name__ == "__main__":
    loop._trainer = made
    main(sys.argv[3:])
"""


def _same_result(whole, other):
    assert read_report(other).student.model_dump() == read_report(whole).student.model_dump()
    mine, theirs = (load_file(folder / "student" / "model.safetensors") for folder in (whole, other))
    for name, values in mine.items():
        assert np.array_equal(values, theirs[name]), name


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch(corpus_dir, recipe_file, known_sounds, tmp_path):
    """Of the teacher that trains by descriptors, then of the student: the same to the bit."""
    parts = ("teachers.prosodic", "student")
    longer = [f"--set={part}.training.{what}" for part in parts for what in ("epochs=4", "batch_size=8")]
    common = ["distill", recipe_file, "--corpus", corpus_dir, "--without", "linguistic", *longer]
    edgeemo(*common, "--out", tmp_path / "whole", "--cache", known_sounds(tmp_path / "cache1"), code=0)
    (tmp_path / "stop.py").write_text(STOP)
    command = [*common, "--out", tmp_path / "broken", "--cache", known_sounds(tmp_path / "cache2")]
    for title, epoch in (("prosodic teacher", "1.6"), ("student", "2.3")):
        edgeemo(title, epoch, *command, script=tmp_path / "stop.py", code=-signal.SIGKILL)
        assert not (tmp_path / "broken" / "report.json").exists()
    edgeemo(*command, code=0)
    _same_result(tmp_path / "whole", tmp_path / "broken")
    paths = list((tmp_path / "cache1" / "teachers").rglob("*.npy"))
    assert len(paths) == 2
    for path in paths:
        assert np.array_equal(np.load(path), np.load(tmp_path / "cache2" / path.relative_to(tmp_path / "cache1")))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, x, labels):
        logits = self.layer(x)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def test_early_stopping_is_resumed(tmp_path, monkeypatch):
    """Where it ended the training but the result was not saved yet, and where it had begun to count."""
    draw = torch.Generator().manual_seed(1)
    data = [(torch.randn(4, generator=draw), index % 3) for index in range(30)]

    def collate(items):
        return {"x": torch.stack([x for x, _ in items]), "labels": torch.tensor([label for _, label in items])}

    schedule = Schedule(epochs=40, batch_size=8, learning_rate=0.05, patience=2)
    task = Task("net", collate, schedule, seed=0, folder=tmp_path / "checkpoints")
    first, second = Net(), Net()
    history = fit(first, data[:20], data[20:], task)
    assert len(history) < 40
    # States that were cut short by a kill are not taken for checkpoints.
    for number, name, content in ((9998, "model.safetensors", "half"), (9999, "trainer_state.json", '{"epoch": 7.0, ')):
        (task.folder / f"checkpoint-{number}").mkdir()
        (task.folder / f"checkpoint-{number}" / name).write_text(content)
    assert fit(second, data[:20], data[20:], task) == history
    assert torch.equal(first.layer.weight, second.layer.weight)

    class Stop(loop.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.epoch > len(history) - 0.5:
                raise KeyboardInterrupt

    make, other = loop._trainer, dataclasses.replace(task, folder=tmp_path / "other")
    monkeypatch.setattr(loop, "_trainer", lambda *given: (trainer := make(*given)).add_callback(Stop()) or trainer)
    with pytest.raises(KeyboardInterrupt):
        fit(Net(), data[:20], data[20:], other)
    monkeypatch.undo()
    resumed = Net()
    assert fit(resumed, data[:20], data[20:], other) == history
    assert torch.equal(first.layer.weight, resumed.layer.weight)
    # On a machine with a GPU the training has left it there.
    assert not torch.equal(first.layer.weight.cpu(), Net().layer.weight)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, and the function that gives it more room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here; the test with a limit on file sizes stands for it")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def _one_sentence(done):
    """The last line is the error; those before show progress."""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert sum(line.startswith("Error") for line in lines) == 1
    return lines[-1]


@pytest.mark.slow
def test_a_disk_that_fills_while_a_checkpoint_is_written(whole_run, small_disk, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (command, whole), (folder, more_room) = whole_run, small_disk
    done = edgeemo(*command, folder / "run", code=1)
    message = _one_sentence(done)
    assert "the checkpoint cannot be written" in message
    assert "make room" in message
    checkpoints = list((folder / "run" / "checkpoints" / "student").glob("checkpoint-*"))
    assert 1 <= len(checkpoints) < 4, "not all fit"
    assert all((path / "trainer_state.json").is_file() for path in checkpoints), "of the cut one nothing stays"
    more_room()
    edgeemo(*command, folder / "run", code=0)
    _same_result(whole, folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "limit", "expected"),
    [
        ("descriptors", 20_000, ".npy: cannot be written"),
        ("teacher", 20_000, "the checkpoint cannot be written"),
        ("optimiser", 800_000, "the checkpoint cannot be written"),
    ],
)
def test_files_that_cannot_be_written(what, limit, expected, corpus_dir, recipe_file, cache, known_sounds, tmp_path):
    """A limit on file sizes breaks a write in its middle; with more room the same command goes on."""
    teachers = cache if what == "optimiser" else known_sounds(tmp_path / "known")
    if what == "descriptors":
        for path in teachers.glob("eGeMAPS*/*"):
            if path.stat().st_size > limit:
                path.unlink()
    command = ["distill", recipe_file, "--corpus", corpus_dir, "--without", "linguistic", "--out", tmp_path / "run"]
    # So wide that two numbers for each weight that is trained are more than all weights, with the constants among them.
    command += ["--set", "student.hidden_size=256", "--set", "student.training.epochs=1", "--cache", teachers]
    done = edgeemo(*command, limits={resource.RLIMIT_FSIZE: limit}, code=1)
    message = _one_sentence(done)
    assert expected in message
    assert (str(teachers) in message) == (what != "optimiser")
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["run.json"]
    edgeemo(*command, code=0)
    assert read_report(tmp_path / "run").student.history
    weights = (tmp_path / "run" / "student" / "model.safetensors").stat().st_size
    assert (weights < limit) == (what == "optimiser"), "another file than the one that is meant was broken"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(corpus_dir, recipe_file, known_sounds, tmp_path):
    """Three times the utterances, teachers included; audio and features stay on disk, metadata may grow."""
    settings = ("--without", "linguistic", "--set", "student.training.epochs=1", "--accept", "duplicates")
    settings += ("--set", "teachers.prosodic.training.epochs=1")

    def kilobytes_an_utterance(attempt):
        peaks, counts = [], []
        for times in (4, 12):
            work = tmp_path / f"{attempt}-{times}"
            counts.append(multiply(corpus_dir, times, work / "corpus"))
            known_sounds(work / "cache")  # copies sound the same: the same few files would be described in both
            peaks.append(peak_megabytes(recipe_file, work / "corpus", work, settings))
        return (peaks[1] - peaks[0]) * 1000 / (counts[1] - counts[0])

    # An utterance of a second and a half is 100 kB of samples and 15 kB of descriptors, and it has some 10 kB of names.
    # The allocator's arenas differ by some 20 MB from run to run: what grows with the corpus grows in every run.
    assert min(measured := [kilobytes_an_utterance(attempt) for attempt in range(2)]) < 13, measured
