"""Mistakes that people make: one sentence, soon, and nothing left behind; more of them: test_commands."""

import importlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edge_runtime import listen_command
from tests.command import python
from tests.conftest import edgeemo, invoke
from tests.plain_bundles import save_plain_bundle
from tests.project.test_commands import corpus_of, refused

THREE = [(speaker, emotion) for emotion in ("sad", "angry") for speaker in "abc"]
DISTIL = "distill demo --corpus {here} --out {here}/r"
CHANGE = f"{DISTIL} --set "


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # click's ranges accept NaN, and a gate that compares with it never refuses.
        *(("export {here} --out {here}/b --max-drop " + number, "--max-drop") for number in ("nan", "inf", "-inf")),
        ("export {here} --out {here}/b --prune nan", "is not a finite number"),
        ("bench {here} --corpus {here} --seconds nan", "is not a finite number"),
        ("bench {here} --corpus {here} --allow-slower nan", "is not a finite number"),
        (f"{CHANGE}student.training.learning_rate=inf", "finite number"),
        # Options that would be ignored.
        (f"{DISTIL} --jobs 2", "--fold all"),
        ("export {here} --out {here}/b --jobs 2", "give --folds too"),
        ("bench --compare {here} {here} --full", "--full: is for measuring"),
        ("bench --compare {here} {here} --threads 1", "--threads: is for measuring"),
        ("bench --compare {here} {here} --rounds 10", "--rounds: is for measuring"),
        ("bench --compare {here} {here} --rooms x", "--rooms: is for measuring"),
        ("bench {here} --corpus {here} --noises {here}", "--noises: is for acoustic conditions; give --full too"),
        ("bench --compare {here} {here} --out x", "--out: is for measuring"),
        # Recipes, before anything that takes time.
        ("demo --out {here}/d --recipe nope", "nope"),
        ("demo --out {here}/d --set bogus", "bogus"),
        ("demo --out {here}/d --set student.hidden_size=0", "student.hidden_size"),
        (f"{CHANGE}name=foo", "a text needs quotes of its own, as --set 'name=\"text\"'"),
        (f"{CHANGE}student.trainin.epochs=1", "'student.trainin': no such setting; did you mean 'training'?"),
        (f"{CHANGE}student.training.epochs=0", "'student.training.epochs': must be at least 1"),
        (f"{CHANGE}student.pooled_layers=3", "'student.pooled_layers': must be a list, as [1, 2]"),
        (f"{CHANGE}student.pruning=3", "'student.pruning': must be a table, begun with [student.pruning]"),
        (f"{CHANGE}student.frozen='x'", "'student.frozen': must be none or all"),
        (f"{CHANGE}folds.count=1", "'folds': count must be 3 or more"),
        (f"{CHANGE}threads=100000", "'threads': must be at most 1024"),
        (f"{CHANGE}name=''", "'name': must not be empty"),
        (f"{DISTIL} --without acoustic", "--without acoustic: recipe demo has no such teacher"),
    ],
)
def test_wrong_use_is_refused_at_once(tmp_path, words, message):
    refused(*words.format(here=tmp_path).split(), code=2, message=message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--corpus {here}/speech --auxiliary-corpus {here}/speech", "is speech that is given already"),
        ("--corpus one={here}/speech --corpus two={here}/speech", "is speech that is given already"),
        ("--corpus {here}/speech --auxiliary-corpus {here}/copy", "copy: is speech that is given already"),
        ("--corpus {here}/speech --auxiliary-corpus {here}/speech/other.csv", "is speech that is given already"),
    ],
    ids=["as auxiliary", "two names", "a copy", "another manifest"],
)
def test_speech_given_twice(tmp_path, given, message):
    """Its speakers would be in training and test, under two names."""
    speech = corpus_of(tmp_path / "speech", THREE)
    for number in range(len(THREE)):
        sound = np.random.default_rng(number).normal(0, 0.1, 12_000 + 500 * number)
        soundfile.write(speech / f"{number}.wav", sound, 16_000)
    (speech / "other.csv").write_text((speech / "metadata.csv").read_text().replace("words", "other words"))
    shutil.copytree(speech, tmp_path / "copy")
    words = given.format(here=tmp_path).split()
    refused("distill", "demo", *words, "--out", tmp_path / "r", code=2, message=message)
    assert not (tmp_path / "r").exists()


