"""`read_corpus`: find out what a path holds, and read it. Audio is not decoded, only its headers are looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import soundfile

from distill.corpora import audformat_database, iemocap, meld, named_files
from distill.corpora.manifest import NAMES, REQUIRED_COLUMNS, SUFFIXES, find_manifest, read_facts, read_manifest
from distill.corpora.plugins import plugin_reader, plugin_reader_names, plugin_readers
from distill.corpora.reader import Entry, Reader
from distill.corpus import Corpus, CorpusFacts, Utterance
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import check_format, unreadable

READERS: dict[str, Reader] = {
    reader.name: reader
    # Those that a folder or a table gives away come before those that look at file names.
    for reader in (iemocap.READER, meld.READER, audformat_database.READER, *named_files.READERS)
}
"""The readers of published corpora by name."""

MANIFEST = "manifest"
"""Name of the reader of `distill.corpora.manifest`."""


def reader_names() -> list[str]:
    """Return the names of all readers: of manifests, of `READERS`, and those that other packages add."""
    return [MANIFEST, *READERS, *(name for name in plugin_reader_names() if name not in (MANIFEST, *READERS))]


class _Plan(NamedTuple):
    reader: str
    root: Path
    entries: Iterator[Entry]
    facts: CorpusFacts
    published: int | None
    where: Path
    source: Path | None


def read_corpus(path: Path, *, skip_broken: bool = False, name: str | None = None, reader: str | None = None) -> Corpus:
    """Read a corpus: a directory with a manifest, a manifest file, or a published corpus in its own layout.

    A manifest (``metadata.csv``, ``metadata.jsonl``) comes first, whatever else a directory looks like; then `READERS`
    are tried, then those that other packages add (`distill.corpora.plugins`).

    Args:
        path: the corpus directory, or a manifest file.
        skip_broken: leave out files that are missing, not audio or wrongly named; `Corpus.skipped` has the reasons.
        name: name of the corpus, instead of the one that it has.
        reader: name of the reader to use, one of `reader_names`, instead of the one that fits.

    Raises:
        EdgeemoError: there is no such place, no reader recognises it, a file is broken, or a plug-in fails.
        WrongUseError: there is no such reader.
    """
    plan = _plan(path, reader)
    utterances: list[Utterance] = []
    skipped: list[str] = []
    named: set[str] = set()
    for entry in plan.entries:
        utterance, problem = _look_at(plan, entry)
        if not problem and entry.file in named:
            problem = f"{utterance.path}: is named twice in {plan.where}"
        if problem and not skip_broken:
            raise EdgeemoError(f"{problem}; repair or remove it, or leave such files out with --skip-broken")
        if problem:
            skipped.append(problem)
        else:
            named.add(entry.file)
            utterances.append(utterance)
    if not utterances:
        raise EdgeemoError(f"{plan.where}: names no utterance that can be used")
    facts = plan.facts.model_copy(update={"name": name}) if name else plan.facts
    return Corpus(
        plan.root,
        facts,
        tuple(utterances),
        tuple(skipped),
        reader=plan.reader,
        source=plan.source,
        published=plan.published,
    )


def _plan(path: Path, wanted: str | None) -> _Plan:
    if wanted is not None and wanted not in reader_names():
        raise WrongUseError(
            f"there is no reader '{wanted}': use one of {', '.join(reader_names())}, or install the package that has it"
        )
    if path.is_file():
        if wanted not in (None, MANIFEST):
            raise WrongUseError(f"{path}: is a file; the reader '{wanted}' reads a directory")
        if path.suffix not in SUFFIXES:
            raise EdgeemoError(f"{path}: is no manifest (a .csv or .jsonl file with {_columns()})")
        return _manifest_plan(path, path)
    if not path.is_dir():
        raise EdgeemoError(f"{path}: there is no such corpus directory")
    manifest = find_manifest(path)
    if wanted == MANIFEST or (wanted is None and manifest is not None):
        if manifest is None:
            raise EdgeemoError(f"{path}: holds no {' or '.join(NAMES)} with {_columns()}")
        return _manifest_plan(manifest, None)
    reader = (READERS.get(wanted) or plugin_reader(wanted)) if wanted else _recognised(path)
    if reader is None:
        raise EdgeemoError(
            f"{path}: holds no {' or '.join(NAMES)} with {_columns()}, and is not laid out like one of the corpora "
            f"{', '.join(reader_names()[1:])}"
        )
    if not reader.recognises(path):
        raise EdgeemoError(f"{path}: is not laid out as the reader '{reader.name}' wants it ({reader.layout})")
    facts = read_facts(path) or (reader.facts_of(path) if reader.facts_of else reader.facts)
    return _Plan(reader.name, path, reader.entries(path), facts, reader.published, path, None)


def _manifest_plan(manifest: Path, given: Path | None) -> _Plan:
    root = manifest.parent
    facts = read_facts(root)
    if facts is None and given is not None:
        # A second manifest in the folder of a published corpus, as --transcribe writes one: the facts are that corpus'.
        reader = _recognised(root)
        facts = reader.facts if reader is not None else None
    facts = facts or CorpusFacts(name=root.resolve().name)
    return _Plan(MANIFEST, root, read_manifest(manifest), facts, None, manifest, given)


def _recognised(root: Path) -> Reader | None:
    # Plug-ins last, so that what is installed beside us changes nothing for the corpora that we read.
    readers = chain(READERS.values(), plugin_readers(taken=(MANIFEST, *READERS)))
    return next((reader for reader in readers if reader.recognises(root)), None)


def _columns() -> str:
    return f"the columns {','.join(REQUIRED_COLUMNS)},language,transcript"


def _look_at(plan: _Plan, entry: Entry) -> tuple[Utterance, str]:
    path = plan.root / entry.file
    problem = f"{path}: {entry.problem}" if entry.problem else ""
    seconds, size, rate, encoding = 0.0, 0, 0, ""
    if not problem:
        try:
            header = soundfile.info(os.fsencode(path))
            check_format(str(path), header.samplerate, header.channels)
            rate, encoding = header.samplerate, header.subtype
            seconds, size = header.frames / rate, path.stat().st_size
            if seconds == 0:
                problem = f"{path}: holds no samples"
        except (soundfile.LibsndfileError, RuntimeError) as error:
            problem = f"{path}: {unreadable(path, error)}" if path.exists() else f"{path}: is missing"
        except EdgeemoError as error:
            problem = error.message
    utterance = Utterance(
        path=path,
        name=entry.file,
        speaker=entry.speaker,
        emotion=entry.emotion,
        language=entry.language or plan.facts.language,
        transcript=entry.transcript,
        seconds=seconds,
        size=size,
        extra=entry.extra,
        sample_rate=rate,
        encoding=encoding,
    )
    return utterance, problem
