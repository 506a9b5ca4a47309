"""Text that can be shown: names of files and devices may hold bytes that are not UTF-8, and control characters."""

from __future__ import annotations

import re

UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")
"""Escape sequences control the terminal; a lone carriage return and marks of text direction hide text before them; lone
surrogates are not valid Unicode. Line ends and tabs are allowed."""


def harmless(text: str) -> str:
    r"""Return a text with the characters of `UNSAFE` escaped, so that it can be printed.

    >>> harmless("\x1b[2J.wav")
    '\\x1b[2J.wav'
    """
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def valid_unicode(text: str) -> str:
    r"""Return a text with such bytes and characters escaped, so that it can be sent, printed and written as JSON.

    >>> valid_unicode("caf\udce9.wav")
    'caf\\udce9.wav'
    >>> valid_unicode("two\nlines.wav")
    'two\\nlines.wav'
    """
    text = text.encode(errors="backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
