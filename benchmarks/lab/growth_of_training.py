"""Cost of `edgeemo distill` by amount of data: time, processor time, peak memory."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bench.results import Row
from benchmarks.lab.command_cost import edgeemo_cost, set_options
from benchmarks.lab.views.growth_columns import DATA
from distill.corpora.read import read_corpus

RECIPE = "demo"
TIMES = (1, 3, 10)
EPOCHS = ("teachers.linguistic.training.epochs=1", "teachers.prosodic.training.epochs=4", "student.training.epochs=3")
"""The same number at every size, too few for early stopping."""


def part_of_corpus(corpus: Path, share: float, out: Path) -> int:
    """Copy a share of a corpus, evenly from every speaker and emotion; smaller shares are subsets of larger ones.

    Args:
        corpus: a directory with a ``metadata.csv``, as `distill.rendered.render` writes it.
        share: from 0 to 1.
        out: a new directory.

    Returns:
        Number of its utterances.
    """
    with (corpus / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: (row["speaker"], row["emotion"], row["file"]))
    # Rounded, so that a product of 28.999999999999996 counts as 29.
    reached = [int(round(number * share, 6)) for number in range(len(rows) + 1)]
    chosen = [row for number, row in enumerate(rows) if reached[number + 1] > reached[number]]
    out.mkdir(parents=True)
    for row in chosen:
        (out / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / row["file"], out / row["file"])
    with (out / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(chosen)
    shutil.copy(corpus / "corpus.json", out)
    return len(chosen)


def measure_training(
    corpus: Path,
    work: Path,
    *,
    recipe: str = RECIPE,
    times: Sequence[int] = TIMES,
    settings: Sequence[str] = EPOCHS,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Distil on growing parts of a corpus, each with an empty cache, and return a row for each.

    Args:
        corpus: the largest one, without duplicate recordings, since caches are keyed by content.
        work: directory for parts, runs and caches.
        recipe: name or path.
        times: sizes, as multiples of the smallest; the largest is the whole corpus.
        settings: of the recipe.
        options: further options of `edgeemo distill`.
        say: receives lines of progress.

    Raises:
        EdgeemoError: a training fails.
    """
    rows: list[Row] = []
    for number in sorted(times):
        place = work / f"{number}x"
        part_of_corpus(corpus, number / max(times), place / "corpus")
        found = read_corpus(place / "corpus")
        say(f"data {number}x: {len(found.utterances)} utterances")
        cost = edgeemo_cost(
            *("distill", recipe, "--corpus", place / "corpus", "--out", place / "run", "--cache", place / "cache"),
            *(*set_options(settings), *options),
        )
        figures = {
            "seconds": cost.seconds,
            "cpu_seconds": cost.cpu_seconds,
            "peak_mb": cost.peak_mb,
            "hours_of_speech": found.hours,
        }
        first = rows[0].figures if rows and rows[0].figures else figures
        figures |= {f"times_{name}": figures[name] / first[name] for name in ("seconds", "peak_mb", "hours_of_speech")}
        rows.append(
            Row(
                system=f"distill {recipe}",
                corpus=found.facts.name,
                sweep=DATA,
                settings={"times": number},
                utterances=len(found.utterances),
                figures={name: round(value, 4) for name, value in figures.items()},
                note=f"recipe {recipe} with {', '.join(settings)}; nothing cached" if settings else "nothing cached",
            )
        )
    return rows
