"""Text that is valid Unicode: names of files and devices may hold bytes that are not UTF-8."""

from __future__ import annotations


def valid_unicode(text: str) -> str:
    r"""Return a text with such bytes escaped, so that it can be sent, printed and written as JSON.

    >>> valid_unicode("caf\udce9.wav")
    'caf\\udce9.wav'
    """
    return text.encode(errors="backslashreplace").decode()
