"""Score all audio files under a folder, as CSV: a row for each stretch of speech.

    python -m edge_runtime.examples.score_folder recordings > scores.csv

A file without speech gets one row without a label, so that every file is accounted for. One that cannot be read is told
on standard error; the others are scored all the same, and the exit code is 1.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click

from edge_runtime import EdgeemoError, load, score_file
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au"}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), default=DEFAULT_BUNDLE, help="Not the default bundle.")
def main(folder: Path, bundle: Path) -> None:
    """Score all audio files under FOLDER."""
    model = load(bundle)  # verified and opened once, not for every file
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["file", "start", "end", "label", "confidence", "uncertain"])
    failed = 0
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        name = str(path.relative_to(folder)).encode("utf-8", "replace").decode()  # a name may be no Unicode
        try:
            finals = score_file(path, model)
        except EdgeemoError as error:
            click.echo(error.message, err=True)
            failed += 1
            continue
        for final in finals:
            # The label is the best guess even where `uncertain` says that it should not be acted on.
            rows.writerow([name, final.start, final.end, final.label, final.confidence, final.uncertain])
        if not finals:
            rows.writerow([name, "", "", "", "", ""])
    if failed:
        raise EdgeemoError(f"{failed} of the files could not be scored")


if __name__ == "__main__":
    main()
