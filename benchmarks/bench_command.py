"""`edgeemo bench`: report latency and accuracy of a bundle, or compare two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from distill.corpora import read_corpus
from edge_runtime.bundle import load_bundle
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.extras import needs_extra

if TYPE_CHECKING:
    from distill.metrics import Interval


@click.command("bench")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Instead of measuring a bundle: is run B better than run A on the utterances that both were tested on?",
)
@click.option(
    "--corpus",
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
    bundle: Path | None,
    compare: tuple[Path, Path] | None,
    corpus: Path | None,
    out: Path,
    rounds: int,
    threads: int,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Measure BUNDLE on a corpus and write report.html, report.md and results.json; or compare two runs.

    Runs are directories that `edgeemo distill` or `python -m benchmarks.baselines` wrote, of one fold or of several.
    The difference is B minus A, its interval a bootstrap over the tested speakers.

    Exit codes of a comparison: 0 whatever it finds, 1 a run cannot be read, 2 the runs were not tested on the same
    utterances, labels and folds.

    \b
    Examples:
      edgeemo bench bundle --corpus rendered --out report
      edgeemo bench --compare plain run
    """
    if compare is not None:
        if bundle is not None or corpus is not None:
            raise WrongUseError("--compare takes two run directories, and neither BUNDLE nor --corpus beside them")
        _compare(*compare, as_json=as_json)
        return
    if bundle is None or corpus is None:
        raise WrongUseError("give BUNDLE and --corpus to measure a bundle, or --compare A B to compare two runs")
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


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    from benchmarks.compare import compare  # scikit-learn: help must work without

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
        content = found.model_dump()
        click.echo(json.dumps({"schema": content.pop("schema_name"), **content}, indent=2))


def _ends(interval: Interval, form: str = ".3f") -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"
