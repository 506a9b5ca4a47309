"""Plug-ins: corpus readers and teachers of other installed packages, by entry points. Imports no torch.

Only installed packages are searched. Recipes and runs name plug-ins, never modules: data is not taken for code.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeemoError, WrongUseError


def plugin_names(group: str) -> list[str]:
    """Return the names of the plug-ins of a group, sorted; none is loaded."""
    return sorted({entry.name for entry in entry_points(group=group)})


def find_plugin(group: str, name: str) -> EntryPoint:
    """Return a plug-in, not loaded yet.

    Raises:
        WrongUseError: no package that is installed has one of this name.
        EdgeemoError: two packages have one of this name.
    """
    found = tuple(entry_points(group=group, name=name))
    if not found:
        others = ", ".join(plugin_names(group)) or "none"
        raise WrongUseError(
            f"no installed package has a plug-in '{name}' ({group}; there: {others}); install its package"
        )
    if len(found) > 1:
        both = " and ".join(sorted(map(_package, found)))
        raise EdgeemoError(f"the packages {both} both have a plug-in '{name}' ({group}); uninstall one of them")
    return found[0]


def described(entry: EntryPoint) -> str:
    """Return how messages call a plug-in."""
    return f"the plug-in '{entry.name}' of {_package(entry)}"


def load_plugin(entry: EntryPoint) -> Any:
    """Import a plug-in.

    Raises:
        EdgeemoError: it cannot be imported.
    """
    with blamed_on(entry, "cannot be loaded"):
        return entry.load()


@contextmanager
def blamed_on(entry: EntryPoint, what: str) -> Iterator[None]:
    """Turn whatever a plug-in raises into one sentence that names it; an `EdgeemoError` is such a sentence already."""
    try:
        yield
    except EdgeemoError:
        raise
    except Exception as error:
        raise EdgeemoError(f"{described(entry)} {what} ({_reason(error)}); repair or uninstall it") from error


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text}, in {Path(last.filename).name}, line {last.lineno}"
