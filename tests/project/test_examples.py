"""The examples, run as a user runs them."""

import csv
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime import EmotionEvent, listen, load, score_file
from edge_runtime.examples.callback import Capture
from edge_runtime.examples.robot import Robot
from edge_runtime.sources.audio import read_audio
from tests.command import python
from tests.conftest import edgeemo, need
from tests.events_and_takers import emotion, status

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "edge_runtime" / "examples"


@pytest.mark.parametrize(
    "name", ["score_folder", "robot", "home_assistant", "callback", "fastapi_server", "wyoming_service"]
)
def test_an_example_has_help(name):
    done = edgeemo("--help", script=RUNTIME / f"{name}.py")
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_the_notebook_runs_and_plots(clip, tmp_path):
    """Its cells, in order, as one script: Jupyter adds nothing to them."""
    need("matplotlib")
    shutil.copy(clip, tmp_path / "clip.wav")
    notebook = json.loads((RUNTIME / "probabilities.ipynb").read_text("utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    shown = "figure.savefig('plot.png')\nprint(len(axes[1].lines), len(provisional), len(final))"
    script = "\n".join([*cells, shown])
    done = python("-c", script, cwd=tmp_path, env=os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    lines, provisional, final = map(int, done.stdout.split())
    assert lines == 4
    assert provisional > 0
    assert final > 0
    assert (tmp_path / "plot.png").stat().st_size > 5_000


# ---- callback


def emotions(events):
    return [(event.start, event.end, event.label) for event in events if isinstance(event, EmotionEvent)]


def test_a_callback_gives_the_events_of_the_file(bundle_dir, clip):
    sound, events = read_audio(clip), []
    with load(bundle_dir) as model:
        capture = Capture(model, 16_000, events.append)
        buffer = np.empty((512, 1), np.float32)
        for start in range(0, len(sound), 512):
            chunk = sound[start : start + 512]
            buffer[: len(chunk), 0] = chunk  # filled again before it was scored
            capture.take(buffer[: len(chunk)])
        capture.close()
        assert emotions(events) == emotions(listen(model, clip))
    assert capture.dropped == 0


def test_a_callback_never_waits(bundle_dir):
    with load(bundle_dir) as model:
        capture = Capture(model, 16_000, lambda event: threading.Event().wait(1), room=2)
        began = time.monotonic()
        for _ in range(50):
            capture.take(np.zeros(160, np.float32))
        assert time.monotonic() - began < 0.5
        assert capture.dropped > 0
        capture.close()


# ---- score_folder


@pytest.fixture
def folder(clip, tmp_path):
    place = tmp_path / "recordings"
    (place / "inner").mkdir(parents=True)
    shutil.copy(clip, place / "inner" / "a, b.wav")
    soundfile.write(place / "silence.flac", np.zeros(16_000, np.float32), 16_000)
    (place / "notes.txt").write_text("no audio")
    return place


def scored(folder, bundle_dir):
    done = edgeemo(folder, "--bundle", bundle_dir, script=RUNTIME / "score_folder.py")
    return done, list(csv.DictReader(done.stdout.splitlines()))


def test_a_folder_is_scored_as_its_files_are(folder, bundle_dir, clip):
    done, rows = scored(folder, bundle_dir)
    assert done.returncode == 0, done.stderr
    finals = score_file(clip, bundle_dir)
    assert finals
    *spoken, silent = rows
    assert [row["file"] for row in spoken] == ["inner/a, b.wav"] * len(finals)
    assert [
        (float(row["start"]), float(row["end"]), row["label"], float(row["confidence"]), row["uncertain"])
        for row in spoken
    ] == [(each.start, each.end, each.label, each.confidence, str(each.uncertain)) for each in finals]
    assert silent == {"file": "silence.flac", "start": "", "end": "", "label": "", "confidence": "", "uncertain": ""}


def test_a_broken_file_is_reported_and_the_others_are_scored(folder, bundle_dir):
    (folder / "broken.wav").write_text("no audio")
    done, rows = scored(folder, bundle_dir)
    assert done.returncode == 1
    assert "broken.wav" in done.stderr
    assert "1 of the files could not be scored" in done.stderr
    assert "Traceback" not in done.stderr
    assert {row["file"] for row in rows} == {"inner/a, b.wav", "silence.flac"}


# ---- robot


def final_event(kind="final", *, uncertain=False, **probabilities):
    label = max(probabilities, key=probabilities.get)
    given = {"label": label, "probabilities": probabilities, "confidence": probabilities[label], "uncertain": uncertain}
    return emotion(0, kind).model_copy(update=given)


def happened(what):
    return status(detail="it did").model_copy(update={"status": what})


HAPPY = {"happy": 0.9, "angry": 0.05, "neutral": 0.05}
CALM = {"happy": 0.1, "angry": 0.1, "neutral": 0.8}


def test_a_state_needs_more_to_begin_than_to_go_on():
    robot, states = Robot(), []
    # 0.45, 0.675, then down: 0.3875 is under what begins it and over what ends it.
    for probabilities in (HAPPY, HAPPY, CALM, CALM):
        robot.update(final_event(**probabilities))
        states.append(robot.state)
    assert states == ["attentive", "celebrating", "celebrating", "attentive"]
    robot = Robot()
    robot.update(final_event(happy=0.775, neutral=0.225))  # evidence 0.3875 again, from below
    assert robot.state == "attentive"


def test_labels_of_one_mood_add_up_and_moods_change_directly():
    robot = Robot()
    assert [robot.update(final_event(angry=0.5, sad=0.45, happy=0.05)) for _ in range(2)] == [False, True]
    assert robot.state == "soothing"
    assert [robot.update(final_event(**HAPPY)) for _ in range(2)] == [False, True]
    assert robot.state == "celebrating"


def test_what_is_provisional_or_uncertain_moves_nothing():
    robot = Robot()
    for _ in range(5):
        assert not robot.update(final_event("provisional", **HAPPY))
        assert not robot.update(final_event(uncertain=True, **HAPPY))
    assert robot.state == "attentive"


@pytest.mark.parametrize(
    ("status", "state"),
    [("device-lost", "attentive"), ("no-audio", "attentive"), ("gap", "celebrating"), ("sink", "celebrating")],
)
def test_a_robot_without_audio_forgets(status, state):
    robot = Robot()
    for _ in range(2):
        robot.update(final_event(**HAPPY))
    assert robot.update(happened(status)) == (state == "attentive")
    assert robot.state == state
    robot.update(final_event(**HAPPY))
    assert robot.state == state  # one utterance is not enough after forgetting


def test_the_robot_follows_a_file(bundle_dir, clip):
    done = edgeemo("--source", clip, "--bundle", bundle_dir, script=RUNTIME / "robot.py")
    assert done.returncode == 0, done.stderr
    robot, wanted = Robot(), ["attentive"]
    wanted += [robot.state for event in listen(bundle_dir, str(clip)) if robot.update(event)]
    assert [line.split()[-1] for line in done.stdout.splitlines()] == wanted
