"""How well one person under two names is found: `python -m benchmarks.lab.voices --corpus NAME=PATH …`.

Writes ``benchmarks/results/voices.csv``: of each corpus, how many speakers are found again whose utterances are divided
in two (every other one), and how many pairs of different speakers are taken for one person.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.lab.options import RESULTS
from distill.checks.corpus_checks import scan_corpus
from distill.checks.voices import ALIKE, Voice, distances, voices_of
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.files import write_text


def halves_found(voices: list[Voice]) -> int:
    """Return how many speakers are found again whose utterances are divided in two, one speaker at a time."""
    found = 0
    for number, voice in enumerate(voices):
        divided = [Voice(voice.speaker, voice.embeddings[first::2]) for first in (0, 1)]
        found += bool(distances([*divided, *voices[:number], *voices[number + 1 :]])[0, 1] < ALIKE)
    return found


@click.command("voices", cls=Tool)
@click.option("--corpus", "corpora", type=CORPUS, multiple=True, required=True, help="Speech of known speakers.")
def main(corpora: tuple[NamedPath, ...]) -> None:
    """Measure how often the check of voices finds one person under two names, and takes two people for one.

    \b
    Example:
      python -m benchmarks.lab.voices --corpus ravdess=PATH
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("corpus", "speakers", "divided_speakers_found", "pairs", "pairs_taken_for_one", "seconds"))
    with tempfile.TemporaryDirectory(prefix="voices") as folder:
        for each in corpora:
            corpus = read_corpus(each.path, name=each.name)
            scans = scan_corpus(corpus, Path(folder))
            began = time.monotonic()
            voices = voices_of(corpus.utterances, scans, Path(folder))
            seconds = time.monotonic() - began
            apart = distances(voices)[np.tril_indices(len(voices), -1)]
            row = (len(voices), halves_found(voices), len(apart), int((apart < ALIKE).sum()), f"{seconds:.1f}")
            console.print(f"{corpus.facts.name}: {row}")
            table.writerow((corpus.facts.name, *row))
    write_text(RESULTS / "voices.csv", out.getvalue())


if __name__ == "__main__":
    main()
