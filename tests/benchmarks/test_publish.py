"""Published figures of a report, without data on single utterances."""

import shutil

from click.testing import CliRunner

from benchmarks.bench.results import Results
from benchmarks.lab.options import RESULTS
from benchmarks.lab.publish import main


def test_figures_are_kept_and_sections_are_not(tmp_path):
    measured = Results.read(RESULTS / "peers-ravdess.json")
    assert measured.timings is not None
    report = tmp_path / "report"
    report.mkdir()
    shutil.copy(RESULTS / "peers-ravdess.json", report / "results.json")
    done = CliRunner().invoke(main, [str(report), "kept", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    kept = Results.read(tmp_path / "kept.json")
    for name in ("rows", "command", "environment", "machine"):
        assert getattr(kept, name) == getattr(measured, name), name
    assert kept.timings is None
    assert kept.energy is None
    done = CliRunner().invoke(main, [str(tmp_path / "none"), "another", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert not (tmp_path / "another.json").exists()
