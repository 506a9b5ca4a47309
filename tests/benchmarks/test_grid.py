"""Grids: descriptions, refusals, a real one that is killed and goes on, and what documents make of its results."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.bench.estimate import Estimate
from benchmarks.bench.results import PairedDifference, Results, Row, accuracy_columns
from benchmarks.lab import tables
from benchmarks.lab.grid import main
from benchmarks.lab.grid_description import GRIDS, load_grid
from benchmarks.lab.grid_plan import make_plan
from benchmarks.lab.views.table_cells import NOT_YET
from distill.corpora import read_corpus
from distill.corpus import Corpus, CorpusFacts, Utterance
from distill.evaluation.metrics import measure
from distill.load_recipe import load_recipe
from distill.runs.cross_validation import FoldScore
from edge_runtime.errors import WrongUseError
from edge_runtime.provenance import command_line
from tests.conftest import TINY_RECIPE

GRID = """
name = "tiny-grid"
corpus = "rendered"
recipe = "RECIPE"
folds = [0]
seeds = [0, 1]
against = "opensmile-logreg"
by = "carrier"
target_ua = 0.99
[systems.student]
[systems.cross-entropy]
without = ["prosodic"]
other_size = true
[baselines.opensmile-logreg]
kind = "opensmile-logreg"
[[sweeps]]
name = "prosodic-temperature"
key = "teachers.prosodic.signal.temperature"
values = [0.5, 2]
"""


def write_grid(folder, text=GRID):
    """Write a grid on the session's recipe without its linguistic teacher, with one epoch for each model."""
    head, _, prosodic = TINY_RECIPE.split("[[teachers]]")
    (folder / "tiny.toml").write_text(f"{head}[[teachers]]{prosodic}".replace("epochs = 2", "epochs = 1"))
    (folder / "grid.toml").write_text(text.replace("RECIPE", str(folder / "tiny.toml")))
    return folder / "grid.toml"


def grid_command(path, corpus_dir, folder, cache, *more):
    words = [path, "--corpus", f"rendered={corpus_dir}", "--work", folder / "work", "--out", folder / "out"]
    words += ["--cache", cache, *more]
    return [sys.executable, "-m", "benchmarks.lab.grid", *map(str, words)]


class TestDescriptions:
    @pytest.mark.parametrize("path", sorted(GRIDS.glob("*.toml")), ids=lambda path: path.stem)
    def test_shipped_ones_are_valid(self, path):
        grid = load_grid(path.stem)
        assert grid.name == path.stem
        # What a table shows first.
        first = {"mtkd": "mtkd-multi", "mtkd-sweeps": "mtkd-multi", "mtkd-unseen": "mtkd-multi"}
        first["mtkd-prosodic"] = "mtkd-prosodic"
        assert next(iter(grid.systems)) == first.get(grid.name, "student")

    @pytest.mark.parametrize(
        ("name", "system"),
        [(name, system) for name in ("rendered-emodistill", "rendered-parts") for system in load_grid(name).systems],
    )
    def test_systems_of_the_shipped_grids_fit_their_recipe(self, name, system):
        grid = load_grid(name)
        chosen = grid.systems[system]
        recipe = load_recipe(grid.recipe, settings=chosen.set, without=chosen.without)
        assert (recipe == load_recipe(grid.recipe)) == (system == "student")

    def test_the_shipped_sweeps_hold_what_the_recipe_has(self, tmp_path):
        """So that the middle of a sweep is the student itself, and not run twice."""
        people = zip("abcde", ("happy", "sad") * 3, strict=False)
        speakers = tuple(Utterance(tmp_path / name, name, speaker=name, emotion=emotion) for name, emotion in people)
        corpus = Corpus(tmp_path, CorpusFacts(name="r"), speakers)
        plan = make_plan(load_grid("rendered-temperatures"), corpus, tmp_path)
        student = plan.systems["student"]
        same = {point.sweep.name: point.value for point in plan.points if point.runs[0] is student[0]}
        assert same == {"linguistic-temperature": 4.0, "prosodic-temperature": 0.5}
        assert len(plan.runs()) == 3 * (1 + 3 + 4)

    @pytest.mark.parametrize(
        ("old", "new", "why"),
        [
            ("seeds = [0, 1]", "seeds = []", "seeds"),
            ('against = "opensmile-logreg"', 'against = "missing"', "no system 'missing'"),
            ('kind = "opensmile-logreg"', 'kind = "magic"', "baselines"),
            ("folds = [0]", 'folds = "some"', "folds"),
            ("values = [0.5, 2]", 'values = [0.5, 2]\nsystem = "missing"', "no system 'missing'"),
            ("[systems.student]", "[systems.student", "is not valid TOML"),
        ],
    )
    def test_refused(self, tmp_path, old, new, why):
        assert old in GRID
        with pytest.raises(WrongUseError, match=why):
            load_grid(str(write_grid(tmp_path, GRID.replace(old, new))))

    def test_an_unknown_setting_is_refused_before_anything_runs(self, tmp_path, corpus_dir, cache):
        text = GRID.replace("[systems.student]", '[systems.student]\nset = ["student.shoes=2"]')
        command = grid_command(write_grid(tmp_path, text), corpus_dir, tmp_path, cache)
        done = CliRunner().invoke(main, list(map(str, command[3:])))
        assert done.exit_code == 2
        assert "student.shoes" in done.output
        assert not (tmp_path / "work").exists()

    def test_a_corpus_without_its_place(self, tmp_path):
        done = CliRunner().invoke(main, [str(write_grid(tmp_path)), "--work", str(tmp_path / "w")])
        assert done.exit_code == 2
        assert "needs --corpus rendered=PATH" in done.output

    def test_the_plan_names_folds_that_exist(self, tmp_path, corpus_dir):
        path = write_grid(tmp_path, GRID.replace("folds = [0]", "folds = [7]"))
        with pytest.raises(WrongUseError, match="the folds 0 to 2"):
            make_plan(load_grid(str(path)), read_corpus(corpus_dir), tmp_path)


