"""What more work costs us: `python -m benchmarks.growth --out benchmarks/results/growth.json`.

Three sweeps: `edgeemo distill` as the data grows (`growth_of_training.py`), `edgeemo export --int8` as the student
grows (`growth_of_export.py`), and `edgeemo listen` as one core serves more microphones (`streams.py`). Speech is
rendered for it, or taken from ``--corpus``. To be run on a machine that does nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.device.machine_state import look, state
from benchmarks.growth_of_export import measure_export
from benchmarks.growth_of_training import RECIPE, TIMES, measure_training, part_of_corpus
from benchmarks.results import Row, new_results
from benchmarks.streams import COUNTS, SECONDS, measure_streams
from benchmarks.tables import RESULTS
from benchmarks.views.growth_columns import DATA, STREAMS, STUDENTS
from distill.corpora.read import read_corpus
from distill.rendered.render import render_corpus
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.extras import needs_extra
from edge_runtime.parameters import Number

PARTS = (DATA, STUDENTS, STREAMS)
_SHARE = 6
"""Of the built-in corpus: every speaker says one sentence in six, some 2000 utterances in all."""
_EXPORT_UTTERANCES = 200


@click.command("growth", cls=Tool)
@click.option(
    "--out",
    default=RESULTS / "growth.json",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="growth.json",
    help="Where figures go.",
)
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Which sweeps, repeatable.  [default: all]")
@click.option(
    "--corpus", type=click.Path(path_type=Path, exists=True), help="A rendered corpus.  [default: render one]"
)
@click.option("--recipe", default=RECIPE, show_default=True, metavar="RECIPE", help="That is distilled.")
@click.option(
    "--times",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    default=TIMES,
    show_default=True,
    help="Sizes of the data.",
)
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True), help="That listens.  [default: the default bundle]"
)
@click.option(
    "--streams",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    default=COUNTS,
    show_default=True,
    help="Numbers of streams.",
)
@click.option(
    "--seconds",
    type=Number(1),
    metavar="SECONDS",
    default=SECONDS,
    show_default=True,
    help="Of each number of streams.",
)
@needs_extra("export")
def main(
    out: Path,
    only: tuple[str, ...],
    corpus: Path | None,
    recipe: str,
    times: tuple[int, ...],
    bundle: Path | None,
    streams: tuple[int, ...],
    seconds: float,
) -> None:
    """Measure what training, export and listening cost as they grow, and write a results file.

    \b
    Example:
      python -m benchmarks.growth --only streams --streams 1 --streams 4
    """
    began, before = time.monotonic(), look()
    listening = load_bundle(bundle or DEFAULT_BUNDLE)
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        work = Path(folder)
        speech = corpus or _rendered(work / "rendered")
        found = read_corpus(speech)
        paths = [item.path for item in found.utterances]

        def small() -> Path:
            part_of_corpus(speech, min(1.0, _EXPORT_UTTERANCES / len(paths)), work / "small")
            return work / "small"

        measures: dict[str, Callable[[], list[Row]]] = {
            DATA: lambda: measure_training(speech, work / DATA, recipe=recipe, times=times, say=_say),
            STUDENTS: lambda: measure_export(small(), work / STUDENTS, recipe=recipe, say=_say),
            STREAMS: lambda: measure_streams(
                listening, paths, work / STREAMS, corpus=found.facts.name, counts=streams, seconds=seconds, say=_say
            ),
        }
        rows = [row for part in PARTS if part in (only or PARTS) for row in measures[part]()]
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.bundle = listening.hash if STREAMS in (only or PARTS) else None
    results.machine = state(before, look())
    results.write(out)
    console.print(f"{out}; next: python -m benchmarks.tables *.md */*.md")


def _rendered(root: Path) -> Path:
    _say("rendering speech")
    render_corpus(root, share=_SHARE)
    return root


def _say(text: str) -> None:
    console.print(f"  {text}")


if __name__ == "__main__":
    main()
