"""Comparison of two results files of `edgeemo bench`: changes in latency and accuracy, with their intervals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from benchmarks.bench.compare.ratios import Floats, Ratio, ratio_of_medians
from benchmarks.bench.device.device_sections import Decisions, Section, Timing
from benchmarks.bench.estimate import Estimate, estimate
from benchmarks.bench.results import Results, Row
from distill.evaluation.metrics import mean_difference
from edge_runtime.errors import EdgeemoError, WrongUseError, next_step

SCHEMA = "edgeemo-results-comparison/1"
ALLOWED_SLOWER = 0.05
"""Increase of latency, as a share, that another run of the same code can show."""
Finding = Literal["better", "worse", "no difference shown"]


class _Change(Section):
    finding: Finding


class LatencyChange(_Change):
    """How much longer the newer run takes, as ratios of medians with 95 % intervals; over 1 is slower.

    Attributes:
        system: what was timed.
        way: ``back to back`` or ``paced``.
        old_p50_ms: median of the older run.
        new_p50_ms: median of the newer run.
        absolute: ratio of the medians; None on another processor.
        relative: the same, each first divided by that of the yardstick in the same run; None without one.
        yardstick: a system outside the bundle that both runs timed in turns with this one.
        finding: ``worse`` where the whole interval of every ratio is beyond the allowed share.
    """

    system: str
    way: str
    old_p50_ms: float
    new_p50_ms: float
    absolute: Estimate | None
    relative: Estimate | None
    yardstick: str | None


class AccuracyChange(_Change):
    """How much better the newer run is, in unweighted accuracy, with its 95 % interval over speakers; under 0 is worse.

    Attributes:
        precision: of the graph.
        corpus: name of the corpus.
        old_ua: of the older run.
        new_ua: of the newer run.
        difference: new minus old.
        paired: whether it is over decisions on the same utterances; otherwise it is derived from the runs' intervals.
        finding: ``worse`` where the whole interval is under 0.
    """

    precision: str
    corpus: str
    old_ua: float
    new_ua: float
    difference: Estimate
    paired: bool


class ResultsComparison(Section):
    """Result of a comparison.

    Attributes:
        schema_name: of the JSON form.
        old: the older file.
        new: the newer file.
        latency: of each system that both runs timed in the same way.
        accuracy: of each graph that both runs tested on the same corpus.
        left_out: what could not be compared, with the reason.
        regression: whether something is worse.
        verdict: the same in a sentence.
    """

    schema_name: str = SCHEMA
    old: str
    new: str
    latency: list[LatencyChange]
    accuracy: list[AccuracyChange]
    left_out: list[str]
    regression: bool
    verdict: str


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        EdgeemoError: it cannot be read, or is no results file.
    """
    try:
        return Results.read(path)
    except OSError as error:
        raise EdgeemoError(f"{path}: cannot be read ({error.strerror}){next_step(error)}") from error
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise EdgeemoError(f"{path}: is no results file of `edgeemo bench` (results.json)") from error


def compare_results(old: Path, new: Path, *, allowed_slower: float = ALLOWED_SLOWER) -> ResultsComparison:
    """Compare two results files.

    Args:
        old: the older one.
        new: the newer one.
        allowed_slower: share by which latency may grow before it counts as worse.

    Raises:
        EdgeemoError: one of them cannot be read.
        WrongUseError: they have nothing in common.
    """
    before, after = read_results(old), read_results(new)
    left_out: list[str] = []
    latency = _latency(before, after, allowed_slower, left_out)
    accuracy = _accuracy(before, after, left_out)
    if not latency and not accuracy:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise WrongUseError(f"{old} and {new} measured nothing in the same way, so they cannot be compared{why}")
    worse = [
        f"{each.system} {each.way} takes {each.new_p50_ms / each.old_p50_ms:.2f} times as long"
        for each in latency
        if _worse(each)
    ]
    worse += [
        f"{each.precision} loses {-each.difference.value * 100:.1f} points of unweighted accuracy on {each.corpus}"
        for each in accuracy
        if _worse(each)
    ]
    changes: list[_Change] = [*latency, *accuracy]
    better = sum(each.finding == "better" for each in changes)
    good = f"No regression in {len(latency)} latencies and {len(accuracy)} accuracies; {better} of them better."
    return ResultsComparison(
        old=str(old),
        new=str(new),
        latency=latency,
        accuracy=accuracy,
        left_out=left_out,
        regression=bool(worse),
        verdict=f"Regression: {'; '.join(worse)}." if worse else good,
    )


def _worse(change: _Change) -> bool:
    return change.finding == "worse"


