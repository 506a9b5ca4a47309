"""Mistakes that people make: one sentence, soon, and nothing left behind; more of them: test_commands."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import edgeemo, invoke
from tests.plain_bundles import save_plain_bundle
from tests.project.test_commands import corpus_of, refused

THREE = [(speaker, emotion) for emotion in ("sad", "angry") for speaker in "abc"]


def with_metadata(folder, text):
    corpus_of(folder, THREE)
    (folder / "metadata.csv").write_text(text)
    return folder


@pytest.fixture
def speech(tmp_path):
    """Six recordings that differ, by three speakers."""
    folder = corpus_of(tmp_path / "speech", THREE)
    for number in range(len(THREE)):
        sound = np.random.default_rng(number).normal(0, 0.1, 12_000 + 500 * number)
        soundfile.write(folder / f"{number}.wav", sound, 16_000)
    return folder


class TestNotANumber:
    """click's ranges accept NaN, and a gate that compares with it never refuses."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            *(("export {here} --out {here}/b --max-drop " + number, "--max-drop") for number in ("nan", "inf", "-inf")),
            ("export {here} --out {here}/b --prune nan", "is not a finite number"),
            ("bench {here} --corpus {here} --seconds nan", "is not a finite number"),
            ("bench {here} --corpus {here} --allow-slower nan", "is not a finite number"),
            ("distill demo --corpus {here} --out {here}/r --set student.training.learning_rate=inf", "finite number"),
        ],
    )
    def test_is_refused(self, tmp_path, words, message):
        refused(*words.format(here=tmp_path).split(), code=2, message=message)


class TestSpeechGivenTwice:
    """Its speakers would be tested and learnt from, under two names."""

    def test_as_also(self, speech, tmp_path):
        given = ("--corpus", speech, "--auxiliary-corpus", speech)
        refused("distill", "demo", *given, "--out", tmp_path / "r", code=2, message="is speech that is given already")
        assert not (tmp_path / "r").exists()

    def test_under_two_names(self, speech, tmp_path):
        given = ("--corpus", f"one={speech}", "--corpus", f"two={speech}")
        refused("distill", "demo", *given, "--out", tmp_path / "r", code=2, message="is speech that is given already")

    def test_a_copy(self, speech, tmp_path):
        shutil.copytree(speech, tmp_path / "copy")
        given = ("--corpus", speech, "--auxiliary-corpus", tmp_path / "copy")
        refused(
            "distill", "demo", *given, "--out", tmp_path / "r", code=2, message="copy: is speech that is given already"
        )

    def test_another_manifest_of_the_same_files(self, speech, tmp_path):
        text = (speech / "metadata.csv").read_text().replace("words", "other words")
        (speech / "transcribed.csv").write_text(text)
        given = ("--corpus", speech, "--auxiliary-corpus", speech / "transcribed.csv")
        refused("distill", "demo", *given, "--out", tmp_path / "r", code=2, message="is speech that is given already")


class TestOneEmotion:
    def test_is_refused_and_a_problem_of_the_corpus(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [(speaker, "sad") for speaker in "abc"])
        refused("distill", "demo", "--corpus", folder, "--out", tmp_path / "r", code=1, message="nothing to classify")
        done = invoke("corpus", folder, "--quick")
        assert "problem: Every utterance has the emotion 'sad'" in done.stderr
        assert "Nothing looks wrong" not in done.stderr

    def test_one_in_two_spellings(self, tmp_path):
        done = invoke("corpus", corpus_of(tmp_path / "c", [("a", "sad"), ("b", "Sad"), ("c", "angry")]), "--quick")
        assert "warning: The emotions 'Sad', 'sad' differ in spelling only" in done.stderr


class TestTornManifest:
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
    def test_error(self, tmp_path, text, message):
        refused("corpus", with_metadata(tmp_path / "c", text), code=1, message=message)

    def test_empty_cells_at_the_end_are_no_harm(self, tmp_path):
        text = "file,speaker,emotion\n0.wav,a,sad,,\n1.wav,b,angry,,\n\n2.wav,c,sad\n"
        done = invoke("corpus", with_metadata(tmp_path / "c", text), "--quick", "--json")
        assert json.loads(done.stdout)["utterances"] == 3

    def test_facts_that_are_no_json(self, tmp_path):
        folder = corpus_of(tmp_path / "c", THREE)
        (folder / "corpus.json").write_text('{"name": ')
        refused("corpus", folder, code=1, message="corpus.json: Invalid JSON")


class TestAudioFile:
    def test_empty(self, tmp_path):
        folder = corpus_of(tmp_path / "c", THREE)
        (folder / "3.wav").write_bytes(b"")
        refused("corpus", folder, code=1, message="3.wav: is an empty file; mend or remove it")
        refused("listen", save_plain_bundle(tmp_path / "b"), "--source", folder / "3.wav", code=1, message="empty file")

    def test_a_rate_that_no_recording_has_is_refused_before_training(self, tmp_path):
        folder = corpus_of(tmp_path / "c", THREE)
        soundfile.write(folder / "3.wav", np.ones(5) / 2, 1)
        refused("corpus", folder, code=1, message="1 channels at 1 Hz")
        done = invoke("corpus", folder, "--skip-broken", "--quick", "--json")
        assert json.loads(done.stdout)["utterances"] == 5


