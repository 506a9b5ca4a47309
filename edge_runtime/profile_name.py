"""What a profile may be called: it becomes a file name, a part of messages and of events."""

from __future__ import annotations

import re

LONGEST = 64
# What is allowed, not what is forbidden: no path, no hidden file, no option of a command fits it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def checked_name(name: str) -> str:
    """Return the name if it may be one.

    Raises:
        ValueError: it may not.
    """
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise ValueError(
            f"must be of letters, digits, '.', '_' and '-', begin with a letter, a digit or '_', and have at most "
            f"{LONGEST} characters"
        )
    return name
