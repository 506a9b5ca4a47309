"""`edgeemo corpus`: what a corpus holds, and what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from distill.checks.corpus_checks import Checks, check_corpus
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpora.dimensions import UNIT
from distill.corpora.read import reader_names
from distill.corpus import Corpus
from distill.rendered.sentences import SHARE
from edge_runtime.console import advance, console, progress_bar
from edge_runtime.dimensions import DIMENSIONS
from edge_runtime.errors import WrongUseError
from edge_runtime.files import cache_directory
from edge_runtime.parameters import count_option, path_option

_STYLES = {"problem": "red", "warning": "yellow", "information": ""}


@click.command("corpus")
@click.argument("corpus", type=CORPUS, metavar="[NAME=]PATH")
@click.option(
    "--reader",
    type=click.Choice(reader_names()),
    metavar="NAME",
    help=f"Read it as this corpus, whatever it looks like: {', '.join(reader_names())}.",
)
@click.option("--skip-broken", is_flag=True, help="Leave out files that cannot be read, and name them.")
@click.option("--quick", is_flag=True, help="Look at metadata and headers only, do not decode the audio.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
@click.option("--render", is_flag=True, help="Make the built-in rendered corpus at PATH first.")
@count_option("--seed", "Seed of --render.", least=0, default=0)
@count_option("--share", "With --render: each speaker speaks one in N sentences.", most=30, default=SHARE)
@click.option(
    "--transcribe", metavar="MODEL", help="Transcribe utterances that lack words, with faster-whisper; then exit."
)
@path_option("--manifest", "Where --transcribe writes.  [default: PATH/transcribed.csv]", metavar="FILE")
@count_option("--workers", "Processes that decode audio.  [default: one a core]")
@path_option("--cache", "Where results on files are kept.  [default: user's cache]", metavar="DIR")
def corpus_command(
    corpus: NamedPath,
    render: bool,
    seed: int,
    share: int,
    reader: str | None,
    skip_broken: bool,
    quick: bool,
    workers: int | None,
    cache: Path | None,
    transcribe: str | None,
    manifest: Path | None,
    as_json: bool,
) -> None:
    """Describe the corpus at PATH: what it holds, what its folds would be, and what looks wrong.

    PATH is a published corpus as it is unpacked, a directory with a metadata.csv or metadata.jsonl
    (file,speaker,emotion,language,transcript; more columns are kept), or such a file itself.

    \b
    Examples:
      edgeemo corpus my-corpus
      edgeemo corpus korean=emotiontts_open_db/Dataset/SpeechCorpus/Emotional
      edgeemo corpus rendered --render
      edgeemo corpus small --render --share 6
      edgeemo corpus my-corpus --transcribe large-v3
    """
    if render:
        _render(corpus.path, seed, share)
    elif seed or share != SHARE:
        raise WrongUseError("--seed and --share go with --render")
    if manifest is not None and transcribe is None:
        raise WrongUseError("--manifest goes with --transcribe")
    speech = read_corpus(corpus.path, skip_broken=skip_broken, name=corpus.name, reader=reader)
    if transcribe is not None:
        _transcribe(speech, transcribe, manifest)
        return
    checks = check_corpus(speech, None if quick else cache or cache_directory(), workers=workers)
    if as_json:
        click.echo(json.dumps(_summary(speech, checks), indent=2, ensure_ascii=False))
    else:
        _show(speech, checks)


def _summary(corpus: Corpus, checks: Checks) -> dict[str, Any]:
    shown: dict[str, set[str]] = {}
    for item in corpus.utterances:
        shown.setdefault(item.emotion, set()).add(item.speaker)
    return {
        **corpus.facts.model_dump(),
        "reader": corpus.reader,
        "fingerprint": corpus.fingerprint(),
        "utterances": len(corpus.utterances),
        "published": corpus.published,
        "speakers": len(corpus.speakers),
        "hours": round(corpus.hours, 4),
        "labels": dict(sorted(Counter(item.emotion for item in corpus.utterances).items())),
        "speakers_per_label": {emotion: len(speakers) for emotion, speakers in sorted(shown.items())},
        "languages": dict(sorted(Counter(item.language for item in corpus.utterances).items())),
        "sample_rates": {
            str(rate): count for rate, count in sorted(Counter(item.sample_rate for item in corpus.utterances).items())
        },
        "columns": sorted({name for item in corpus.utterances for name in item.extra}),
        "dimensions": _dimensions(corpus),
        "transcripts": sum(bool(item.transcript) for item in corpus.utterances),
        "problems": list(corpus.skipped),
        **checks.model_dump(mode="json"),
    }


def _dimensions(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """Return what is known of each dimension that has targets: counts, and values on the scale 0..1."""
    found: dict[str, dict[str, Any]] = {}
    for name in DIMENSIONS:
        items = [item for item in corpus.utterances if name in item.dimensions]
        if items:
            values = np.array([item.dimensions[name] for item in items])
            found[name] = {
                "utterances": len(items),
                "missing": len(corpus.utterances) - len(items),
                "speakers": len({item.speaker for item in items}),
                "scale": list(corpus.facts.dimension_ranges.get(name, UNIT)),
                "lowest": round(float(values.min()), 4),
                "mean": round(float(values.mean()), 4),
                "highest": round(float(values.max()), 4),
            }
    return found


def _show(corpus: Corpus, checks: Checks) -> None:
    summary = _summary(corpus, checks)
    console.print(
        f"{corpus.facts.name} ({corpus.facts.kind}, licence {corpus.facts.licence}, read as {corpus.reader}): "
        f"{len(corpus.utterances)} utterances, {len(corpus.speakers)} speakers, {corpus.hours:.2f} hours"
    )
    for text in (corpus.facts.note, corpus.facts.citation):
        if text:
            console.print(text)
    rates = ", ".join(f"{rate} Hz" for rate in summary["sample_rates"])
    columns = ", ".join(summary["columns"]) or "none"
    console.print(f"Sample rates: {rates}; transcripts: {summary['transcripts']}; further columns: {columns}")
    table = Table("emotion", "utterances", "speakers")
    for emotion, count in summary["labels"].items():
        table.add_row(emotion, str(count), str(summary["speakers_per_label"][emotion]))
    console.print(table)
    if summary["dimensions"]:
        console.print(_dimension_table(summary["dimensions"]))
    if checks.folds:
        table = Table(
            "fold", "tested speakers", "train", "validation", "test", title=f"{len(checks.folds)} folds by speaker"
        )
        for fold in checks.folds:
            names = ", ".join(fold.speakers[:6]) + (f" and {len(fold.speakers) - 6} more" if fold.speakers[6:] else "")
            table.add_row(str(fold.index), names, str(fold.train), str(fold.validation), str(fold.test))
        console.print(table)
    for problem in corpus.skipped:
        console.print(f"left out {problem}", style="yellow")
    for finding in checks.findings:
        console.print(f"{finding.level}: {finding.message}", style=_STYLES[finding.level])
    if not any(finding.level != "information" for finding in checks.findings):
        console.print("Nothing looks wrong.")


def _dimension_table(dimensions: dict[str, dict[str, Any]]) -> Table:
    columns = ("dimension", "count", "missing", "speakers", "scale", "lowest", "mean", "highest")
    table = Table(*columns, title="targets on the scale of the corpus; lowest, mean and highest on 0 to 1")
    for name, each in dimensions.items():
        low, high = each["scale"]
        counts = (str(each[key]) for key in ("utterances", "missing", "speakers"))
        values = (f"{each[key]:.2f}" for key in ("lowest", "mean", "highest"))
        table.add_row(name, *counts, f"{low:g} to {high:g}", *values)
    return table


def _transcribe(corpus: Corpus, model: str, manifest: Path | None) -> None:
    from distill.corpora import transcribe

    out = manifest or (corpus.source or corpus.root / transcribe.MANIFEST).with_name(transcribe.MANIFEST)
    missing = transcribe.missing_transcripts(corpus)
    if not missing:
        console.print(f"{corpus.root}: every utterance has a transcript already")
        return
    recogniser = transcribe.FasterWhisper(model)
    with progress_bar("utterances", total=missing) as bar:
        made = transcribe.transcribe_corpus(corpus, recogniser, out, progress=lambda: advance(bar))
    resumed = f", {missing - made} of them by an earlier call" if made < missing else ""
    console.print(f"{out}: {missing} transcripts by {recogniser.name}{resumed}; the corpus' own files are as they were")
    console.print(f"Next: edgeemo corpus {out}, and the same for: edgeemo distill RECIPE --corpus {out}")


def _render(path: Path, seed: int, share: int) -> None:
    from distill.rendered.render import SPEAKERS, render_corpus

    with progress_bar("speakers", total=len(SPEAKERS)) as bar:
        render_corpus(path, seed=seed, share=share, progress=lambda speaker: advance(bar))
