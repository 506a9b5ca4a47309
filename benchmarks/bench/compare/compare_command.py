"""`edgeemo bench --compare`: compare two runs or two results files."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Table

from benchmarks.bench.compare.compare_results import ResultsComparison, compare_results
from benchmarks.bench.compare.compare_runs import Comparison, compare
from benchmarks.bench.estimate import Estimate
from distill.evaluation.intervals import Interval, ends
from edge_runtime.console import console
from edge_runtime.errors import GateError, WrongUseError


def compare_paths(first: Path, second: Path, *, allowed_slower: float, as_json: bool) -> None:
    """Compare two run directories or two results files, and print the comparison.

    Args:
        first: the older one.
        second: the newer one.
        allowed_slower: share by which latency may grow.
        as_json: write the comparison to standard output too.

    Raises:
        EdgeemoError: one of them cannot be read.
        WrongUseError: they cannot be compared.
        GateError: of two results files, the newer one is worse.
    """
    if first.is_dir() != second.is_dir():
        raise WrongUseError(f"{first} and {second}: give two run directories, or two results files")
    if first.is_dir():
        _compare_runs(first, second, as_json=as_json)
        return
    found = compare_results(first, second, allowed_slower=allowed_slower)
    _show(found)
    if as_json:
        _write(found)
    if found.regression:
        raise GateError(found.verdict.rstrip("."))
    console.print(found.verdict)


def _show(found: ResultsComparison) -> None:
    if found.latency:
        table = Table("latency", "old p50", "new p50", "times as long", "relative to the yardstick", "")
        for each in found.latency:
            table.add_row(
                f"{each.system}, {each.way}",
                f"{each.old_p50_ms:.2f} ms",
                f"{each.new_p50_ms:.2f} ms",
                _ratio(each.absolute, "another processor"),
                _ratio(each.relative, "none"),
                each.finding,
            )
        console.print(table)
    if found.accuracy:
        table = Table("accuracy", "old UA", "new UA", "difference", "95 % interval", "")
        for one in found.accuracy:
            table.add_row(
                f"{one.precision} on {one.corpus}, {'paired' if one.paired else 'by the two intervals'}",
                f"{one.old_ua:.3f}",
                f"{one.new_ua:.3f}",
                f"{one.difference.value:+.3f}",
                _ends(one.difference, "+.3f"),
                one.finding,
            )
        console.print(table)
    for why in found.left_out:
        console.print(f"left out {why}", style="yellow")


def _ratio(ratio: Estimate | None, otherwise: str) -> str:
    return otherwise if ratio is None else ratio.show(".2f")


def _compare_runs(first: Path, second: Path, *, as_json: bool) -> None:
    found = compare(first, second)
    title = f"{found.corpus}, {found.folds}, {found.first_accuracy.utterances} utterances"
    table = Table("run", "UA", "95 % interval", "WA", "95 % interval", title=title)
    for name, accuracy in ((found.first, found.first_accuracy), (found.second, found.second_accuracy)):
        table.add_row(
            name, f"{accuracy.ua:.3f}", _ends(accuracy.ua_interval), f"{accuracy.wa:.3f}", _ends(accuracy.wa_interval)
        )
    difference = found.difference
    table.add_section()
    table.add_row(
        f"{found.second} - {found.first}",
        f"{difference.ua:+.3f}",
        _ends(difference.ua_interval, "+.3f"),
        f"{difference.wa:+.3f}",
        _ends(difference.wa_interval, "+.3f"),
    )
    console.print(table)
    console.print(found.verdict)
    if as_json:
        _write(found)


def _write(found: ResultsComparison | Comparison) -> None:
    content = found.model_dump()
    click.echo(json.dumps({"schema": content.pop("schema_name"), **content}, indent=2))


def _ends(interval: Interval | Estimate | None, form: str = ".3f") -> str:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return ends(low, high, form=form)
