"""Peak memory of `edgeemo distill` on a corpus and on the same corpus several times over.

Copies are hard links under other names, of speakers and transcripts with other names, so that only the number of
utterances grows. Peak is the largest resident set of the command or of one of its helpers (Linux ``ru_maxrss``).
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from benchmarks.lab.command_cost import edgeemo_cost


def multiply(corpus: Path, times: int, out: Path) -> int:
    """Write a corpus of ``times`` times the utterances, and return how many it has.

    The copies of a recording have one speaker, so that all are in the same part of a fold; duplicates must be accepted.
    """
    with (corpus / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    out.mkdir(parents=True)
    with (out / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for number in range(times):
            for row in rows:
                name = f"{number}/{row['file']}"
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(corpus / row["file"], out / name)
                writer.writerow(row | {"file": name})
    return len(rows) * times


def peak_megabytes(recipe: Path, corpus: Path, work: Path, settings: tuple[str, ...] = ()) -> float:
    """Distil once, with a cache of its own, and return the peak in MB of a million bytes."""
    out, cache = work / "run", work / "cache"
    return edgeemo_cost("distill", recipe, "--corpus", corpus, "--out", out, "--cache", cache, *settings).peak_mb