@pytest.mark.slow
def test_a_killed_grid_goes_on_and_publishes(tmp_path, corpus_dir, cache):
    command = grid_command(write_grid(tmp_path), corpus_dir, tmp_path, cache, "--jobs", "2")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("work/*/fold-0/report.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/fold-0/report.json")}
    assert 0 < len(finished) < 6
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished

    results = Results.read(tmp_path / "out" / "tiny-grid.json")
    assert str(tmp_path) not in (tmp_path / "out" / "tiny-grid.json").read_text()
    plain = [row for row in results.rows if row.sweep is None]
    assert [row.seed for row in plain if row.system == "student"] == [0, 1, None]
    systems = {"student", "cross-entropy", "opensmile-logreg", "prosodic-teacher"}
    assert {row.system for row in plain} == systems
    mean = next(row for row in plain if row.system == "student" and row.seed is None)
    assert mean.ua == pytest.approx(np.mean([row.ua for row in plain if row.system == "student"][:2]), abs=1e-5)
    assert (mean.ua_low is None) == (mean.speakers < 3)
    assert mean.ua_low is None or mean.ua_low <= mean.ua <= mean.ua_high
    assert mean.difference.to == "opensmile-logreg"
    baseline = next(row for row in plain if row.system == "opensmile-logreg")
    assert mean.difference.ua.value == pytest.approx(mean.ua - baseline.ua, abs=1e-5)
    assert set(mean.shares) == {"both", "none", "prosody", "words"}
    assert all(row.speaker_independent for row in results.rows)
    swept = [row for row in results.rows if row.sweep == "prosodic-temperature" and row.seed is None]
    assert [row.settings for row in swept] == [{"teachers.prosodic.signal.temperature": value} for value in (0.5, 2)]
    assert swept[0].ua == mean.ua, "the student's own temperature is not run again"
    for name in ("tiny-grid", "tiny-grid-prosodic-temperature"):
        assert (tmp_path / "out" / f"{name}.svg").read_text().startswith("<svg")

    # Runs of two commits are not compared.
    path = tmp_path / "work" / "student-0" / "fold-0" / "run.json"
    content = json.loads(path.read_text())
    content["provenance"]["commit"] = "another"
    path.write_text(json.dumps(content))
    done = CliRunner().invoke(main, list(map(str, command[3:])))
    assert done.exit_code == 1
    assert "different commits" in done.output


