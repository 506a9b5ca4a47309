"""Plots as SVG text that can stand inside a page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from export.int8.sensitivity import Sensitivity


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


def sensitivity_plot(rows: Sequence[Sensitivity]) -> str:
    """Return the table as a bar plot, as SVG text."""
    figure, axes = plt.subplots(figsize=(6.0, 0.8 + 0.24 * len(rows)))
    places = range(len(rows))
    axes.barh(places, [row.gain for row in rows], color="#2563eb")
    axes.set_yticks(places, [row.group for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0.0, color="#1f2937", lw=0.8)
    axes.set_xlabel("logit error that float takes away (share of the logits' deviation)", fontsize=8)
    return svg_of(figure)
