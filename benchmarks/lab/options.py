"""Options, messages and output that the programs of the lab share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.bench.results import Results
from edge_runtime.console import console
from edge_runtime.files import write_text

RESULTS = Path(__file__).parents[1] / "results"
"""Directory of the published figures."""

_Command = TypeVar("_Command", bound=Callable[..., Any])
Option = Callable[[_Command], _Command]


def path_option(name: str, text: str, *, exists: bool = False, **more: Any) -> Option[Any]:
    """Return an option for a path, with a help text and further arguments of `click.option`."""
    return click.option(name, type=click.Path(path_type=Path, exists=exists), help=text, **more)


def count_option(name: str, text: str, *, least: int = 1, **more: Any) -> Option[Any]:
    """Return an option for a whole number from ``least`` on, with a help text and arguments of `click.option`."""
    more = {"show_default": True} | more
    return click.option(name, type=click.IntRange(least), metavar="N", help=text, **more)


out_option = path_option("--out", "Where figures go.", default=RESULTS, show_default="benchmarks/results")


def say(text: str) -> None:
    """Print a line of progress."""
    console.print(f"  {text}")


def publish(
    results: Results, path: Path, documents: str = "*.md */*.md", plots: Mapping[str, str] | None = None
) -> None:
    """Write a results file, and plots (SVG text by file name) next to it; print the command that updates the tables."""
    results.write(path)
    for name, plot in (plots or {}).items():
        write_text(path.parent / name, plot)
    written = ", ".join([str(path), *(plots or {})])
    console.print(f"{written}; next: python -m benchmarks.lab.tables {documents}")
