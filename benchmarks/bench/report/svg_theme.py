"""Colours of the plots, and plots that fit light and dark pages: ink becomes the text colour of the page."""

from __future__ import annotations

import re

COLOURS = ("#2563eb", "#059669", "#d97706", "#7c3aed")
INK = "#1f2937"
"""Ink of the plots that takes the page's colour, as matplotlib's black does."""
_INKS = re.compile(rf"(?P<what>stroke|fill): (?:#000000|{INK})\b")
_PAPER = re.compile(r"(?P<path><path [^>]*?)fill: #ffffff")


def on_any_paper(svg: str) -> str:
    """Return an SVG of matplotlib's without paper of its own, its black and `INK` drawn in ``currentColor``.

    Text without a fill needs ``fill: currentColor`` from the page's style.

    >>> on_any_paper('<path d="M 0 0" style="fill: #ffffff"/><path d="M 1 1" style="stroke: #000000"/>')
    '<path d="M 0 0" style="fill: none"/><path d="M 1 1" style="stroke: currentColor"/>'
    """
    return _INKS.sub(r"\g<what>: currentColor", _PAPER.sub(r"\g<path>fill: none", svg))