@pytest.fixture
def results_folder(tmp_path, monkeypatch):
    """Made results of two folds: a student with two seeds, a probe, a sweep."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(tables, "RESULTS", folder)
    random = np.random.default_rng(0)
    truth = random.integers(3, size=120)
    rows = []
    for system, seed, good in (("student", 0, 0.6), ("student", 1, 0.7), ("student", None, 0.65), ("probe", None, 0.5)):
        probabilities = np.eye(3)[np.where(random.random(120) < good, truth, (truth + 1) % 3)] * 0.7 + 0.1
        before = probabilities if system == "student" else None
        accuracy = measure(probabilities, truth, list("abcdef") * 20, ("x", "y", "z"), before=before)
        fold = {"utterances": 60, "speakers": 3, "wa": 0.4, "validation_ua": None}
        scores = [FoldScore(fold=k, ua=0.5 + k / 8, **fold) for k in (0, 1)]
        rows.append(Row(system=system, corpus="c", seed=seed, **accuracy_columns(accuracy), fold_scores=scores))
    apart = Estimate(value=0.15, low=0.05, high=0.25)
    rows[2].ua_target, rows[2].ua = 0.64, 0.65
    rows[2].difference = PairedDifference(to="probe", ua=apart, wa=apart)
    rows += [
        Row(system="student", corpus="c", sweep="heat", settings={"a.b": value}, ua=value / 10) for value in (2, 5)
    ]
    environment = {"processor": "CPU", "torch": "9.9"}
    made = {"command": "python -m benchmarks.lab.grid made", "date": "2026-01-02T03:04:05", "commit": "abc1234"}
    Results(**made, environment=environment, hours=1.5, seeds=[0, 1], rows=rows).write(folder / "made.json")
    (folder / "made.svg").write_text("<svg/>")
    return folder


class TestDocumentBlocks:
    def test_systems_show_means_differences_and_targets(self, results_folder):
        text = tables.table("made")
        assert text.count("| student |") == 1
        assert "+0.150 (+0.050 to +0.250) to probe" in text
        assert "0.64: reached" in text
        assert "2026-01-02, CPU, seeds 0, 1." in text

        results = Results.read(results_folder / "made.json")
        results.rows[2].ua_target = 0.66
        results.write(results_folder / "made.json")
        assert "0.66: not reached" in tables.table("made")

    def test_views(self, results_folder):
        lines = tables.table("made", "folds").splitlines()
        assert lines[0] == "| fold | speakers | student UA | WA | probe UA | WA |"
        assert lines[3] == "| 1 | 3 | 0.625 | 0.400 | 0.625 | 0.400 |"
        assert lines[4].startswith("| **all** | 6 | 0.650 (")
        assert re.search(r"\| probe \| 0\.\d{3} \(0\.\d{3} to 0\.\d{3}\) \|", tables.table("made", "recall"))
        assert "ECE before temperature" in tables.table("made", "details")
        assert tables.table("made", "sweep", "heat").splitlines()[2:] == ["| 2 | 0.200 |", "| 5 | 0.500 |"]
        assert "commit abc1234" in tables.table("made", "run")
        assert "torch 9.9" in tables.table("made", "run")
        assert tables.table("made", "figure", folder=results_folder.parent / "docs") == "![made](../results/made.svg)"
        with pytest.raises(WrongUseError, match="no such view"):
            tables.table("made", "dance")
        for words in (("absent",), ("absent", "folds"), ("made", "sweep", "cold"), ("made", "figure", "cold")):
            assert tables.table(*words) == NOT_YET

    def test_a_block_that_differs_from_its_file_is_seen(self, results_folder):
        document = "a\n<!-- results: made folds -->\n<!-- end -->\nb\n<!-- results: made -->\nSTALE\n<!-- end -->\n"
        fresh = tables.render(document)
        assert "STALE" not in fresh
        assert tables.render(fresh) == fresh
        results = Results.read(results_folder / "made.json")
        results.rows[3].ua = 0.123
        results.write(results_folder / "made.json")
        assert tables.render(fresh) != fresh


def test_command_lines_name_no_place_of_this_machine(monkeypatch):
    words = ["x", "--corpus", "a=/home/me/a", "--work", "/tmp/w", "--set", 'student.encoder="/m/whisper"', "b/c", "0.5"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line().endswith("""--corpus a=a --work w --set 'student.encoder="whisper"' b/c 0.5""")
    sinks = ["x", "--sink", "file:/tmp/e.jsonl", "--sink", "web://127.0.0.1:80", "--source", "file:///home/me/a.wav"]
    monkeypatch.setattr(sys, "argv", sinks)
    assert command_line().endswith("--sink file:e.jsonl --sink web://127.0.0.1:80 --source file://a.wav")
