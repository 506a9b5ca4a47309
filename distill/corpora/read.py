"""`read_corpus`: find out what a path holds, and read it. Audio is not decoded, only its headers are looked at."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from distill.corpora import audformat_database, iemocap, meld, named_files
from distill.corpora.contents import instead_of_audio
from distill.corpora.dimensions import scaled
from distill.corpora.manifest import NAMES, REQUIRED_COLUMNS, SUFFIXES, find_manifest, read_facts, read_manifest
from distill.corpora.plugins import plugin_reader, plugin_reader_names, plugin_readers
from distill.corpora.reader import Entry, Reader, audio_files, is_audio
from distill.corpus import AUDIO_SUFFIXES, Corpus, CorpusFacts, Utterance
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.decoding.audio_file import audio_info
from edge_runtime.sources.decoding.plausible import check_format

READERS: dict[str, Reader] = {
    reader.name: reader
    # Those that a folder or a table gives away come before those that look at file names.
    for reader in (iemocap.READER, meld.READER, audformat_database.READER, *named_files.READERS)
}
"""The readers of published corpora by name."""

_BY_NAMES = {name: reader for name, reader in READERS.items() if reader.fits is not None}
_BY_TABLES = [reader for reader in READERS.values() if reader.fits is None]
_DEEPEST = 3

MANIFEST = "manifest"
"""Name of the reader of `distill.corpora.manifest`."""
AUDIO_FILES = "audio files"
"""What stands for the reader of a directory that is no corpus: unlabelled speech."""


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
    unread: tuple[str, ...] = ()


def read_corpus(path: Path, *, skip_broken: bool = False, name: str | None = None, reader: str | None = None) -> Corpus:
    """Read a corpus: a directory with a manifest, a manifest file, or a published corpus in its own layout.

    A manifest (``metadata.csv``, ``metadata.jsonl``) comes first, whatever else a directory looks like; then `READERS`
    are tried, then those that other packages add (`distill.corpora.plugins`), then the folders below, three deep, if
    one alone holds a corpus. The file of a table of an audformat database (``db.TABLE.csv``) takes emotions from that
    table.

    Args:
        path: the corpus directory, or a manifest file.
        skip_broken: leave out files that are missing, not audio or wrongly named; `Corpus.skipped` has the reasons.
        name: name of the corpus, instead of the one that it has.
        reader: name of the reader to use, one of `reader_names`, instead of the one that fits.

    Raises:
        EdgeemoError: there is no such place, no reader recognises it, a file is broken, or a plug-in fails.
        WrongUseError: there is no such reader.
    """
    return _read(_plan(path, reader), skip_broken, name)


def read_unlabelled(path: Path, *, skip_broken: bool = False, name: str | None = None) -> Corpus:
    """Read speech without its emotions, whose `Utterance.emotion` is empty.

    As `read_corpus`, but a manifest needs the column ``file`` only, and a directory that no reader recognises is read
    too: all audio files in it and below it. Emotions and further columns are dropped, so that nothing depends on them.
    An utterance without a speaker is one speaker of its own, with the file's name.

    Args:
        path: the directory, or a manifest file.
        skip_broken: leave out files that are missing or not audio; `Corpus.skipped` has the reasons.
        name: name of the speech, instead of the one that it has.

    Raises:
        EdgeemoError: there is no such place, it holds no audio, a file is broken, or a plug-in fails.
    """
    corpus = _read(_unlabelled_plan(path), skip_broken, name)
    items = (
        dataclasses.replace(item, speaker=item.speaker or item.name, emotion="", extra={}, dimensions={})
        for item in corpus.utterances
    )
    return dataclasses.replace(corpus, utterances=tuple(items), published=None)


def _read(plan: _Plan, skip_broken: bool, name: str | None) -> Corpus:
    utterances: list[Utterance] = []
    skipped: list[str] = []
    named: set[str] = set()
    for entry in plan.entries:
        utterance, problem = _look_at(plan, entry)
        if not problem and entry.file in named:
            problem = f"{utterance.path}: is named twice in {entry.where or plan.where}"
        if problem and not skip_broken:
            problem += _spelt_otherwise(utterance.path)
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
        unread=plan.unread,
    )


def _plan(path: Path, wanted: str | None) -> _Plan:
    if wanted is not None and wanted not in reader_names():
        raise WrongUseError(
            f"there is no reader '{wanted}': use one of {', '.join(reader_names())}, or install the package that has it"
        )
    if path.is_file():
        return _file_plan(path, wanted)
    if not path.is_dir():
        raise EdgeemoError(f"{path}: there is no such corpus directory; check the path")
    return _directory_plan(path, wanted)


def _file_plan(path: Path, wanted: str | None, *, labelled: bool = True) -> _Plan:
    if wanted in (None, audformat_database.READER.name) and audformat_database.is_table(path):
        return _table_plan(path)
    if wanted not in (None, MANIFEST):
        raise WrongUseError(f"{path}: is a file; the reader '{wanted}' reads a directory")
    if path.suffix.lower() not in SUFFIXES:
        columns = _columns() if labelled else "the column file"
        raise EdgeemoError(f"{path}: is no manifest (a .csv or .jsonl file with {columns})")
    return _manifest_plan(path, path, labelled=labelled)


def _unlabelled_plan(path: Path) -> _Plan:
    if path.is_file():
        return _file_plan(path, None, labelled=False)
    if not path.is_dir():
        raise EdgeemoError(f"{path}: there is no such directory of speech")
    manifest = find_manifest(path)
    if manifest is not None:
        return _manifest_plan(manifest, None, labelled=False)
    reader = _recognised(path)
    if reader is not None:
        plan = _reader_plan(reader, path)
        return plan._replace(entries=chain(plan.entries, map(Entry, plan.unread)), unread=())
    names = list(audio_files(path))
    if not names:
        raise EdgeemoError(
            f"{path}: holds no audio ({', '.join(AUDIO_SUFFIXES)}) and no {' or '.join(NAMES)}; give a directory with "
            "speech, or a manifest with the column file"
        )
    facts = read_facts(path) or CorpusFacts(name=path.resolve().name)
    return _Plan(AUDIO_FILES, path, map(Entry, names), facts, None, path, None)


def _directory_plan(path: Path, wanted: str | None) -> _Plan:
    manifest = find_manifest(path)
    if wanted == MANIFEST or (wanted is None and manifest is not None):
        if manifest is None:
            raise EdgeemoError(f"{path}: holds no {' or '.join(NAMES)} with {_columns()}")
        return _manifest_plan(manifest, None)
    if wanted is None:
        return _found_plan(path)
    reader = READERS.get(wanted) or plugin_reader(wanted)
    fits = any(map(reader.fits, audio_files(path))) if reader.fits else reader.recognises(path)
    if not fits:
        raise EdgeemoError(f"{path}: does not have the layout of the reader '{reader.name}' ({reader.layout})")
    return _reader_plan(reader, path)


def _found_plan(path: Path) -> _Plan:
    """Return the plan of the reader that recognises a directory or, if none does, the one folder below that one does.

    Raises:
        EdgeemoError: none does, two corpora are mixed there, or several folders hold one each.
    """
    _refuse_mixture(path)
    reader = _recognised(path)
    if reader is not None:
        _refuse_another_below(path, reader)
        return _reader_plan(reader, path)
    below = list(_corpora_below(path, _DEEPEST))
    if len(below) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in below[:4])
        raise EdgeemoError(f"{path}: holds {len(below)} corpora ({names}); give one of them, or each by --corpus")
    if below:
        return _plan(below[0], None)
    counts = _counts(path)
    if counts:
        name, count = max(counts.items(), key=lambda each: each[1])
        raise EdgeemoError(
            f"{path}: holds no {' or '.join(NAMES)} with {_columns()}, and only {count} of "
            f"{sum(1 for _ in audio_files(path))} audio files are named as those of {name}; move these to a folder of "
            f"their own, or read these alone by --reader {name}"
        )
    raise EdgeemoError(
        f"{path}: holds no {' or '.join(NAMES)} with {_columns()}, and is not laid out like one of the corpora "
        f"{', '.join(reader_names()[1:])}"
    )


def _reader_plan(reader: Reader, path: Path) -> _Plan:
    facts = _facts(path, reader)
    unread = tuple(name for name in audio_files(path) if not reader.fits(name)) if reader.fits else ()
    return _Plan(reader.name, path, reader.entries(path), facts, reader.published, path, None, unread)


def _table_plan(table: Path) -> _Plan:
    reader, root = audformat_database.READER, table.parent
    facts = _facts(root, reader)
    return _Plan(reader.name, root, audformat_database.entries(root, table), facts, None, table, table)


def _facts(root: Path, reader: Reader) -> CorpusFacts:
    """Return the facts of ``corpus.json`` where there is one, with the scales of the reader where it declares none."""
    known = reader.facts_of(root) if reader.facts_of else reader.facts
    declared = read_facts(root)
    if declared is None:
        return known
    return declared.model_copy(update={"dimension_ranges": known.dimension_ranges | declared.dimension_ranges})


def _counts(root: Path) -> dict[str, int]:
    """Return how many audio files have names of each published corpus, those that have any."""
    found = Counter(name for file in audio_files(root) for name, reader in _BY_NAMES.items() if _fits(reader, file))
    return dict(found)


def _fits(reader: Reader, file: str) -> bool:
    return reader.fits is not None and reader.fits(file)


def _refuse_mixture(root: Path) -> None:
    if any(reader.recognises(root) for reader in _BY_TABLES):
        return  # read by tables or folders, whatever the files are called
    counts = _counts(root)
    if len(counts) > 1:
        told = " and ".join(f"{count} files named as those of {name}" for name, count in counts.items())
        raise EdgeemoError(
            f"{root}: holds {told}; move each corpus to a folder of its own and give each by --corpus, or read one "
            f"where it lies by --reader {next(iter(counts))}"
        )


def _refuse_another_below(root: Path, reader: Reader) -> None:
    """Refuse a directory in which a reader of tables or folders found one corpus, and another one finds one below."""
    others = [each for each in _BY_TABLES if each is not reader]
    if reader not in _BY_TABLES:
        return
    for folder in _corpora_below(root, _DEEPEST):
        other = next((each.name for each in others if each.recognises(folder)), None)
        if other is not None:
            raise EdgeemoError(
                f"{root}: is laid out like {reader.name}, and {folder} like {other}; give each folder by --corpus"
            )


def _corpora_below(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders under a directory that hold a manifest, or that a reader of tables or folders recognises."""
    for folder in sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")):
        if find_manifest(folder) is not None or any(reader.recognises(folder) for reader in _BY_TABLES):
            yield folder
        elif depth > 1 and not folder.is_symlink():
            yield from _corpora_below(folder, depth - 1)


