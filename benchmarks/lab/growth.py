"""Cost of training, export and listening as they grow: `python -m benchmarks.lab.growth`.

Three sweeps: `edgeemo distill` as the data grows (`growth_of_training.py`), `edgeemo export --int8` as the student
grows (`growth_of_export.py`), and more and more `edgeemo listen` on one core, a process each
(`growth_of_listening.py`; `streams.py` has all streams in one process). Speech is rendered, or taken from
``--corpus``. Run it on an idle machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.growth_of_export import measure_export
from benchmarks.lab.growth_of_listening import COUNTS, measure_streams
from benchmarks.lab.growth_of_training import measure_training, part_of_corpus
from benchmarks.lab.options import RESULTS, publish, say
from benchmarks.lab.views.growth_columns import DATA, STREAMS, STUDENTS
from distill.corpora.read import read_corpus
from distill.rendered.render import render_corpus
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.errors import Tool
from edge_runtime.extras import needs_extra
from edge_runtime.parameters import count_option, path_option

PARTS = (DATA, STUDENTS, STREAMS)
_SHARE = 6
"""Every speaker of the built-in corpus speaks one sentence in six, some 2000 utterances in total."""
_EXPORT_UTTERANCES = 200


@click.command("growth", cls=Tool)
@click.option(
    "--out",
    default=RESULTS / "growth.json",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="growth.json",
    help="Where figures go.",
)
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Sweeps to run, repeatable.  [default: all]")
@path_option("--corpus", "A rendered corpus.  [default: render one]", exists=True)
@count_option("--streams", "Numbers of streams.", multiple=True, default=COUNTS)
@needs_extra("export")
def main(out: Path, only: tuple[str, ...], corpus: Path | None, streams: tuple[int, ...]) -> None:
    """Measure the cost of training, export and listening as they grow.

    \b
    Example:
      python -m benchmarks.lab.growth --only streams --streams 1 --streams 4
    """
    began, before = time.monotonic(), machine_moment()
    listening = load_bundle(DEFAULT_BUNDLE)
    with tempfile.TemporaryDirectory(prefix="growth") as folder:
        work = Path(folder)
        speech = corpus or _rendered(work / "rendered")
        found = read_corpus(speech)
        paths = [item.path for item in found.utterances]

        def small() -> Path:
            part_of_corpus(speech, min(1.0, _EXPORT_UTTERANCES / len(paths)), work / "small")
            return work / "small"

        measures: dict[str, Callable[[], list[Row]]] = {
            DATA: lambda: measure_training(speech, work / DATA, say=say),
            STUDENTS: lambda: measure_export(small(), work / STUDENTS, say=say),
            STREAMS: lambda: measure_streams(
                listening, paths, work / STREAMS, corpus=found.facts.name, counts=streams, say=say
            ),
        }
        rows = [row for part in PARTS if part in (only or PARTS) for row in measures[part]()]
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.bundle = listening.hash if STREAMS in (only or PARTS) else None
    results.machine = machine_state(before, machine_moment())
    publish(results, out)


def _rendered(root: Path) -> Path:
    say("rendering speech")
    render_corpus(root, share=_SHARE)
    return root


if __name__ == "__main__":
    main()
