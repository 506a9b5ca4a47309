"""The interface of corpus readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from distill.corpus import AUDIO_SUFFIXES, CorpusFacts
from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError

_LOOKED_AT = 64


@dataclass(frozen=True)
class Entry:
    """One utterance as a reader finds it, before its audio file is looked at.

    Attributes:
        file: the file, relative to the corpus, with ``/``.
        speaker: speaker id.
        emotion: label as the corpus names it.
        transcript: the words, or empty.
        language: ISO 639-1 code; that of the corpus if empty.
        extra: further columns.
        dimensions: arousal, valence and dominance on the corpus' own scale (`CorpusFacts.dimension_ranges`), as numbers
            or as text; an empty text is a missing one.
        problem: why it cannot be used, or empty.
        where: table and row that name it, for errors; empty where the file's name holds all.
    """

    file: str
    speaker: str = ""
    emotion: str = ""
    transcript: str = ""
    language: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    dimensions: Mapping[Dimension, str | float] = field(default_factory=dict)
    problem: str = ""
    where: str = ""


@dataclass(frozen=True)
class Reader:
    """How one corpus is read.

    Attributes:
        facts: what is published of the corpus.
        layout: what the reader looks for, in a few words.
        recognises: whether a directory looks like this corpus.
        entries: the utterances of such a directory, in a fixed order.
        published: utterances of the complete corpus.
        facts_of: facts that a directory itself holds, instead of `facts`.
        fits: whether a file's name is one of this corpus, for corpora that are read by the names of their files alone.
    """

    facts: CorpusFacts
    layout: str
    recognises: Callable[[Path], bool]
    entries: Callable[[Path], Iterator[Entry]]
    published: int | None = None
    facts_of: Callable[[Path], CorpusFacts] | None = None
    fits: Callable[[str], bool] | None = None

    @property
    def name(self) -> str:
        """Name of the corpus and of its reader."""
        return self.facts.name


class UnknownCodeError(EdgeemoError):
    """A file name holds a code that the corpus does not define."""


def known(table: Mapping[str, str], code: str, what: str) -> str:
    """Return what a code of a file name stands for.

    Raises:
        UnknownCodeError: the corpus defines no such code.
    """
    if code not in table:
        raise UnknownCodeError(f"its name holds the {what} '{code}', which the corpus does not define")
    return table[code]


def is_audio(name: str) -> bool:
    """Return whether a file's name is that of audio, and not hidden."""
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def audio_files(root: Path) -> Iterator[str]:
    """Yield the audio files under a directory by name, relative, in a fixed order; suffixes in any case.

    Hidden files and folders (``._`` files of macOS too) are left out. Links to folders elsewhere are followed, once
    each; those to folders in ``root`` or above it would find files twice, or for ever, and are not.
    """
    inside = root.resolve()
    seen: set[Path] = set()

    def is_new(folder: Path) -> bool:
        target = folder.resolve()
        again = folder.is_symlink() and (target.is_relative_to(inside) or inside.is_relative_to(target))
        if again or target in seen:
            return False
        seen.add(target)
        return True

    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and is_new(Path(folder, name)))
        for name in sorted(files):
            if is_audio(name):
                yield (Path(folder) / name).relative_to(root).as_posix()


def named_files_reader(
    facts: CorpusFacts,
    layout: str,
    pattern: str,
    entry: Callable[[re.Match[str], str, Path], Entry | None],
    *,
    published: int | None = None,
) -> Reader:
    """Return the reader of a corpus whose file names hold all that is needed.

    Args:
        facts: what is published of the corpus.
        layout: what the names look like.
        pattern: regular expression that a file's whole stem matches, whatever its case.
        entry: makes an entry of a match, the file's name and the corpus directory; None for a file that is not part
            of the task (a song, say).
        published: utterances of the complete corpus.
    """
    stem = re.compile(pattern, re.IGNORECASE)

    def fits(name: str) -> bool:
        return stem.fullmatch(Path(name).stem) is not None

    def recognises(root: Path) -> bool:
        names = list(islice(audio_files(root), _LOOKED_AT))
        return 2 * sum(map(fits, names)) > len(names)

    def entries(root: Path) -> Iterator[Entry]:
        seen: dict[str, str] = {}
        for name in audio_files(root):
            match = stem.fullmatch(Path(name).stem)
            if match is None:
                continue
            first = seen.setdefault(Path(name).stem.lower(), name)
            if first != name:
                yield Entry(name, problem=f"is a second copy of {first}")
                continue
            try:
                found = entry(match, name, root)
            except UnknownCodeError as error:
                found = Entry(name, problem=error.message)
            if found is not None:
                yield found

    return Reader(facts, layout, recognises, entries, published, fits=fits)
