"""The result of a check; an exception in a check becomes one too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge_runtime.errors import EdgeemoError

State = Literal["ok", "can be better", "missing", "optional", "unknown"]
"""``optional``: not installed, and listening does not need it. ``unknown``: could not be checked."""


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was checked, the facts, and a remedy, a command where there is one.

    ``exit_code`` is that of listen, where it would end because of this; else 0.
    """

    what: str
    state: State
    found: str
    remedy: str = ""
    exit_code: int = 0


def rated(what: str, ok: bool, found: str, remedy: str) -> Finding:
    """Return a finding that is ``ok``, or else ``can be better`` with a remedy."""
    return Finding(what, "ok", found) if ok else Finding(what, "can be better", found, remedy)


def checked(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; an exception becomes a finding, so that the other checks still run."""
    try:
        yield from check()
    except EdgeemoError as error:
        yield Finding(what, "unknown", f"could not be checked ({error.message})")
    except Exception as error:  # of any kind
        yield Finding(what, "unknown", f"could not be checked ({type(error).__name__}: {error})")
