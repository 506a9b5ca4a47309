"""``PATH`` or ``NAME=PATH``: how commands take a corpus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import click

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
