"""The setting ``channels``: which channels of a source are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from edge_runtime.errors import WrongUseError
from edge_runtime.strict_json import shown

Channels = Literal["auto", "mix"] | tuple[int, ...]
"""``auto``: those that carry speech (`edge_runtime/sources/channels.py`); ``mix``: the mean of all; or numbers from 0
on, whose mean is taken."""

_NAMED: dict[str, Channels] = {"auto": "auto", "mix": "mix", "left": (0,), "right": (1,)}
_FORMS = "must be auto, mix, left, right, or channel numbers from 0 on such as 0 or 0,2"
_LARGEST = 63


def parse_channels(value: object) -> Channels:
    """Return a choice: ``auto``, ``mix``, ``left`` (0), ``right`` (1), a number, or several as a list or as "0,2".

    Raises:
        ValueError: it is none of these; the message is the end of a sentence.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _NAMED:
            return _NAMED[text]
        if not re.fullmatch(r"[0-9]{1,3}(\s*,\s*[0-9]{1,3})*", text):
            raise ValueError(_FORMS)
        value = [int(each) for each in text.split(",")]
    given = list(value) if isinstance(value, Sequence) else [value]
    numbers = [each for each in given if type(each) is int and 0 <= each <= _LARGEST]
    if not given or len(numbers) < len(given):
        raise ValueError(_FORMS)
    if len(set(numbers)) < len(numbers):
        raise ValueError("must not name a channel twice")
    return tuple(sorted(numbers))


def channels_argument(value: object) -> Channels:
    """Return the choice of an argument ``channels`` of the Python API, in any form of `parse_channels`.

    Raises:
        WrongUseError: it is no choice.
    """
    try:
        return parse_channels(value)
    except ValueError as error:
        raise WrongUseError(f"channels = {shown(str(value))}: {error}") from None


def check_channels(name: str, choice: Channels, channels: int) -> None:
    """Check a choice against the number of channels of a source.

    Raises:
        WrongUseError: it names a channel that the source does not have.
    """
    missing = [number for number in choice if number >= channels] if isinstance(choice, tuple) else []
    if missing:
        there = "1 channel, number 0" if channels == 1 else f"{channels} channels, numbers 0 to {channels - 1}"
        raise WrongUseError(
            f"{name}: has {there}; channel {missing[0]} cannot be chosen, so correct channels (option --channels)"
        )
