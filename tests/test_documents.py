"""Documents tell the truth: their commands run, their tables come from results files, their links lead somewhere."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.tables import render
from distill.corpora import read_corpus
from edge_runtime.cli import main
from edge_runtime.demo_command import steps
from tests.command import working_edgeemo
from tests.conftest import ROOT, edgeemo

ROOMS = ("distill", "export", "edge_runtime", "benchmarks")
# Not what `edgeemo export --triton` leaves beside models: tests/test_triton.py reads that.
DOCUMENTS = [
    path
    for folder in (ROOT, *(ROOT / room for room in ROOMS))
    for path in sorted(folder.glob("*.md"))
    if path.name != "triton_readme.md"
]
# What a test session stands in for: recipes take minutes and more, IEMOCAP has a licence of its own, and a run that is
# finished by then is not trained once more under another name.
STAND_INS = {
    "demo": "tiny.toml",
    "edge": "tiny.toml",
    "emodistill-hubert-base": "tiny.toml",
    "IEMOCAP": "rendered",
    "my-corpus": "rendered",
    "iemocap-run": "run",
    "my-run": "run",
    "iemocap-bundle": "bundle",
    "my-bundle": "bundle",
    "my-report": "report",
}
# `make` targets are what runs these tests, or a command that has a test of its own.
ELSEWHERE = ("make", "git", "cd", "pip", "python", "sudo", "arecord", ".")


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(document):
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.partition("  #")[0].strip()
            if line and not line.startswith("#"):
                yield line


def test_every_command_of_the_documents_runs(corpus_dir, clip, recipe_file, tmp_path):
    """In order, in one directory that holds what the documents say it holds."""
    shutil.copytree(corpus_dir, tmp_path / "rendered")
    shutil.copy(recipe_file, tmp_path / "tiny.toml")
    shutil.copy(clip, tmp_path / "clip.wav")
    ran: set[str] = set()
    for document in DOCUMENTS:
        for line in commands(document):
            words = shlex.split(line)
            if words[0] in ELSEWHERE:
                continue
            assert words[0] == "edgeemo", f"{document.name}: {line}"
            if "mic://" in line or words[:2] == ["edgeemo", "demo"] or words == ["edgeemo", "listen"]:
                continue  # a microphone and the whole chain have tests of their own
            if "--render" in words:
                continue  # rendered once for the session
            stdin = None
            if "<" in words:
                stdin = (tmp_path / words[words.index("<") + 1]).read_bytes()
                words = words[: words.index("<")]
            if words[1] == "export" and "--out" in words:
                words += ["--max-drop", "1"]  # decisions of a student of two epochs move by chance
            words = [STAND_INS.get(word, word) for word in words]
            if shlex.join(words) in ran:
                continue
            done = edgeemo(*words[1:], cwd=tmp_path, stdin=stdin)
            assert done.returncode == 0, f"{document.name}: {line}\n{done.stderr}"
            ran.add(shlex.join(words))
    assert len(ran) >= 15


def test_python_examples_run(bundle_dir, clip, tmp_path):
    examples = [block for document in DOCUMENTS for block in blocks(document, "python")]
    assert examples
    for example in examples:
        (tmp_path / "bundle").exists() or (tmp_path / "bundle").symlink_to(bundle_dir)
        shutil.copy(clip, tmp_path / "clip.wav")
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_results_files(document):
    text = document.read_text(encoding="utf-8")
    stale = f"run: python -m benchmarks.tables {document.relative_to(ROOT)}"
    assert render(text, document.parent) == text, stale


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.slow
def test_the_whole_demo_runs_and_resumes(corpus_dir, tmp_path):
    """`edgeemo demo`, schedules cut to an epoch, on the session's corpus: what it names at its end is there.

    It is killed once its run is there, with an old report in the place of the new one, and called again.
    """
    demo = tmp_path / "demo"
    (demo / "report").mkdir(parents=True)
    (demo / "report" / "report.html").write_text("old")
    (demo / "corpus").symlink_to(corpus_dir)
    short = [f"--set={table}.training.epochs=1" for table in ("linguistic", "prosodic", "student")]
    command = ["demo", "--out", demo, "--set=folds.count=3", "--set=threads=1", *short]
    with working_edgeemo(*command) as working:
        while not (demo / "run" / "report.json").exists():
            assert working.is_alive(), "it ended before it could be killed"
            time.sleep(0.05)
    before = (demo / "run" / "report.json").stat().st_mtime_ns
    done = edgeemo(*command)
    assert done.returncode == 0, done.stderr
    assert "corpus: is there already" in done.stderr
    assert "this run is finished already" in done.stderr
    assert (demo / "run" / "report.json").stat().st_mtime_ns == before
    named = re.findall(r"^  (\S+)  \(", done.stderr, re.MULTILINE)
    assert len(named) == 4
    assert all(Path(name).is_file() for name in named)
    assert (demo / "report" / "report.html").read_text() != "old"
    assert "no evidence of accuracy on people" in done.stderr
    # Distil, export, listen to four emotions, measure.
    assert done.stderr.count("$ edgeemo") == 7


def test_the_demos_first_command_renders_its_corpus(tmp_path, monkeypatch):
    """With two speakers and few sentences in place of all, which take a minute."""
    from distill.rendered import render as rendering

    monkeypatch.setattr(rendering, "SPEAKERS", dict(list(rendering.SPEAKERS.items())[:2]))
    monkeypatch.setitem(rendering.render_corpus.__kwdefaults__, "share", 30)
    first, *_ = steps(tmp_path, "demo", ())
    done = CliRunner().invoke(main, first.arguments)
    assert done.exit_code == 0, done.output
    assert first.done.is_file()
    corpus = read_corpus(tmp_path / "corpus")
    assert len(corpus.speakers) == 2
    assert all(item.path.is_file() for item in corpus.utterances)


def test_makes_targets_call_commands_that_there_are():
    """What takes an hour is not run here; its options are those of the commands."""
    targets = ["bench", "bench-ravdess", "second-tier", "grid"]
    settings = ["CORPORA=/corpora", "ENCODER=/encoder", "BIN=bin"]
    said = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *settings, *targets],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    calls = re.findall(r"bin/python -m (benchmarks\.\w+) (.*)", said)
    assert {module for module, _ in calls} == {
        f"benchmarks.{name}" for name in ("publish", "growth", "tables", "grid", "peers", "export_table", "baselines")
    }
    for module, arguments in calls:
        command = importlib.import_module(module).main
        # Raises where an option is unknown or an argument too many; paths are not looked at.
        command.make_parser(click.Context(command)).parse_args(shlex.split(arguments))


def test_make_says_which_python_it_wants(tmp_path):
    """An older Python is a script here that says that it is one."""
    old = tmp_path / "python3.8"
    as_old = "import sys; sys.version_info, sys.version = (3, 8), '3.8.10 (default)'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{as_old}" "$2"\n')
    old.chmod(0o755)
    make = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("edgeemo needs Python 3.10 or newer, and this is 3.8.10; run: make PYTHON=")
    assert done.returncode == 2
    assert not (tmp_path / "venv").exists()
