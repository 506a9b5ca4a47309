"""Keep the figures of a report for documents: ``python -m benchmarks.publish REPORT NAME``.

Writes ``benchmarks/results/NAME.json``: the report's `results.json` without what is told of single utterances, calls
and operators, which is for the report and ten times as long as the figures. `benchmarks.tables` makes the table.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.results import Results
from benchmarks.tables import RESULTS
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.extras import needs_extra

KEPT = frozenset(
    {"schema_name", "command", "date", "commit", "environment", "hours", "seeds", "bundle", "rows", "machine"}
)
"""Fields of `Results` that documents tell."""


def figures(results: Results) -> Results:
    """Return a report's results with nothing but what documents tell of them."""
    return results.model_copy(update={name: None for name in Results.model_fields if name not in KEPT})


@click.command("publish", cls=Tool)
@click.argument("report", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("name")
@click.option(
    "--out",
    default=RESULTS,
    show_default="benchmarks/results",
    type=click.Path(path_type=Path),
    help="Where figures go.",
)
@needs_extra("export")
def main(report: Path, name: str, out: Path) -> None:
    """Write the figures of the report in REPORT to benchmarks/results/NAME.json.

    \b
    Example:
      python -m benchmarks.publish report rendered-bench
    """
    kept = out / f"{name}.json"
    figures(Results.read(report / "results.json")).write(kept)
    console.print(f"{kept}; next: python -m benchmarks.tables *.md */*.md")


if __name__ == "__main__":
    main()
