"""What the cells and rows of Markdown tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.estimate import Estimate
from benchmarks.results import Results, Row

NOT_YET = "*Not measured yet.*"


def row_name(row: Row) -> str:
    """Return the system, with its precision where a table may hold several of one."""
    return row.system if row.ua_spread is not None or row.precision is None else f"{row.system} {row.precision}"


def markdown(rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> list[str]:
    """Return a row of cells for each row, without the columns that none fills."""
    shown = [(title, show) for title, show in columns.items() if any(show(row) for row in rows)]
    return lines_of([title for title, _ in shown], [[show(row) for _, show in shown] for row in rows]).splitlines()


def lines_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value: float | None, form: str) -> str:
    """Return a figure, or nothing where there is none."""
    return "" if value is None else format(value, form)


def with_interval(name: str) -> Callable[[Row], str]:
    """Return the function that shows a figure with its interval."""

    def show(row: Row) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        return number(value, ".3f") + ("" if low is None else f" ({low:.3f} to {high:.3f})")

    return show


def estimated(found: Estimate | None) -> str:
    """Return a figure with its interval."""
    return "" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def points(found: Estimate) -> str:
    """Return a difference of shares, with its interval, in points."""
    return f"{found.value * 100:+.2f} ({found.low * 100:+.2f} to {found.high * 100:+.2f})"


def made_by(results: Results) -> str:
    """Return what made a file, in a sentence."""
    return f"`{results.command}`, {results.date[:10]}, {machine_of(results)}."


def machine_of(results: Results) -> str:
    """Return the processor that results are of, with the instructions that INT8 depends on."""
    sets = results.environment.get("instruction_sets")
    return results.environment["processor"] + (f" ({sets})" if sets else "")


def summary(rows: Iterable[Row]) -> list[Row]:
    """Return for each system the mean over its seeds, where it has one, and else its rows as they are."""
    rows = list(rows)
    averaged = {row.system for row in rows if row.seed is None}
    return [row for row in rows if row.seed is None or row.system not in averaged]