def test_one_emotion_is_refused_and_a_problem_of_the_corpus(tmp_path):
    folder = corpus_of(tmp_path / "c", [(speaker, "sad") for speaker in "abc"])
    refused("distill", "demo", "--corpus", folder, "--out", tmp_path / "r", code=1, message="nothing to classify")
    done = invoke("corpus", folder, "--quick")
    assert "problem: Every utterance has the emotion 'sad'" in done.stderr
    assert "Nothing looks wrong" not in done.stderr


def test_one_emotion_in_two_spellings(tmp_path):
    done = invoke("corpus", corpus_of(tmp_path / "c", [("a", "sad"), ("b", "Sad"), ("c", "angry")]), "--quick")
    assert "problem: The emotions 'Sad', 'sad' differ in spelling only" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;speaker;emotion\n0.wav;a;sad\n", "(it has: file;speaker;emotion); columns are separated by commas"),
        ("File,Speaker,Emotion\n0.wav,a,sad\n", "(it has: File,"),
        ("", "(it has: none)"),
        ("file,speaker,emotion,emotion\n0.wav,a,sad,angry\n", "has the column 'emotion' twice"),
        ("file,speaker,emotion,transcript\n0.wav,a,sad,well, yes\n", "line 2: has 5 values for 4 columns"),
        ('file,speaker,emotion,transcript\n0.wav,a,sad,"well\n1.wav,b,sad,yes\n', "is not valid CSV"),
    ],
)
def test_a_torn_manifest(tmp_path, text, message):
    folder = corpus_of(tmp_path / "c", THREE)
    (folder / "metadata.csv").write_text(text)
    refused("corpus", folder, code=1, message=message)


def test_empty_cells_at_the_end_are_no_harm(tmp_path):
    folder = corpus_of(tmp_path / "c", THREE)
    (folder / "metadata.csv").write_text("file,speaker,emotion\n0.wav,a,sad,,\n1.wav,b,angry,,\n\n2.wav,c,sad\n")
    assert json.loads(invoke("corpus", folder, "--quick", "--json").stdout)["utterances"] == 3


def test_facts_that_are_no_json(tmp_path):
    folder = corpus_of(tmp_path / "c", THREE)
    (folder / "corpus.json").write_text('{"name": ')
    refused("corpus", folder, code=1, message="corpus.json: Invalid JSON")


def test_an_empty_audio_file(tmp_path):
    folder = corpus_of(tmp_path / "c", THREE)
    (folder / "3.wav").write_bytes(b"")
    refused("corpus", folder, code=1, message="3.wav: is an empty file (metadata.csv, line 5); repair or remove it")
    refused("listen", save_plain_bundle(tmp_path / "b"), "--source", folder / "3.wav", code=1, message="empty file")


def test_a_rate_that_no_recording_has_is_refused_before_training(tmp_path):
    folder = corpus_of(tmp_path / "c", THREE)
    soundfile.write(folder / "3.wav", np.ones(5) / 2, 1)
    refused("corpus", folder, code=1, message="1 channels at 1 Hz")
    done = invoke("corpus", folder, "--skip-broken", "--quick", "--json")
    assert json.loads(done.stdout)["utterances"] == 5


@pytest.mark.parametrize("bundle", [True, False], ids=["a bundle", "the default bundle"])
def test_bench_without_a_corpus_leaves_no_directory(tmp_path, bundle):
    named = [save_plain_bundle(tmp_path / "b")] if bundle else []
    refused("bench", *named, "--corpus", tmp_path / "x", "--out", tmp_path / "r", code=1, message="no such corpus")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("fold", [3, 99])
def test_no_such_fold(corpus_dir, recipe_file, tmp_path, fold):
    given = ("--corpus", corpus_dir, "--out", tmp_path / "r", "--fold", fold)
    refused("distill", recipe_file, *given, code=1, message=f"fold {fold} does not exist")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "config.json: is missing from the run"),
        ("model.safetensors", "model.safetensors: is missing from the run"),
        (None, "is not what was trained; copy the run again"),
    ],
)
def test_a_student_that_is_incomplete_or_changed(run_dir, tmp_path, name, message):
    pytest.importorskip("torch")
    from edge_runtime.errors import EdgeemoError
    from export.loaded_run import load_run

    shutil.copytree(run_dir, tmp_path / "run")
    if name:
        (tmp_path / "run" / "student" / name).unlink()
    else:
        weights = tmp_path / "run" / "student" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(content)
    with pytest.raises(EdgeemoError, match=message):
        load_run(tmp_path / "run")


