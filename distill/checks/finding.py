"""A finding on a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

Level = Literal["problem", "warning", "information"]

NAMED = 3
"""How many files a sentence names."""


class Finding(BaseModel, extra="forbid", frozen=True):
    """A finding on a corpus.

    Attributes:
        check: which check found it.
        level: ``problem`` (training will refuse it or be misled), ``warning`` (look at it), ``information``.
        message: what it is, in a sentence.
        files: the files that it is about.
    """

    check: str
    level: Level
    message: str
    files: tuple[str, ...] = ()


def about(names: Sequence[str], check: str, level: Level, what: str) -> Finding:
    """Return a finding about some files."""
    return Finding(check=check, level=level, message=f"{some(names)}: {what}.", files=tuple(names))


def some(names: Sequence[str]) -> str:
    """Return names as the beginning of a sentence: the first ones, and how many there are."""
    if len(names) == 1:
        return names[0]
    rest = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} files ({', '.join(names[:NAMED])}{rest})"
