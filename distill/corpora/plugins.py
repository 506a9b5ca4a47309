"""Readers of corpora that other installed packages add, as entry points of the group ``edgeemo.corpora``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

from distill.corpora.reader import Entry, Reader
from distill.corpus import CorpusFacts
from distill.plugins import blamed_on, described, find_plugin, load_plugin, plugin_names
from edge_runtime.errors import EdgeemoError

GROUP = "edgeemo.corpora"
"""An entry point of it is a `Reader`, and has its name."""


def plugin_reader_names() -> list[str]:
    """Return the names of the readers that are installed, sorted; none is loaded."""
    return plugin_names(GROUP)


def plugin_readers(taken: Collection[str]) -> Iterator[Reader]:
    """Load the readers that are installed, one after the other, by name.

    Args:
        taken: names that none of them may have.

    Raises:
        EdgeemoError: one of them cannot be loaded, is no reader, or has a name that is taken.
    """
    for name in plugin_reader_names():
        if name in taken:
            who = described(find_plugin(GROUP, name))
            raise EdgeemoError(f"{who} has the name of a reader of edgeemo's own; rename or uninstall it")
        yield plugin_reader(name)


def plugin_reader(name: str) -> Reader:
    """Load a reader that is installed; whatever it raises, now or later, becomes one sentence that names it.

    Raises:
        EdgeemoError: it cannot be loaded, or is no reader of that name.
    """
    entry = find_plugin(GROUP, name)
    reader = load_plugin(entry)
    if not isinstance(reader, Reader) or reader.name != name:
        found = f"the reader '{reader.name}'" if isinstance(reader, Reader) else f"a {type(reader).__name__}"
        raise EdgeemoError(
            f"{described(entry)} should be a distill.corpora.reader.Reader whose facts have the name '{name}', and is "
            f"{found}; repair or uninstall it"
        )
    return _guarded(reader, entry)


def _guarded(reader: Reader, entry: EntryPoint) -> Reader:
    def recognises(root: Path) -> bool:
        with blamed_on(entry, f"failed on {root}"):
            return bool(reader.recognises(root))

    def entries(root: Path) -> Iterator[Entry]:
        with blamed_on(entry, f"failed on {root}"):
            for each in reader.entries(root):
                if not isinstance(each, Entry):
                    raise TypeError(f"its entries should be of distill.corpora.reader.Entry, not {type(each).__name__}")
                yield each

    def facts_of(root: Path) -> CorpusFacts:
        with blamed_on(entry, f"failed on {root}"):
            return reader.facts if reader.facts_of is None else reader.facts_of(root)

    return dataclasses.replace(reader, recognises=recognises, entries=entries, facts_of=facts_of)
