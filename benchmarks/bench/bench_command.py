"""`edgeemo bench`: report latency and accuracy of a bundle, or compare two runs."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.table import Column, Table

from distill.corpora import read_corpus
from distill.corpora.read import reader_names
from distill.evaluation.intervals import ends
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.parameters import Number, count_option, given, path_option

_MEASURING = ("reader", "out", "full", "rounds", "paced", "utterances", "rooms", "noises", "threads", "seconds")
"""Options of measuring, errors together with ``--compare``."""


@click.command("bench")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--compare",
    nargs=2,
    metavar="A B",
    type=click.Path(path_type=Path, exists=True),
    help="Instead of measuring a bundle: is B better than A? Two run directories, or two results.json of this command.",
)
@path_option(
    "--corpus", "Labelled speech; of a corpus that the bundle was trained on, only the held-out part is tested."
)
@click.option(
    "--reader",
    type=click.Choice(reader_names()),
    metavar="NAME",
    help="Read the corpus as this one, whatever it looks like; see: edgeemo corpus.",
)
@path_option("--out", "Where the report goes.", default=Path("report"), show_default=True, metavar="DIR")
@click.option(
    "--full",
    is_flag=True,
    help="Also paced latency and energy, operators, lengths of the window by threads, TensorRT's build, accuracy under "
    "noise, in rooms, by telephone and in a stream.",
)
@count_option(
    "--rounds",
    "Timed calls of each system back to back; a 99th percentile needs 662.  [default: 100, with --full 700]",
    least=10,
)
@count_option(
    "--paced", "Timed calls of each graph once a hop, sleeping in between.  [default: 0, with --full 64]", least=0
)
@count_option(
    "--utterances", "Utterances under each acoustic condition and in a stream.  [default: 0, with --full 40]", least=0
)
@path_option(
    "--rooms",
    "Recorded room impulse responses for further conditions; may be repeated.  [default: simulated rooms only]",
    multiple=True,
    metavar="DIR",
)
@path_option(
    "--noises",
    "Recorded noise for further conditions, and music in directories called 'music'; may be repeated.  [default: "
    "simulated noise only]",
    multiple=True,
    metavar="DIR",
)
@count_option("--threads", "Threads of the engine.", most=64, default=1)
@click.option("--seconds", type=Number(0.5, 30), metavar="SECONDS", help="Window for latency.  [default: the bundle's]")
@click.option(
    "--allow-slower",
    default=5.0,
    show_default=True,
    type=Number(0, 1000),
    metavar="PERCENT",
    help="With --compare of results: by how much latency may grow.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the results to standard output too.")
@click.pass_context
@needs_extra("bench")
def bench_command(
    context: click.Context,
    bundle: Path | None,
    compare: tuple[Path, Path] | None,
    corpus: Path | None,
    reader: str | None,
    out: Path,
    full: bool,
    rounds: int | None,
    paced: int | None,
    utterances: int | None,
    rooms: tuple[Path, ...],
    noises: tuple[Path, ...],
    threads: int,
    seconds: float | None,
    allow_slower: float,
    as_json: bool,
) -> None:
    """Measure BUNDLE on a corpus and write report.html, report.md and results.json; or compare two runs.

    Without BUNDLE, the installed default bundle is measured. A measurement takes a minute or two, with --full some
    minutes: about two hops for each paced call. The report gives the reason for what this machine cannot measure
    (energy, temperatures, TensorRT).

    Recordings that the bundle was trained with are left out of --rooms and --noises, by content: others of the same
    room are not recognised, so give other rooms.

    Runs are directories written by `edgeemo distill`, or by `python -m benchmarks.lab.baselines` in a checkout, of one
    fold or of several. The difference is B minus A, its interval a bootstrap over the tested speakers.

    Of two results.json, A is the older one. Latency is worse where the whole 95 % interval of the ratio of medians, a
    bootstrap over rounds, is beyond --allow-slower: that of the medians themselves on the same processor, and that
    of the medians divided by openSMILE's in the same run, where both have it; one alone is not enough. Accuracy is
    worse where the whole interval of the difference is under zero.

    \b
    Exit codes of a comparison:
      0  of two results: nothing is worse; of two runs: whatever it finds
      1  A or B cannot be read
      2  they cannot be compared: other utterances, labels, folds or windows
      3  of two results: something is worse (a regression)

    \b
    Examples:
      edgeemo bench --corpus my-corpus
      edgeemo bench bundle --corpus rendered --out report
      edgeemo bench bundle --corpus rendered --full --threads 2
      edgeemo bench bundle --corpus rendered --full --rooms rooms --noises noise/street --noises noise/music
      edgeemo bench --compare plain run
      edgeemo bench --compare old/results.json report/results.json
    """
    if compare is not None:
        if bundle is not None or corpus is not None:
            raise WrongUseError("--compare takes two runs or two results files, and neither BUNDLE nor --corpus")
        options = given(context)
        if misplaced := [options[name] for name in _MEASURING if name in options]:
            raise WrongUseError(f"{misplaced[0]}: is for measuring a bundle, and --compare measures nothing")
        from benchmarks.bench.compare.compare_command import compare_paths  # scikit-learn: help must work without

        compare_paths(*compare, allowed_slower=allow_slower / 100, as_json=as_json)
        return
    if corpus is None:
        raise WrongUseError("give --corpus to measure a bundle, or --compare A B to compare two runs")
    most = (40 if full else 0) if utterances is None else utterances
    if most == 0 and (rooms or noises):
        raise WrongUseError(f"{'--rooms' if rooms else '--noises'}: is for acoustic conditions; give --full too")
    from benchmarks.bench.accuracy.recordings import held_out_recordings  # scipy: help must work without

    loaded = load_bundle(bundle or DEFAULT_BUNDLE)
    recordings = held_out_recordings(rooms, noises, loaded.manifest.recipe)
    speech = read_corpus(corpus, skip_broken=True, reader=reader)
    for problem in speech.skipped:
        console.print(f"left out {problem}", style="yellow")
    out.mkdir(parents=True, exist_ok=True)  # fails before the measurement where it cannot be written
    from benchmarks.bench.device.device_bench import DeviceOptions
    from benchmarks.bench.measure import run_bench  # scikit-learn and matplotlib: help must work without
    from benchmarks.bench.report.pages import write_report

    bench = run_bench(
        loaded,
        speech,
        DeviceOptions(
            rounds=rounds or (700 if full else 100),
            threads=threads,
            seconds=seconds,
            full=full,
            paced=(64 if full else 0) if paced is None else paced,
        ),
        most=most,
        recordings=recordings,
        say=lambda text: console.print(f"  {text}"),
    )
    written = write_report(bench, out)
    # On narrow terminals names of systems are folded, not cut.
    system, peer = Column("system", overflow="fold"), Column("faster than", overflow="fold")
    table = Table(system, "UA", "95 % interval", "p50", "p90", peer)
    for row in bench.results.rows:
        table.add_row(
            f"{row.system} {row.precision or ''}",
            "" if row.ua is None else f"{row.ua:.3f}",
            "" if row.ua is None else ends(row.ua_low, row.ua_high, row.speakers),
            f"{row.p50_ms:.2f} ms",
            "not reported" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
            f"{row.ratio.to} {row.ratio.value:.1f} x" if row.ratio else "",
        )
    console.print(table)
    console.print("Written: " + ", ".join(str(path) for path in written))
    if as_json:
        click.echo(json.dumps(bench.results.as_json(), indent=2))
