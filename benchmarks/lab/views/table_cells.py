"""Cells and rows of Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from benchmarks.bench.estimate import Estimate
from benchmarks.bench.results import Results, Row
from distill.evaluation.intervals import MIN_SPEAKERS, no_interval

NOT_YET = "*Not measured yet.*"


def row_name(row: Row) -> str:
    """Return the system, with its precision where it has one."""
    return row.system if row.ua_spread is not None or row.precision is None else f"{row.system} {row.precision}"


def markdown(rows: Sequence[Row], columns: dict[str, Show]) -> list[str]:
    """Return the lines of a table with a line for each row, without empty columns."""
    shown = [(title, show) for title, show in columns.items() if any(show(row) for row in rows)]
    return lines_of([title for title, _ in shown], [[show(row) for _, show in shown] for row in rows]).splitlines()


def lines_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


Show = Callable[[Row], str]
"""Returns the text of a cell."""


def column(name: str, form: str, unit: str = "", factor: float = 1.0) -> Show:
    """Return a function that formats a column of a row, empty where it is missing."""

    def show(row: Row) -> str:
        value = getattr(row, name)
        return "" if value is None else f"{value * factor:{form}}{unit}"

    return show


def figure(name: str, form: str) -> Show:
    """Return a function that formats one of a row's figures, empty where it is missing."""
    return lambda row: number((row.figures or {}).get(name), form)


def number(value: float | None, form: str) -> str:
    """Return a figure, empty where it is missing."""
    return "" if value is None else format(value, form)


def with_interval(name: str) -> Show:
    """Return a function that formats a figure with its interval."""

    def show(row: Row) -> str:
        found = interval(row, name)
        return number(getattr(row, name), ".3f") + (f" ({found})" if found else "")

    return show


def interval(row: Row, name: str = "ua") -> str:
    """Return the ends of a figure's interval, or why there is none; empty where none was asked for."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
    if low is not None and high is not None:
        return f"{low:.3f} to {high:.3f}"
    few = value is not None and row.speakers is not None and row.speakers < MIN_SPEAKERS
    return no_interval(row.speakers) if few else ""


def estimated(found: Estimate | None) -> str:
    """Return a figure with its interval."""
    return "" if found is None else found.show()


def points(found: Estimate) -> str:
    """Return a difference of shares, with its interval, in points."""
    return found.show("+.2f", 100)


def difference(row: Row) -> str:
    """Return the difference in unweighted accuracy to another system, with its interval, in points."""
    return "" if row.difference is None else points(row.difference.ua)


LATENCY: dict[str, Show] = {"p50": column("p50_ms", ".2f", " ms"), "p90": column("p90_ms", ".2f", " ms")}
MACS = column("macs", ".0f", " M", 1e-6)
SIZE = column("size_bytes", ".2f", " MB", 1e-6)


def command_of(results: Results) -> str:
    """Return the command that wrote a file, by the present name of its module."""
    return re.sub(r"-m benchmarks\.(?!lab\.|bench\.)", "-m benchmarks.lab.", results.command)


def made_by(results: Results) -> str:
    """Return command, date and machine of a file, in a sentence."""
    return f"`{command_of(results)}`, {results.date[:10]}, {machine_of(results)}."


def machine_of(results: Results) -> str:
    """Return the processor of results, with the instruction sets that INT8 depends on."""
    sets = results.environment.get("instruction_sets")
    return results.environment["processor"] + (f" ({sets})" if sets else "")


def summary(results: Results) -> list[Row]:
    """Return for each system the row of the mean over seeds, or its rows where there is none; without sweeps."""
    rows = [row for row in results.rows if row.sweep is None]
    averaged = {row.system for row in rows if row.seed is None}
    return [row for row in rows if row.seed is None or row.system not in averaged]
