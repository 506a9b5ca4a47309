"""Documents are right: examples run, tables come from results files, links lead somewhere, the demo works."""

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from benchmarks.lab.tables import render
from distill.corpora import read_corpus
from edge_runtime import demo_command
from edge_runtime.cli import main
from edge_runtime.demo_command import next_command, steps
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import SCHEMA_VERSION, EmotionEvent
from tests.command import python, run, working_edgeemo
from tests.conftest import ROOT, edgeemo, need, tone
from tests.document_commands import DOCUMENTS, ROOMS, blocks, check_words


def test_python_examples_run(bundle_dir, clip, tmp_path):
    examples = [block for document in DOCUMENTS for block in blocks(document, "python") if block != segments_example()]
    assert examples
    for example in examples:
        (tmp_path / "bundle").exists() or (tmp_path / "bundle").symlink_to(bundle_dir)
        shutil.copy(clip, tmp_path / "clip.wav")
        done = python("-c", example, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def segments_example():
    (example,) = (block for block in blocks(ROOT / "distill" / "TRAINING.md", "python") if "audformat" in block)
    return example


def test_segments_of_an_audformat_database_become_a_corpus(tmp_path):
    """The speaker is that of the file, the emotion that of the segment; the last segment ends with its file."""
    need("audformat")
    import audformat

    root = tmp_path / "database"
    (root / "wav").mkdir(parents=True)
    names = ["wav/a.wav", "wav/b.wav"]
    for number, name in enumerate(names):
        soundfile.write(root / name, tone(2.0, frequency=150 + 50 * number), 16_000)
    made = audformat.Database("mine", source="here", usage="research", languages=["deu"], license="CC0-1.0")
    made.schemes["emotion"] = audformat.Scheme(labels=["joy", "anger"])
    made.schemes["speaker"] = audformat.Scheme(labels=["s1", "s2"])
    made["files"] = audformat.Table(audformat.filewise_index(names))
    made["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    made["files"]["speaker"].set(["s1", "s2"])
    index = audformat.segmented_index(
        [names[0], *names, names[1]], ["0s", "0s", "0.5s", "1s"], ["0.5s", "1s", "2s", None]
    )
    made["segments"] = audformat.Table(index)
    made["segments"]["emotion"] = audformat.Column(scheme_id="emotion")
    made["segments"]["emotion"].set(["joy", None, "anger", "joy"])
    made.save(str(root), storage_format="csv")
    with pytest.raises(
        EdgeemoError, match=r"emotion is given for segments of files; .*'Segments of an audformat datab"
    ):
        read_corpus(root)
    done = python("-c", segments_example(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [(item.speaker, item.emotion, item.seconds) for item in read_corpus(tmp_path / "segments").utterances]
    assert found == [("s1", "joy", 0.5), ("s2", "anger", 1.5), ("s2", "joy", 1.0)]
    whole, _ = soundfile.read(root / names[1], dtype="int16")
    last, _ = soundfile.read(tmp_path / "segments" / "wav" / "b_1.wav", dtype="int16")
    np.testing.assert_array_equal(last, whole[16_000:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_results_files(document):
    text = document.read_text(encoding="utf-8")
    stale = f"run: python -m benchmarks.lab.tables {document.relative_to(ROOT)}"
    assert render(text, document.parent) == text, stale


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_events_that_documents_show_are_events():
    shown = [json.loads(each) for document in DOCUMENTS for each in blocks(document, "json")]
    events = [each for each in shown if "schema_version" in each]
    assert events
    for event in events:
        found = EmotionEvent.model_validate(event)
        assert found.schema_version == SCHEMA_VERSION
        assert json.loads(found.model_dump_json()).keys() == event.keys()


def test_the_page_on_installing_has_all_extras():
    page = (
        (ROOT / "edge_runtime" / "INSTALL.md")
        .read_text(encoding="utf-8")
        .partition("## Extras")[2]
        .partition("\n## ")[0]
    )
    extras = importlib.metadata.metadata("edgeemo").get_all("Provides-Extra")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(extras)


def test_the_model_card_excludes_the_uses_that_the_page_on_law_excludes():
    page = (ROOT / "edge_runtime" / "RESPONSIBILITY.md").read_text(encoding="utf-8")
    card = (ROOT / "export" / "bundle" / "model_card.md.j2").read_text(encoding="utf-8")
    uses = page.partition("<!-- excluded uses")[2].partition("-->\n")[2].partition("<!-- end -->")[0]
    assert uses.count("* ") >= 6
    assert f"Not for:\n\n{uses}" in card


def test_the_page_for_browsers_excludes_the_same_uses():
    law = (ROOT / "edge_runtime" / "RESPONSIBILITY.md").read_text(encoding="utf-8")
    page = (ROOT / "edge_runtime" / "browser" / "controls.html").read_text(encoding="utf-8")
    uses = law.partition("<!-- excluded uses")[2].partition("-->\n")[2].partition("<!-- end -->")[0]
    assert re.findall(r"<li>(.*)</li>", page) == [" ".join(use.split()) for use in uses.split("* ")[1:]]


def test_files_of_ours_that_texts_name_are_there():
    """In documents, docstrings and comments."""
    texts = [*DOCUMENTS, *(path for room in ("tests", *ROOMS) for path in (ROOT / room).rglob("*.py"))]
    named = re.compile(rf"(?<![\w/.-])(?:{'|'.join(('tests', *ROOMS))})/[\w/]+\.(?:py|md|toml)(?![.\w])")
    found = {name for path in texts for name in named.findall(path.read_text(encoding="utf-8"))}
    assert len(found) > 50
    assert sorted(name for name in found if "NAME" not in name and not (ROOT / name).is_file()) == []


@pytest.mark.slow
def test_the_whole_demo_runs_and_resumes(corpus_dir, tmp_path):
    """`edgeemo demo`, schedules cut to an epoch, on the session's corpus: what it names at its end is there.

    It is killed once its run is there, with an old report in the place of the new one, and called again.
    """
    demo = tmp_path / "demo"
    (demo / "report").mkdir(parents=True)
    (demo / "report" / "report.html").write_text("old")
    (demo / "corpus").symlink_to(corpus_dir)
    short = [f"--set={table}.training.epochs=1" for table in ("teachers.linguistic", "teachers.prosodic", "student")]
    command = ["demo", "--out", demo, "--set=folds.count=3", "--set=threads=1", *short]
    chosen = {"recipe": "demo", "settings": [each.removeprefix("--set=") for each in command[3:]], "full": False}
    (demo / demo_command.MARK).write_text(json.dumps(chosen))
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
    monkeypatch.setattr(demo_command, "QUICK_SHARE", 30)
    first, *_ = steps(tmp_path, "demo", ())
    done = CliRunner().invoke(main, first.arguments)
    assert done.exit_code == 0, done.output
    assert first.done.is_file()
    corpus = read_corpus(tmp_path / "corpus")
    assert len(corpus.speakers) == 2
    assert all(item.path.is_file() for item in corpus.utterances)


def test_the_demo_takes_no_directory_of_something_else(tmp_path):
    (tmp_path / "mine.wav").write_bytes(b"")
    done = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "is not empty and has no demo.json" in done.output
    (tmp_path / "mine.wav").unlink()
    (tmp_path / demo_command.MARK).write_text('{"recipe": "demo", "settings": [], "full": true}')
    done = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds a demo with other options" in done.output
    assert [path.name for path in tmp_path.iterdir()] == [demo_command.MARK]


def test_the_demo_names_a_command_that_the_shell_finds(monkeypatch):
    monkeypatch.setattr(sys, "argv", [".venv/bin/edgeemo", "demo"])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert next_command() == "edgeemo"
    monkeypatch.setenv("PATH", "/nowhere")
    assert next_command() == ".venv/bin/edgeemo"


def test_makes_targets_call_commands_that_there_are():
    """What takes an hour is not run here; its options are those of the commands."""
    targets = ["bench", "bench-ravdess", "second-tier", "grid"]
    settings = ["CORPORA=/corpora", "ENCODER=/encoder", "BIN=bin"]
    dry_run = run("make", "--dry-run", "--no-print-directory", *settings, *targets, cwd=ROOT, check=True)
    calls = re.findall(r"bin/(python -m (benchmarks\.lab\.\w+) .*)", dry_run.stdout.replace("\\\n", " "))
    names = ("publish", "growth", "tables", "grid", "peers", "export_table", "baselines")
    assert {module for _, module in calls} == {f"benchmarks.lab.{name}" for name in names}
    for line, _ in calls:
        check_words(line)


def test_make_names_the_python_that_it_wants(tmp_path):
    """An older Python is a script here that gives its version."""
    old = tmp_path / "python3.8"
    as_old = "import sys; sys.version_info, sys.version = (3, 8), '3.8.10 (default)'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{as_old}" "$2"\n')
    old.chmod(0o755)
    make = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("edgeemo needs Python 3.10 or newer, and this is 3.8.10; run: make PYTHON=")
    assert done.returncode == 2
    assert not (tmp_path / "venv").exists()
