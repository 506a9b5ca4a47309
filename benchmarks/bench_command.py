"""`edgeemo bench`: report latency and accuracy of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Table

from distill.corpora import read_corpus
from edge_runtime.bundle import load_bundle
from edge_runtime.console import console
from edge_runtime.extras import needs_extra


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--corpus",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled speech; a corpus that the bundle learnt from is tested on its held-out part only.",
)
@click.option(
    "--out", default=Path("report"), show_default=True, type=click.Path(path_type=Path), help="Where the report goes."
)
@click.option("--rounds", default=100, show_default=True, type=click.IntRange(10), help="Timed calls of each system.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Threads of the engine.")
@click.option("--seconds", type=click.FloatRange(0.5, 30), help="Window for latency.  [default: the bundle's]")
@click.option("--json", "as_json", is_flag=True, help="Write the results to standard output too.")
@needs_extra("bench")
def bench_command(
    bundle: Path, corpus: Path, out: Path, rounds: int, threads: int, seconds: float | None, as_json: bool
) -> None:
    r"""Measure BUNDLE on a corpus and write report.html, report.md and results.json.

    \b
    Example:
      edgeemo bench bundle --corpus rendered --out report
    """
    from benchmarks.bench import run_bench  # scikit-learn and matplotlib: help must work without
    from benchmarks.report import write_report

    out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is told before the measuring
    speech = read_corpus(corpus, skip_broken=True)
    for problem in speech.skipped:
        console.print(f"left out {problem}", style="yellow")
    bench = run_bench(
        load_bundle(bundle),
        speech,
        rounds=rounds,
        threads=threads,
        seconds=seconds,
        say=lambda text: console.print(f"  {text}"),
    )
    written = write_report(bench, out)
    table = Table("system", "UA", "95 % interval", "p50", "p90", "faster than")
    for row in bench.results.rows:
        table.add_row(
            f"{row.system} {row.precision or ''}",
            "" if row.ua is None else f"{row.ua:.3f}",
            "" if row.ua_low is None else f"{row.ua_low:.3f} - {row.ua_high:.3f}",
            f"{row.p50_ms:.2f} ms",
            "not reported" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
            f"{row.ratio.to} {row.ratio.value:.1f} x" if row.ratio else "",
        )
    console.print(table)
    console.print("Written: " + ", ".join(str(path) for path in written))
    if as_json:
        click.echo(json.dumps(bench.results.as_json(), indent=2))