class TestOptionsThatWouldBeIgnored:
    def test_jobs_of_one_fold(self, tmp_path):
        refused(
            "distill", "demo", "--corpus", tmp_path, "--out", tmp_path / "r", "--jobs", 2, code=2, message="--fold all"
        )

    def test_jobs_without_folds(self, tmp_path):
        refused("export", tmp_path, "--out", tmp_path / "b", "--jobs", 2, code=2, message="give --folds too")

    @pytest.mark.parametrize("option", [("--full",), ("--threads", 1), ("--rounds", 10), ("--out", "x")])
    def test_measuring_in_a_comparison(self, tmp_path, option):
        refused("bench", "--compare", tmp_path, tmp_path, *option, code=2, message=f"{option[0]}: is for measuring")


class TestSoon:
    """Before anything that takes time, or leaves something behind."""

    @pytest.mark.parametrize("wrong", [("--recipe", "nope"), ("--set", "bogus"), ("--set", "student.hidden_size=0")])
    def test_demo_with_a_wrong_recipe(self, tmp_path, wrong):
        refused("demo", "--out", tmp_path / "d", *wrong, code=2, message=wrong[1].partition("=")[0])
        assert not (tmp_path / "d").exists()

    def test_bench_without_a_corpus_leaves_no_directory(self, tmp_path):
        bundle = save_plain_bundle(tmp_path / "b")
        refused("bench", bundle, "--corpus", tmp_path / "x", "--out", tmp_path / "r", code=1, message="no such corpus")
        assert not (tmp_path / "r").exists()

    @pytest.mark.parametrize("fold", [3, 99])
    def test_no_such_fold(self, corpus_dir, recipe_file, tmp_path, fold):
        given = ("--corpus", corpus_dir, "--out", tmp_path / "r", "--fold", fold)
        refused("distill", recipe_file, *given, code=1, message=f"fold {fold} does not exist")


class TestRecipe:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("name=foo", "a text needs quotes of its own, as --set 'name=\"text\"'"),
            ("student.trainin.epochs=1", "'student.trainin': no such setting; did you mean 'training'?"),
            ("student.training.epochs=0", "'student.training.epochs': must be at least 1"),
            ("student.pooled_layers=3", "'student.pooled_layers': must be a list, as [1, 2]"),
            ("student.pruning=3", "'student.pruning': must be a table, begun with [student.pruning]"),
            ("student.frozen='x'", "'student.frozen': must be none or all"),
            ("folds.count=1", "'folds': count must be 3 or more"),
            ("threads=100000", "'threads': must be at most 1024"),
            ("name=''", "'name': must not be empty"),
        ],
    )
    def test_in_words(self, tmp_path, change, message):
        given = ("--corpus", tmp_path, "--out", tmp_path / "r", "--set", change)
        refused("distill", "demo", *given, code=2, message=message)

    def test_without_a_teacher_that_it_lacks(self, tmp_path):
        given = ("--corpus", tmp_path, "--out", tmp_path / "r", "--without", "acoustic")
        refused("distill", "demo", *given, code=2, message="--without acoustic: recipe demo has no such teacher")


class TestDamagedRun:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("config.json", "config.json: is missing from the run"),
            ("model.safetensors", "model.safetensors: is missing from the run"),
            (None, "is not what was trained; copy the run again"),
        ],
    )
    def test_student_incomplete_or_changed(self, run_dir, tmp_path, name, message):
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

    def test_record_cut_short(self, tmp_path):
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


class TestClosedStreams:
    """As `command <&-` and `command >&-` leave them: Python has None in their place."""

    def closed(self, number, *arguments):
        code = f"import os; os.close({number}); os.execv({sys.executable!r}, {[sys.executable, '-m', 'edge_runtime']!r}"
        code += f" + {list(map(str, arguments))!r})"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def test_input(self, tmp_path):
        done = self.closed(0, "listen", save_plain_bundle(tmp_path / "b"), "--source", "-")
        assert done.returncode == 2
        assert done.stderr.startswith("Error: --source - reads standard input, which is a terminal")

    def test_output(self, tmp_path):
        soundfile.write(tmp_path / "c.wav", np.zeros(16_000), 16_000)
        done = self.closed(1, "listen", save_plain_bundle(tmp_path / "b"), "--source", tmp_path / "c.wav")
        assert done.returncode == 2
        assert "Error: --sink stdout: standard output is closed; name another sink" in done.stderr


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("publish", ["{here}", "name"], "results.json: No such file or directory; check the path"),
        ("tables", ["{here}"], "a directory stands where a file is wanted"),
        ("soak", ["{here}", "--corpus", "x", "--minutes", "nan"], "is not a finite number"),
        ("growth", ["--out", "{here}"], "is a directory"),
    ],
)
def test_tools_of_benchmarks_give_one_sentence_too(tool, arguments, message, tmp_path):
    from importlib import import_module

    from click.testing import CliRunner

    main = import_module(f"benchmarks.lab.{tool}").main
    done = CliRunner().invoke(main, [each.format(here=tmp_path) for each in arguments])
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path_is_not_the_directory_of_the_call():
    """As of a shell's variable that is not set."""
    refused("corpus", "", code=2, message="is empty; give the path of a corpus")


def test_no_microphone_is_reported(monkeypatch):
    from click.testing import CliRunner

    from edge_runtime import listen_command

    monkeypatch.setattr(listen_command, "input_devices", list)
    done = CliRunner().invoke(listen_command.listen_command, ["--list-devices"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "there is no microphone" in done.stderr
