"""Plots as SVG text that can stand inside a page."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG, without the frame's upper and right lines, and close it."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    # A fixed salt and no date: the same figures give the same file.
    with plt.rc_context({"svg.hashsalt": "edgeemo", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