def test_a_record_cut_short(tmp_path):
    (tmp_path / "run.json").write_text('{"recipe": ')
    refused("export", tmp_path, "--out", tmp_path / "b", code=1, message="run.json: is damaged")


@pytest.mark.slow
@pytest.mark.usefixtures("run_dir")
def test_training_that_diverges(corpus_dir, recipe_file, cache, tmp_path):
    """With cached teachers, and steps that no model survives."""
    changed = ("--set", "student.training.learning_rate=1e9")
    given = ("--corpus", corpus_dir, "--out", tmp_path / "r", "--cache", cache)
    done = edgeemo("distill", recipe_file, *given, *changed)
    assert done.returncode == 1
    assert "Error: student: what it gives is not a number any more after epoch 1" in done.stderr
    assert "lower its training.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr


def closed(number, *arguments):
    """Run a command as `<&-` and `>&-` leave it: Python has None in place of the stream."""
    code = f"import os; os.close({number}); os.execv({sys.executable!r}, {[sys.executable, '-m', 'edge_runtime']!r}"
    code += f" + {list(map(str, arguments))!r})"
    return python("-c", code, stdin=subprocess.DEVNULL)


def test_standard_input_is_closed(tmp_path):
    done = closed(0, "listen", save_plain_bundle(tmp_path / "b"), "--source", "-")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --source - reads standard input, which is a terminal")


def test_standard_output_is_closed(tmp_path):
    soundfile.write(tmp_path / "c.wav", np.zeros(16_000), 16_000)
    done = closed(1, "listen", save_plain_bundle(tmp_path / "b"), "--source", tmp_path / "c.wav")
    assert done.returncode == 2
    assert "Error: --sink stdout: standard output is closed; name another sink" in done.stderr


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("publish", ["{here}", "name"], "results.json: No such file or directory; check the path"),
        ("tables", ["{here}"], "a directory stands where a file is wanted"),
        ("soak", ["{here}", "--corpus", "x", "--minutes", "nan"], "is not a finite number"),
        ("growth", ["--out", "{here}"], "is a directory"),
        ("streams", ["--seconds", "nan"], "is not a finite number"),
    ],
)
def test_tools_of_benchmarks_give_one_sentence_too(tool, arguments, message, tmp_path):
    main = importlib.import_module(f"benchmarks.lab.{tool}").main
    done = CliRunner().invoke(main, [each.format(here=tmp_path) for each in arguments])
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--config {here}/none.toml", "cannot be read (No such file or directory); check the path"),
        ("--config {here}", "cannot be read (Is a directory); a directory stands where a file is wanted; give a file"),
        ("--record {here}/file", "cannot be made (File exists); a file stands where a directory is wanted"),
        ("--sink file:{here}/folder", "(Is a directory); a directory stands where a file is wanted; give a file"),
    ],
)
def test_an_error_of_the_system_ends_with_the_next_step(tmp_path, words, message):
    bundle = save_plain_bundle(tmp_path / "bundle")
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "file", np.zeros(16_000), 16_000, format="WAV")
    given = words.format(here=tmp_path).split()
    refused("listen", bundle, "--source", tmp_path / "file", *given, code=1, message=message)


def test_an_empty_path_is_not_the_directory_of_the_call():
    """As of a shell's variable that is not set."""
    refused("corpus", "", code=2, message="is empty; give the path of a corpus")


def test_no_microphone_is_reported(monkeypatch):
    monkeypatch.setattr(listen_command, "input_devices", list)
    done = CliRunner().invoke(listen_command.listen_command, ["--list-devices"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "there is no microphone" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("doctor", "--json", "PLACE"), ("listen", "PLACE"), ("browser", "PLACE", "--out", "x")]
)
def test_a_name_that_would_control_the_terminal_is_shown(tmp_path, arguments):
    place = tmp_path / "a\x1b[2J\u202e"
    done = invoke(*(place if each == "PLACE" else each for each in arguments), code=1)
    assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)
    assert r"a\x1b[2J\u202e" in done.stdout.replace(r"\\", "\\") + done.stderr
