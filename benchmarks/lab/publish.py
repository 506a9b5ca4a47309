"""Publish the figures of a report: ``python -m benchmarks.lab.publish REPORT NAME``.

Writes ``benchmarks/results/NAME.json``: the report's `results.json` without data on single utterances, calls and
operators, which are ten times as long as the figures.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.bench.results import Results
from benchmarks.lab.options import out_option
from benchmarks.lab.options import publish as write
from edge_runtime.errors import Tool
from edge_runtime.extras import needs_extra

KEPT = frozenset(
    {"schema_name", "command", "date", "commit", "environment", "hours", "seeds", "bundle", "rows", "machine"}
)
"""Fields of `Results` that documents show."""


def figures(results: Results) -> Results:
    """Return a report's results with only the fields that documents show."""
    return results.model_copy(update={name: None for name in Results.model_fields if name not in KEPT})


@click.command("publish", cls=Tool)
@click.argument("report", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("name")
@out_option
@needs_extra("export")
def main(report: Path, name: str, out: Path) -> None:
    """Write the figures of the report in REPORT to benchmarks/results/NAME.json.

    \b
    Example:
      python -m benchmarks.lab.publish report rendered-bench
    """
    write(figures(Results.read(report / "results.json")), out / f"{name}.json")


if __name__ == "__main__":
    main()
