"""The interface of corpus readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from distill.corpus import AUDIO_SUFFIXES, CorpusFacts
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
        problem: why it cannot be used, or empty.
    """

    file: str
    speaker: str = ""
    emotion: str = ""
    transcript: str = ""
    language: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


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
    """

    facts: CorpusFacts
    layout: str
    recognises: Callable[[Path], bool]
    entries: Callable[[Path], Iterator[Entry]]
    published: int | None = None
    facts_of: Callable[[Path], CorpusFacts] | None = None

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


def audio_files(root: Path) -> Iterator[str]:
    """Yield the audio files under a directory by name, relative, in a fixed order; hidden ones are left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith("."):
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

    def recognises(root: Path) -> bool:
        names = list(islice(audio_files(root), _LOOKED_AT))
        return 2 * sum(bool(stem.fullmatch(Path(name).stem)) for name in names) > len(names)

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

    return Reader(facts, layout, recognises, entries, published)
