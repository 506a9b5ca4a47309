"""Two results files: slower, worse, or nothing that these samples can show."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.bench.bench_command import bench_command
from benchmarks.bench.compare.compare_results import compare_results
from benchmarks.bench.compare.ratios import ratio_of_medians
from benchmarks.bench.device.device_sections import Decisions
from benchmarks.bench.device.latency import Latency
from benchmarks.bench.results import Results, Row
from edge_runtime.errors import EdgeemoError, WrongUseError

LABELS = ["a", "b"]
SPEAKERS = [f"s{number % 8}" for number in range(160)]
TRUTH = [number % 2 for number in range(160)]


def samples(median, seed, count=100):
    return tuple(median * np.random.default_rng(seed).lognormal(0, 0.05, count))


def save(path, *, student=10.0, yardstick=40.0, wrong=20, seed=0, processor="x", rows=(), decisions=True, **more):
    """Write a results file whose graph is wrong on the first ``wrong`` utterances."""
    decided = [1 - truth if index < wrong else truth for index, truth in enumerate(TRUTH)]
    ua = 1 - wrong / len(TRUTH)
    timings = [Latency(samples(student, seed), 5, 3.0).timing("student int8-cpu", 1)]
    if yardstick:
        timings.append(Latency(samples(yardstick, seed + 1), 5, 3.0).timing("opensmile-egemaps", None))
    Results(
        command="edgeemo bench",
        date="2026-01-02T03:04:05",
        commit="abc",
        environment={"processor": processor},
        hours=0.1,
        seeds=[0],
        rows=list(rows)
        or [Row(system="student", corpus="c", precision="int8-cpu", ua=ua, ua_low=ua - 0.04, ua_high=ua + 0.04)],
        timings=timings,
        decisions=Decisions(
            corpus="c", labels=LABELS, files=[f"{n}.wav" for n in range(160)], speakers=SPEAKERS, truth=TRUTH,
            decided={"int8-cpu": decided},
        ) if decisions else None,
        **more,
    ).write(path)  # fmt: skip
    return path


def test_the_same_file_is_no_regression(tmp_path):
    path = save(tmp_path / "a.json")
    found = compare_results(path, path)
    assert not found.regression
    (latency,) = found.latency
    for ratio in (latency.absolute, latency.relative):
        assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)
    assert latency.yardstick == "opensmile-egemaps"
    assert found.accuracy[0].difference.value == 0
    assert found.accuracy[0].paired


def test_slower_is_a_regression_and_a_slower_machine_is_not(tmp_path):
    old = save(tmp_path / "old.json")
    slower = compare_results(old, save(tmp_path / "slower.json", student=13.0, seed=7))
    assert slower.regression
    assert slower.latency[0].finding == "worse"
    for ratio in (slower.latency[0].absolute, slower.latency[0].relative):
        assert ratio.low < 1.3 < ratio.high
    machine = compare_results(old, save(tmp_path / "machine.json", student=13.0, yardstick=52.0, seed=7, processor="y"))
    assert not machine.regression
    assert machine.latency[0].finding == "no difference shown"
    assert machine.latency[0].absolute is None
    other = compare_results(old, save(tmp_path / "other.json", student=13.0, seed=7, processor="y"))
    assert other.regression
    faster = compare_results(old, save(tmp_path / "faster.json", student=7.0, seed=7))
    assert faster.latency[0].finding == "better"
    assert not faster.regression
    allowed = compare_results(old, tmp_path / "slower.json", allowed_slower=0.5)
    assert not allowed.regression


@pytest.mark.parametrize(("student", "yardstick"), [(13.0, 52.0), (10.0, 30.0)])
def test_a_busy_moment_of_either_run_is_no_regression(tmp_path, student, yardstick):
    """A loaded machine slows both, and a long yardstick more: neither ratio alone may decide."""
    old = save(tmp_path / "old.json")
    found = compare_results(old, save(tmp_path / "new.json", student=student, yardstick=yardstick, seed=7))
    assert not found.regression


def test_another_processor_without_a_yardstick_is_left_out(tmp_path):
    old = save(tmp_path / "old.json", yardstick=0)
    found = compare_results(old, save(tmp_path / "new.json", yardstick=0, student=20.0, processor="y"))
    assert found.latency == []
    assert "another processor" in found.left_out[0]
    same = compare_results(old, save(tmp_path / "same.json", yardstick=0, student=20.0))
    assert same.latency[0].finding == "worse"
    assert same.latency[0].yardstick is None


@pytest.mark.parametrize("paired", [True, False])
def test_less_accurate_is_a_regression(tmp_path, paired):
    old = save(tmp_path / "old.json", wrong=8, decisions=paired)
    found = compare_results(old, save(tmp_path / "new.json", wrong=40, decisions=paired))
    (accuracy,) = found.accuracy
    assert accuracy.paired is paired
    assert accuracy.difference.value == pytest.approx(-0.2, abs=1e-6)
    assert accuracy.difference.high < 0
    assert found.regression
    assert "loses 20.0 points" in found.verdict
    assert compare_results(tmp_path / "new.json", old).accuracy[0].finding == "better"


def test_accuracies_that_are_not_paired(tmp_path):
    old = save(tmp_path / "old.json", wrong=20, decisions=False)
    found = compare_results(old, save(tmp_path / "new.json", wrong=24, decisions=False))
    # Two intervals of 4 points each way: root of 16 + 16 points.
    assert found.accuracy[0].difference.low == pytest.approx(-0.025 - np.hypot(0.04, 0.04), abs=1e-6)
    assert not found.regression
    old, new = save(tmp_path / "old.json"), save(tmp_path / "new.json")
    content = json.loads(new.read_text())
    content["decisions"]["files"][0] = "other.wav"
    new.write_text(json.dumps(content))
    assert not compare_results(old, new).accuracy[0].paired


def test_an_interval_holds_the_true_ratio_in_most_draws():
    """Samples that hang together, as those of a machine do: independent draws would give too narrow an interval."""
    random = np.random.default_rng(3)

    def run(median, yardstick):
        drift = np.exp(np.convolve(random.normal(0, 0.03, 204), np.ones(5) / 2, "valid"))
        return [
            median * drift * random.lognormal(0, 0.02, len(drift)),
            yardstick * drift * random.lognormal(0, 0.02, len(drift)),
        ]

    held = 0
    for number in range(40):
        found = ratio_of_medians(run(10, 40), run(11, 40), draws=300, seed=number)
        held += found.low <= 1.1 <= found.high
    assert held >= 34


def test_files_that_are_none_or_have_nothing_in_common(tmp_path):
    good = save(tmp_path / "good.json")
    for content in ("", "{}", "[1]", '{"schema": 3}', "\xff"):
        (tmp_path / "bad.json").write_text(content, encoding="latin-1")
        with pytest.raises(EdgeemoError, match=r"bad\.json: is no results file"):
            compare_results(good, tmp_path / "bad.json")
    row = Row(system="student", corpus="other", precision="int8-cpu", ua=0.5, ua_low=0.4, ua_high=0.6)
    other = save(tmp_path / "other.json", yardstick=0, processor="y", rows=[row])
    with pytest.raises(WrongUseError, match="measured nothing in the same way"):
        compare_results(good, other)


def bench(*words):
    return CliRunner().invoke(bench_command, list(map(str, words)))


def test_exit_codes(tmp_path):
    old = save(tmp_path / "old.json")
    new = save(tmp_path / "new.json", student=20.0, seed=7)
    assert bench("--compare", old, old).exit_code == 0
    worse = bench("--compare", old, new, "--json")
    assert worse.exit_code == 3
    assert "student int8-cpu back to back takes 1.98 times as long" in worse.output
    content = json.loads(worse.stdout)
    assert content["schema"] == "edgeemo-results-comparison/1"
    assert content["regression"] is True
    assert bench("--compare", old, new, "--allow-slower", 200).exit_code == 0
    mixed = bench("--compare", old, tmp_path)
    assert mixed.exit_code == 2
    assert "two run directories, or two results files" in mixed.output