def _spelt_otherwise(path: Path) -> str:
    """Return a hint at a file whose name differs in case or suffix only, where a named one is missing."""
    if path.is_symlink() or path.exists() or not path.parent.is_dir():
        return ""
    alike = (each.name for each in path.parent.iterdir() if each.name.lower() == path.name.lower())
    other = (each.name for each in path.parent.iterdir() if each.stem == path.stem and is_audio(each.name))
    found = next(chain(alike, other), "")
    return f" (there is {found})" if found else ""


def _manifest_plan(manifest: Path, given: Path | None, *, labelled: bool = True) -> _Plan:
    root = manifest.parent
    facts = read_facts(root)
    if facts is None and given is not None:
        # A second manifest in the folder of a published corpus, as --transcribe writes one: the facts are that corpus'.
        reader = _recognised(root)
        facts = reader.facts if reader is not None else None
    facts = facts or CorpusFacts(name=root.resolve().name)
    return _Plan(MANIFEST, root, read_manifest(manifest, labelled=labelled), facts, None, manifest, given)


def _recognised(root: Path) -> Reader | None:
    # Plug-ins last, so that what is installed beside us changes nothing for the corpora that we read.
    readers = chain(READERS.values(), plugin_readers(taken=(MANIFEST, *READERS)))
    return next((reader for reader in readers if reader.recognises(root)), None)


def _columns() -> str:
    return f"the columns {','.join(REQUIRED_COLUMNS)},language,transcript"


def _look_at(plan: _Plan, entry: Entry) -> tuple[Utterance, str]:
    path = plan.root / entry.file
    targets = scaled(entry.dimensions, plan.facts.dimension_ranges)
    problem = entry.problem or targets.problem
    problem = f"{path}: {problem}" if problem else ""
    seconds, size, rate, encoding = 0.0, 0, 0, ""
    if not problem:
        try:
            info = audio_info(path)
            check_format(str(path), info.rate, info.channels)
            rate, encoding, seconds, size = info.rate, info.encoding, info.seconds, path.stat().st_size
        except EdgeemoError as error:
            what = instead_of_audio(path)
            problem = f"{path}: {what}" if what else error.message if path.exists() else f"{path}: is missing"
    if problem and entry.where:
        problem += f" ({entry.where})"
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
        dimensions=targets.values,
    )
    return utterance, problem
