"""Read JSON that a stranger wrote: what two readers could understand differently, or a terminal obey, is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from edge_runtime.errors import EdgeemoError

DEEPEST = 32
"""Lists and objects within each other."""
_LONGEST_NUMBER = 40
# Escape sequences move the cursor, retitle the window, or worse; a lone carriage return and the marks that turn the
# direction of text hide what is before them. Line ends and tabs are fine; half a character (a surrogate) is not.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")


def parse_json(content: bytes, where: str) -> Any:
    """Return what some UTF-8 JSON says.

    Args:
        content: the file.
        where: its name, for messages.

    Raises:
        EdgeemoError: it is not JSON, names a key twice, holds a number that is none or is absurd, is too deep, or has
            text with control characters.
    """
    try:
        parsed = json.loads(
            content.decode("utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_short,
            object_pairs_hook=_once,
        )
    except RecursionError as error:
        raise EdgeemoError(f"{where}: is nested too deeply") from error
    except ValueError as error:
        raise EdgeemoError(f"{where}: is not valid JSON ({error})") from error
    _check(parsed, where)
    return parsed


def shown(text: object, longest: int = 80) -> str:
    """Return a text of a stranger's as a message may show it: short, on one line, nothing that a terminal obeys."""
    whole = str(text)
    short = whole if len(whole) <= longest else whole[: longest - 1] + "…"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in short)


def _check(parsed: Any, where: str) -> None:
    stack: list[tuple[Any, tuple[str, ...]]] = [(parsed, ())]
    while stack:
        value, path = stack.pop()
        if len(path) > DEEPEST:
            raise EdgeemoError(f"{where}: is nested too deeply ({shown('.'.join(path[:4]))}…)")
        if isinstance(value, str):
            _check_text(value, where, path)
        elif isinstance(value, list):
            stack += [(each, (*path, str(number))) for number, each in enumerate(value)]
        elif isinstance(value, dict):
            for key, each in value.items():
                _check_text(key, where, path)
                stack.append((each, (*path, key)))


def _check_text(text: str, where: str, path: tuple[str, ...]) -> None:
    if _UNSAFE.search(text):
        raise EdgeemoError(f"{where}: '{shown('.'.join(path))}': has control characters in its text")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits) if len(digits) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{shown(digits, 20)} is too large or too long for a number")
    return number


def _short(digits: str) -> int:
    # Python itself refuses some thousand digits, with another kind of error.
    if len(digits) > _LONGEST_NUMBER // 2:
        raise ValueError(f"{shown(digits, 20)} is too large for a number")
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        # Which of the two counts differs from reader to reader.
        raise ValueError("an object names a key twice")
    return content
