"""Cost of `edgeemo export --int8` by size of the student: time, processor time, peak memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench.results import Row
from benchmarks.lab.command_cost import edgeemo_cost, set_options
from benchmarks.lab.views.growth_columns import STUDENTS
from distill.corpora.read import read_corpus
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import graph_name
from edge_runtime.tensorrt.library import installed


class Size(NamedTuple):
    """Size of an encoder: width and number of blocks; feed-forward layers are four times as wide."""

    width: int
    layers: int

    def settings(self) -> list[str]:
        """Return the settings of a recipe for a student of this size."""
        sizes = {"d_model": self.width, "layers": self.layers, "feed_forward": 4 * self.width}
        return [f"student.random.{name}={value}" for name, value in sizes.items()]


SIZES = (Size(128, 4), Size(192, 4), Size(256, 5), Size(384, 4))
"""About 1, 2, 4 and 8 million parameters."""


def measure_export(
    corpus: Path,
    work: Path,
    *,
    recipe: str = "demo",
    sizes: Sequence[Size] = SIZES,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Train students of several sizes for one epoch, export them to INT8, and return a row for each.

    Only the export is measured; it does not depend on the training.

    Args:
        corpus: a small corpus; the export measures accuracy on its validation and test speakers.
        work: directory for runs, bundles and the cache.
        recipe: name or path; its teachers are left out.
        sizes: of the students.
        options: further options of `edgeemo export`.
        say: receives lines of progress.

    Raises:
        EdgeemoError: a training or an export fails.
    """
    found = read_corpus(corpus)
    rows = []
    for size in sizes:
        place = work / f"{size.width}x{size.layers}"
        edgeemo_cost(
            *("distill", recipe, "--corpus", corpus, "--out", place / "run", "--cache", work / "cache"),
            *("--without", "linguistic", "--without", "prosodic"),
            *set_options(["student.training.epochs=1", *size.settings()]),
        )
        cost = edgeemo_cost(
            "export", place / "run", "--out", place / "bundle", "--int8", "--allow-drop", "--allow-chance", *options
        )
        manifest = load_bundle(place / "bundle").manifest
        say(f"student of {manifest.encoder.parameters / 1e6:.1f} M parameters: {cost.seconds:.0f} s")
        rows.append(
            Row(
                system="export --int8",
                corpus=found.facts.name,
                sweep=STUDENTS,
                settings=size._asdict(),
                parameters=manifest.encoder.parameters,
                macs=sum(manifest.macs.values()),
                size_bytes=(place / "bundle" / graph_name("int8-cpu")).stat().st_size,
                utterances=len(found.utterances),
                figures={name: round(value, 4) for name, value in cost._asdict().items()},
                note=_steps(len(found.utterances)),
            )
        )
    return rows


def _steps(utterances: int) -> str:
    check = "NVIDIA's builder" if installed("tensorrt_rtx") else "no TensorRT check"
    return f"all graphs, calibration, parity, accuracy on a corpus of {utterances} utterances, {check}"
