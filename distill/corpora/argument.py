"""How commands take a corpus, ``PATH`` or ``NAME=PATH``, and its reader, ``READER`` or ``NAME=READER``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from distill.corpora.read import reader_names
from edge_runtime.errors import WrongUseError

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)=(?P<path>.+)", re.DOTALL)


class NamedPath(NamedTuple):
    """A place, and the name that a user gives to the corpus there, if any."""

    path: Path
    name: str | None = None

    def __str__(self) -> str:
        """Return what to type for it."""
        return f"{self.name}={self.path}" if self.name else str(self.path)


class CorpusType(click.ParamType[Any]):
    """Takes ``PATH`` or ``NAME=PATH``; a path that exists is a path, whatever it looks like."""

    name = "[NAME=]PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NamedPath:
        """Split what was typed."""
        if isinstance(value, NamedPath):
            return value
        if not str(value):
            # An empty path would be the directory that the command is called in.
            self.fail("is empty; give the path of a corpus", param, ctx)
        match = _NAMED.fullmatch(str(value))
        if match is None or Path(value).exists():
            return NamedPath(Path(value))
        return NamedPath(Path(match["path"]).expanduser(), match["name"])


CORPUS = CorpusType()


class NamedReader(NamedTuple):
    """A reader, and the name of the corpus that it reads, if it is given."""

    reader: str
    corpus: str | None = None

    def __str__(self) -> str:
        """Return what to type for it."""
        return f"{self.corpus}={self.reader}" if self.corpus else self.reader


class ReaderType(click.ParamType[Any]):
    """Takes ``READER`` or ``NAME=READER``, where ``NAME`` is that of a ``NAME=PATH``."""

    name = "[NAME=]READER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NamedReader:
        """Split what was typed."""
        if isinstance(value, NamedReader):
            return value
        name, _, reader = str(value).rpartition("=")
        return NamedReader(click.Choice(reader_names()).convert(reader, param, ctx), name or None)


READER = ReaderType()


def readers_of(corpora: Sequence[NamedPath], readers: Sequence[NamedReader]) -> dict[NamedPath, str]:
    """Return the reader of each corpus that is given one.

    Args:
        corpora: the corpora of the command line.
        readers: its readers; one without a name is that of the only corpus.

    Raises:
        WrongUseError: a reader belongs to no corpus or to several, or a corpus has two.
    """
    found: dict[NamedPath, str] = {}
    for each in readers:
        if each.corpus is None and len(corpora) > 1:
            raise WrongUseError(
                f"--reader {each}: there are {len(corpora)} corpora; name the one that it reads: "
                f"--corpus NAME=PATH --reader NAME={each}"
            )
        own = [corpus for corpus in corpora if each.corpus in (None, corpus.name)]
        if not own:
            raise WrongUseError(
                f"--reader {each}: no corpus is called '{each.corpus}'; name it: --corpus {each.corpus}=PATH"
            )
        if own[0] in found:
            raise WrongUseError(f"--reader {each}: {own[0]} has the reader {found[own[0]]} already; give one of them")
        found |= dict.fromkeys(own, each.reader)
    return found
