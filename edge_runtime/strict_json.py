"""JSON from untrusted files: ambiguous content, and characters that control a terminal, are refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from pydantic import ValidationError

from edge_runtime.errors import EdgeemoError
from edge_runtime.text import UNSAFE

DEEPEST = 32
_LONGEST_NUMBER = 40


def parse_json(content: bytes, where: str) -> Any:
    """Parse JSON in UTF-8.

    Raises:
        EdgeemoError: it is not JSON, has a duplicate key, NaN, infinity or a huge number, is nested too deeply, or has
            control characters in a text.
    """
    try:
        parsed = json.loads(
            content.decode("utf-8"),
            parse_constant=_not_a_number,
            parse_float=_finite,
            parse_int=_short,
            object_pairs_hook=_unique,
        )
    except RecursionError as error:
        raise EdgeemoError(f"{where}: is nested too deeply") from error
    except ValueError as error:
        raise EdgeemoError(f"{where}: is not valid JSON ({error})") from error
    _check(parsed, where)
    return parsed


def parse_versioned(content: bytes, where: str, schema_version: str, remedy: str) -> Any:
    """Parse JSON whose ``schema_version`` has the same major version; any minor one is accepted.

    ``remedy`` is for damage and for an older major version; one for a newer version is to install a newer edgeemo.

    Raises:
        EdgeemoError: as `parse_json`, or another major version.
    """
    try:
        parsed = parse_json(content, where)
    except EdgeemoError as error:
        raise EdgeemoError(f"{error.message}; {remedy}") from error
    version = str(parsed.get("schema_version", "")) if isinstance(parsed, dict) else ""
    major, found = schema_version.partition(".")[0], version.partition(".")[0]
    if found != major:
        newer = re.fullmatch("[0-9]{1,9}", found) is not None and int(found) > int(major)
        raise EdgeemoError(
            f"{where}: has schema version '{shown(version, 20)}', and this edgeemo reads {major}.x; "
            + ("install a newer edgeemo" if newer else remedy)
        )
    return parsed


def first_problem(error: ValidationError, where: str, remedy: str) -> EdgeemoError:
    """Return the first of pydantic's errors on untrusted JSON as one sentence that ends with a remedy."""
    problem = error.errors(include_input=False, include_url=False)[0]
    place = shown(".".join(str(part) for part in problem["loc"]))
    return EdgeemoError(f"{where}: '{place}': {problem['msg'].removeprefix('Value error, ')}; {remedy}")


def shown(text: object, longest: int = 80) -> str:
    """Return an untrusted text for a message: shortened, on one line, with control characters escaped."""
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
    if UNSAFE.search(text):
        raise EdgeemoError(f"{where}: '{shown('.'.join(path))}': has control characters in its text")


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    number = float(digits) if len(digits) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{shown(digits, 20)} is too large or too long for a number")
    return number


def _short(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER // 2:
        raise ValueError(f"{shown(digits, 20)} is too large for a number")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        # Readers differ in which of the two values they use.
        raise ValueError("an object names a key twice")
    return content
