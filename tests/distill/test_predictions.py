"""Predictions as files, pooled over folds; intervals of every figure; classes that do not occur."""

import numpy as np
import pytest

from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import calibration_error, mean_difference, resample, unweighted_accuracy
from distill.evaluation.predictions import Predictions
from edge_runtime.errors import EdgeemoError

LABELS = ("angry", "happy", "sad")


def made(count=90, speakers=6, seed=0, before=True, start=0):
    """Predictions that are right more often than not."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=count)
    probabilities = random.dirichlet(np.ones(3), count)
    probabilities[np.arange(count), truth] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Predictions(
        names=tuple(f"{start + row:03d}.wav" for row in range(count)),
        speakers=tuple(f"s{start + row % speakers}" for row in range(count)),
        emotions=tuple(LABELS[each] for each in truth),
        labels=LABELS,
        probabilities=probabilities,
        before=probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True) if before else None,
    )


@pytest.mark.parametrize("before", [True, False])
def test_a_file_gives_back_every_figure(tmp_path, before):
    wrote = made(before=before)
    wrote.write(tmp_path / "p.csv")
    read = Predictions.read(tmp_path / "p.csv")
    for name in ("names", "speakers", "emotions", "labels"):
        assert getattr(read, name) == getattr(wrote, name), name
    assert (read.before is None) is not before
    ours, theirs = read.accuracy.model_dump(), wrote.accuracy.model_dump()
    assert ours["confusion"] == theirs["confusion"]
    assert ours["ua_low"] == theirs["ua_low"]
    assert ours["ece"] == pytest.approx(theirs["ece"], abs=1e-7)
    assert (ours["ece_before"] is None) is not before


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "file,speaker,emotion,decided,x\na,s,x,x\n"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(EdgeemoError, match=r"p\.csv: holds"):
        Predictions.read(tmp_path / "p.csv")


def test_pooling_sorts_and_refuses_what_is_tested_twice():
    parts = [made(30, seed=1, start=500), made(30, seed=2, start=100)]
    pooled = Predictions.pool(parts)
    assert list(pooled.names) == sorted(pooled.names)
    right = sum((part.decided == part.truth).sum() for part in parts)
    assert pooled.accuracy.wa == pytest.approx(right / 60)
    row = pooled.names.index("507.wav")
    assert np.array_equal(pooled.probabilities[row], parts[0].probabilities[7])
    with pytest.raises(EdgeemoError, match="tested in two folds"):
        Predictions.pool([parts[0], parts[0]])
    with pytest.raises(EdgeemoError, match="different columns"):
        Predictions.pool([parts[0], made(before=False)])


def test_every_figure_has_an_interval_around_it():
    accuracy = made(600, speakers=20).accuracy
    for name in ("ua", "wa", "macro_f1"):
        interval = getattr(accuracy, f"{name}_interval")
        assert interval.low < getattr(accuracy, name) < interval.high
    for label, interval in accuracy.recall_intervals.items():
        assert interval.low < accuracy.recall[label] < interval.high
    assert 0 <= accuracy.ece_interval.low < accuracy.ece_interval.high <= 1
    assert accuracy.ece_before_interval != accuracy.ece_interval
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    truth = np.array([0, 1, 0])
    assert calibration_error(probabilities, truth) == pytest.approx((2 * 0.4 + 0.4) / 3)


def test_intervals_by_a_bootstrap_written_out():
    """The matrix arithmetic draws the samples that drawing and concatenating utterances gives."""
    given = made(60, speakers=4)
    found = resample(given.truth, given.decided, given.speakers, 3, draws=40, seed=7)
    names, speakers = sorted(set(given.speakers)), np.array(given.speakers)
    drawn = np.random.default_rng(7).integers(4, size=(40, 4))
    for draw, scores in zip(drawn, zip(found.ua, found.wa, strict=True), strict=True):
        rows = np.concatenate([np.flatnonzero(speakers == names[each]) for each in draw])
        truth, decided = given.truth[rows], given.decided[rows]
        assert scores == pytest.approx((unweighted_accuracy(truth, decided), np.mean(truth == decided)))


def test_the_mean_of_runs_against_a_system():
    base, runs = made(seed=0), [made(seed=0), made(seed=3)]
    worse = [np.where(np.arange(90) < 30, 0, run.decided) for run in runs]
    found = mean_difference(base.truth, [base.truth], worse, base.speakers)
    wanted = np.mean([np.mean(each == base.truth) for each in worse]) - 1
    assert found.wa == pytest.approx(wanted)
    assert found.wa_interval.low <= found.wa <= found.wa_interval.high < 0
    assert Interval.of(np.array([np.nan, 1.0, 1.0])) == Interval(low=1, high=1)
