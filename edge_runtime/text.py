"""Text that can be shown: names of files and devices may hold bytes that are not UTF-8, and control characters."""

from __future__ import annotations

import re


def valid_unicode(text: str) -> str:
    r"""Return a text with such bytes and characters escaped, so that it can be sent, printed and written as JSON.

    >>> valid_unicode("caf\udce9.wav")
    'caf\\udce9.wav'
    >>> valid_unicode("two\nlines.wav")
    'two\\nlines.wav'
    """
    text = text.encode(errors="backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
