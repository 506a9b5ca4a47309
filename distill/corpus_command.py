"""`edgeemo corpus`: what a corpus holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click
from rich.table import Table

from distill.corpus import read_corpus
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError


@click.command("corpus")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--render", is_flag=True, help="Make the built-in rendered corpus at PATH first.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of --render.")
@click.option("--skip-broken", is_flag=True, help="Leave out files that cannot be read, and name them.")
@click.option("--json", "as_json", is_flag=True, help="Write the summary as JSON to standard output.")
def corpus_command(path: Path, render: bool, seed: int, skip_broken: bool, as_json: bool) -> None:
    r"""Tell what the corpus at PATH holds: utterances, speakers, labels, hours, problems.

    PATH holds a metadata.csv with the columns file,speaker,emotion,language,transcript; more columns are kept.

    \b
    Examples:
      edgeemo corpus my-corpus
      edgeemo corpus rendered --render
    """
    if render:
        _render(path, seed)
    elif seed:
        raise WrongUseError("--seed goes with --render")
    corpus = read_corpus(path, skip_broken=skip_broken)
    emotions = Counter(item.emotion for item in corpus.utterances)
    if as_json:
        summary = {
            "name": corpus.facts.name,
            "kind": corpus.facts.kind,
            "licence": corpus.facts.licence,
            "note": corpus.facts.note,
            "fingerprint": corpus.fingerprint(),
            "utterances": len(corpus.utterances),
            "speakers": len(corpus.speakers),
            "hours": round(corpus.hours, 4),
            "labels": dict(sorted(emotions.items())),
            "transcripts": sum(bool(item.transcript) for item in corpus.utterances),
            "problems": list(corpus.skipped),
        }
        click.echo(json.dumps(summary, indent=2))
        return
    console.print(
        f"{corpus.facts.name} ({corpus.facts.kind}, licence {corpus.facts.licence}): "
        f"{len(corpus.utterances)} utterances, {len(corpus.speakers)} speakers, {corpus.hours:.2f} hours"
    )
    if corpus.facts.note:
        console.print(corpus.facts.note)
    table = Table("emotion", "utterances", "speakers")
    for emotion, count in sorted(emotions.items()):
        speakers = {item.speaker for item in corpus.utterances if item.emotion == emotion}
        table.add_row(emotion, str(count), str(len(speakers)))
    console.print(table)
    for problem in corpus.skipped:
        console.print(f"left out {problem}", style="yellow")


def _render(path: Path, seed: int) -> None:
    from distill.rendered.render import SPEAKERS, render_corpus
    from edge_runtime.console import advance, progress_bar

    with progress_bar("speakers", total=len(SPEAKERS)) as bar:
        render_corpus(path, seed=seed, progress=lambda speaker: advance(bar))