def _latency(before: Results, after: Results, allowed: float, left_out: list[str]) -> list[LatencyChange]:
    olds, news = (_timings(each) for each in (before, after))
    shared = [key for key in olds if key in news]
    yardstick = next((key for key in shared if not key[0].startswith("student") and key[1] == "back to back"), None)
    same_machine = before.environment.get("processor") == after.environment.get("processor")
    changes = []
    for key in shared:
        if key == yardstick:
            continue
        measure = yardstick if _in_turns(key, yardstick) else None
        if measure is None and not same_machine:
            left_out.append(f"latency of {key[0]}, {key[1]}: another processor, and no common system to divide by")
            continue
        own = [[_samples(each[key])] for each in (olds, news)]
        absolute = _estimate(ratio_of_medians(*own)) if same_machine else None
        relative = None
        if measure is not None:
            beside = [[*run, _samples(each[measure])] for run, each in zip(own, (olds, news), strict=True)]
            relative = _estimate(ratio_of_medians(*beside))
        changes.append(
            LatencyChange(
                system=key[0],
                way=key[1],
                old_p50_ms=olds[key].p50_ms,
                new_p50_ms=news[key].p50_ms,
                absolute=absolute,
                relative=relative,
                yardstick=measure[0] if measure else None,
                finding=_finding([each for each in (absolute, relative) if each is not None], allowed),
            )
        )
    return changes


def _finding(ratios: list[Estimate], allowed: float) -> Finding:
    """Require agreement of all ratios: a slow machine moves the absolute one, a slow yardstick the relative one."""
    if all(each.low is not None and each.low > 1 + allowed for each in ratios):
        return "worse"
    return "better" if all(each.high is not None and each.high < 1 for each in ratios) else "no difference shown"


def _estimate(ratio: Ratio) -> Estimate:
    return Estimate(value=round(ratio.value, 4), low=round(ratio.low, 4), high=round(ratio.high, 4))


_Key = tuple[str, str, float, float | None, int | None]


def _timings(results: Results) -> dict[_Key, Timing]:
    """Return the timings with samples, by the properties that a comparison requires to be equal."""
    return {
        (each.system, each.way, each.window_seconds, each.hop_seconds, each.threads): each
        for each in results.timings or []
        if each.samples_ms
    }


def _in_turns(key: _Key, yardstick: _Key | None) -> bool:
    """Return whether a system was timed in turns with the yardstick, which has no number of threads."""
    return yardstick is not None and key[1:3] == yardstick[1:3]


def _samples(timing: Timing) -> Floats:
    return np.array(timing.samples_ms)


def _accuracy(before: Results, after: Results, left_out: list[str]) -> list[AccuracyChange]:
    olds, news = (
        {(row.corpus, row.precision): row for row in each.rows if row.precision and row.ua is not None}
        for each in (before, after)
    )
    changes = []
    for (corpus, precision), one in olds.items():
        other = news.get((corpus, precision))
        if other is None or precision is None:
            continue
        difference = _paired(before.decisions, after.decisions, corpus, precision)
        paired = difference is not None
        difference = difference or _unpaired(one, other)
        if difference is None or difference.low is None or difference.high is None:
            left_out.append(f"accuracy of {precision} on {corpus}: without intervals")
            continue
        finding: Finding = "no difference shown"
        if difference.high < 0 or difference.low > 0:
            finding = "worse" if difference.high < 0 else "better"
        changes.append(
            AccuracyChange(
                precision=precision,
                corpus=corpus,
                old_ua=one.ua or 0.0,
                new_ua=other.ua or 0.0,
                difference=difference,
                paired=paired,
                finding=finding,
            )
        )
    return changes


def _paired(old: Decisions | None, new: Decisions | None, corpus: str, precision: str) -> Estimate | None:
    """Return the difference over the same utterances; None where the runs have different ones."""
    if old is None or new is None or corpus != old.corpus:
        return None
    if any(getattr(old, name) != getattr(new, name) for name in ("corpus", "labels", "files", "speakers", "truth")):
        return None
    if precision not in old.decided or precision not in new.decided:
        return None
    decided = [np.array(each.decided[precision]) for each in (old, new)]
    found = mean_difference(np.array(old.truth), [decided[0]], [decided[1]], old.speakers)
    return estimate(found.ua, found.ua_interval)


def _unpaired(old: Row, new: Row) -> Estimate | None:
    """Return the difference, with an interval from those of the two rows.

    Source: the method of variance estimates recovery (Zou and Donner 2008): each end lies as far from the difference as
    the root of the summed squares of the two intervals' distances.
    """
    figures = (old.ua, old.ua_low, old.ua_high, new.ua, new.ua_low, new.ua_high)
    if any(each is None for each in figures):
        return None
    old_ua, old_low, old_high, new_ua, new_low, new_high = (each or 0.0 for each in figures)
    difference = new_ua - old_ua
    low = difference - math.hypot(new_ua - new_low, old_high - old_ua)
    high = difference + math.hypot(new_high - new_ua, old_ua - old_low)
    return Estimate(value=round(difference, 6), low=round(low, 6), high=round(high, 6))
