"""Measuring: percentiles with floors, held-out parts only, reports that stand alone."""

import json
import re

import numpy as np
import pytest

from benchmarks.accuracy import held_out
from benchmarks.latency import Latency, time_in_turns
from benchmarks.results import Results
from distill.corpora import read_corpus
from distill.folds import FoldSpec, make_fold
from edge_runtime.bundle import load_bundle
from edge_runtime.errors import EdgeemoError
from tests.conftest import edgeemo


@pytest.fixture(scope="module")
def report_dir(bundle_dir, corpus_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report"
    done = edgeemo("bench", bundle_dir, "--corpus", corpus_dir, "--out", out, "--rounds", 64, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "results.json").read_text())
    return out


def test_results_follow_the_schema(report_dir, bundle_dir):
    results = Results.read(report_dir / "results.json")
    content = json.loads((report_dir / "results.json").read_text())
    assert list(content)[:3] == ["schema", "command", "date"]
    assert {"commit", "environment", "hours", "seeds", "rows"} <= set(content)
    rows = {(row.system, row.precision): row for row in results.rows}
    manifest = load_bundle(bundle_dir).manifest
    for precision in ("fp32", "int8-cpu"):
        row = rows["student", precision]
        assert row.corpus == "rendered"
        assert row.speaker_independent is True
        assert row.ua == pytest.approx(manifest.metrics[precision].ua, abs=1e-3)
        assert row.p50_ms is not None
        assert row.p90_ms is not None
        assert row.p50_ms <= row.p90_ms
        assert row.ratio is not None
    assert results.environment["processor"]


def test_the_page_stands_alone(report_dir):
    page = (report_dir / "report.html").read_text()
    assert page.count("<svg") == 6
    assert "no evidence of accuracy on people" in page
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']+""", page)
    assert "{{" not in page


def test_markdown_has_every_figure(report_dir):
    text = (report_dir / "report.md").read_text()
    for row in Results.read(report_dir / "results.json").rows:
        assert f"{row.p50_ms:.2f} ms" in text
        if row.ua is not None:
            assert f"{row.ua:.3f}" in text


def test_only_the_held_out_part_is_measured(bundle_dir, corpus_dir):
    part = held_out(load_bundle(bundle_dir), read_corpus(corpus_dir))
    fold = make_fold(read_corpus(corpus_dir), FoldSpec(count=3, hold_out="sentence"), 0)
    assert part.utterances == fold.test


def test_a_changed_corpus_is_refused(bundle_dir, corpus_dir, tmp_path):
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    lines = (tmp_path / "c" / "metadata.csv").read_text().splitlines()
    (tmp_path / "c" / "metadata.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(EdgeemoError, match="another state of the corpus"):
        held_out(load_bundle(bundle_dir), read_corpus(tmp_path / "c"))


def test_a_renamed_corpus_is_still_the_one_that_was_learnt_from(bundle_dir, corpus_dir, tmp_path):
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "other-name")
    (tmp_path / "other-name" / "corpus.json").unlink()
    part = held_out(load_bundle(bundle_dir), read_corpus(tmp_path / "other-name"))
    assert part.speaker_independent is True
    assert len(part.utterances) == len(held_out(load_bundle(bundle_dir), read_corpus(corpus_dir)).utterances)


def test_other_sentence_ids_are_another_state(bundle_dir, corpus_dir, tmp_path):
    """Folds are cut by them, so figures on them would be figures on trained sentences."""
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    metadata = tmp_path / "c" / "metadata.csv"
    metadata.write_text(metadata.read_text().replace(",angry-", ",zz-"))
    with pytest.raises(EdgeemoError, match="another state of the corpus"):
        held_out(load_bundle(bundle_dir), read_corpus(tmp_path / "c"))


def test_an_unknown_corpus_is_not_called_speaker_independent(bundle_dir, corpus_dir, tmp_path):
    import shutil

    shutil.copytree(corpus_dir, tmp_path / "c")
    (tmp_path / "c" / "corpus.json").write_text('{"name": "another"}')
    lines = (tmp_path / "c" / "metadata.csv").read_text().splitlines()
    (tmp_path / "c" / "metadata.csv").write_text("\n".join(lines[:-1]) + "\n")
    part = held_out(load_bundle(bundle_dir), read_corpus(tmp_path / "c"))
    assert part.speaker_independent is None
    assert len(part.utterances) == len(lines) - 2


def test_percentiles_need_enough_samples():
    few = Latency(tuple(np.arange(63.0)), 5, 3.0)
    enough = Latency(tuple(np.arange(64.0)), 5, 3.0)
    assert few.percentile(50) == 31
    assert few.percentile(90) is None
    assert enough.percentile(90) == pytest.approx(56.7)
    assert enough.percentile(99) is None
    assert Latency(tuple([3.0] * 662), 5, 3.0).percentile(99) == 3
    assert Latency((30.0,) * 3, 5, 3.0).real_time_factor == pytest.approx(0.01)


def test_systems_take_turns_and_warm_up_is_not_counted():
    calls = []
    windows = [np.full(16_000, value, np.float32) for value in (1, 2)]
    systems = {"a": lambda pcm: calls.append(("a", pcm[0])), "b": lambda pcm: calls.append(("b", pcm[0]))}
    found = time_in_turns(systems, windows, rounds=4, warm_up=2)
    assert [name for name, _ in calls] == ["a", "b"] * 6
    assert [value for _, value in calls[4:]] == [1, 1, 2, 2, 1, 1, 2, 2]
    assert all(len(each.milliseconds) == 4 for each in found.values())
    with pytest.raises(ValueError, match="one length"):
        time_in_turns(systems, [windows[0], windows[0][:100]], rounds=1)
