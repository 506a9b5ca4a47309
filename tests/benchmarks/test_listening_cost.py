"""`python -m benchmarks.lab.listening_cost` on a few seconds of speech."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.lab import listening_cost
from benchmarks.lab.listening_cost import main
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("before", [(), ("--before", str(ROOT))])
def test_times_are_relative_to_the_first_bundle_or_to_the_earlier_checkout(before, corpus_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(listening_cost, "publish", lambda results, out: out.write_text(results.model_dump_json()))
    out = tmp_path / "cost.json"
    given = [str(DEFAULT_BUNDLE), "--corpus", str(corpus_dir), "--seconds", "30", "--rounds", "1", "--out", str(out)]
    done = CliRunner().invoke(main, [*given, *before], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = {row["system"]: row["figures"] for row in json.loads(out.read_text())["rows"]}
    names = {"detection of speech alone", "default", "default, hop 5 s"}
    earlier, now = list(rows)[:2]
    assert set(rows) == names | ({earlier, now} if before else set())
    assert rows[earlier if before else "default"]["ratio"] == 1
    if before:
        # Both processes are of this state here.
        assert earlier.startswith("process of ")
        assert now == "process of this state"
        assert rows[earlier]["decisions"] == rows[now]["decisions"] == rows["default"]["decisions"]
        assert rows[now]["ratio"] > 0
    assert rows["detection of speech alone"]["ratio"] < rows["default"]["ratio"]
    assert rows["default"]["decisions"] >= rows["default, hop 5 s"]["decisions"] > 0


def test_a_checkout_that_is_none_is_named(corpus_dir, tmp_path):
    given = [str(DEFAULT_BUNDLE), "--corpus", str(corpus_dir), "--seconds", "10", "--out", str(tmp_path / "cost.json")]
    done = CliRunner().invoke(main, [*given, "--before", str(tmp_path)])
    assert done.exit_code == 2
    assert f"{tmp_path} holds no edge_runtime" in done.output
