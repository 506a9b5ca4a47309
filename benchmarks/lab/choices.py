"""How many choices were made with test figures of a published results file visible: the statements in ``choices.toml``.

What is not there is "not stated", also for grids of users.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from distill.recipe import choices_stated

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

CHOICES = Path(__file__).with_suffix(".toml")


def choices_with_test_figures(name: str) -> str:
    """Return the number of choices and which they were, by the name of the results file."""
    return choices_stated(_stated().get(name))


@cache
def _stated() -> dict[str, Any]:
    return tomllib.loads(CHOICES.read_text(encoding="utf-8"))
