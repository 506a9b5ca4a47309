"""What a look at the machine gives, and how a look that fails becomes a line of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge_runtime.errors import EdgeemoError

State = Literal["ok", "can be better", "missing", "optional", "unknown"]
"""``optional`` is a part that is not there and that listening does without; ``unknown`` is what could not be looked at:
it is said, never guessed."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        state: how it is.
        found: what is there.
        remedy: what to do about it, a command where there is one.
        exit_code: with which listen ends because of it; 0 where it does not.
    """

    what: str
    state: State
    found: str
    remedy: str = ""
    exit_code: int = 0


Check = Callable[[], Iterable[Finding]]
"""One look, which gives a line or several."""


def looked_at(what: str, check: Check) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails ends with a line that says so, whatever it failed of."""
    try:
        yield from check()
    except EdgeemoError as error:
        yield Finding(what, "unknown", f"could not be looked at ({error.message})")
    except Exception as error:  # Nothing that one line meets may cost the others.
        yield Finding(what, "unknown", f"could not be looked at ({type(error).__name__}: {error})")
