"""Write the tables of a document from results files: `python -m benchmarks.tables README.md`.

A table stands between ``<!-- results: NAME -->`` and ``<!-- end -->``; NAME is a file under ``benchmarks/results``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.results import Results, Row
from edge_runtime.errors import WrongUseError
from edge_runtime.files import write_text

RESULTS = Path(__file__).parent / "results"
_BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return a document with every table made anew.

    Raises:
        WrongUseError: a results file is missing.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text)


def table(name: str) -> str:
    """Return one results file as a Markdown table, with the command that made it.

    Raises:
        WrongUseError: there is no such file.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise WrongUseError(f"{path}: there is no such results file")
    results = Results.read(path)
    # Where several seeds were run, the table shows their mean; the file has each.
    averaged = [row for row in results.rows if row.seed is None]
    rows = averaged or results.rows
    columns = [(title, show) for title, show in _COLUMNS.items() if any(show(row) for row in rows)]
    lines = ["| " + " | ".join(title for title, _ in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(show(row) for _, show in columns) + " |" for row in rows]
    seeds = f", seeds {', '.join(map(str, results.seeds))}" if averaged else ""
    lines += ["", f"`{results.command}`, {results.date[:10]}, {results.environment['processor']}{seeds}."]
    return "\n".join(lines)


def _name(row: Row) -> str:
    """Return the system, with its precision where a table may hold several of one."""
    return row.system if row.ua_spread is not None or row.precision is None else f"{row.system} {row.precision}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "system": _name,
    "UA": lambda row: _number(row.ua, ".3f"),
    "± over seeds": lambda row: _number(row.ua_spread, ".3f"),
    "95 % interval": lambda row: "" if row.ua_low is None else f"{row.ua_low:.3f} to {row.ua_high:.3f}",
    "WA": lambda row: _number(row.wa, ".3f"),
    "ECE": lambda row: _number(row.ece, ".3f"),
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value} x {row.ratio.to}",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
}


@click.command("tables")
@click.argument("documents", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--check", is_flag=True, help="Only tell whether they are up to date (exit code 1 if not).")
def main(documents: tuple[Path, ...], check: bool) -> None:
    """Write the tables of DOCUMENTS from the results files."""
    stale = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        if render(text) != text:
            stale.append(str(document))
            if not check:
                write_text(document, render(text))
    if check and stale:
        raise click.ClickException(f"{', '.join(stale)}: run python -m benchmarks.tables {' '.join(stale)}")


if __name__ == "__main__":
    main()
