"""Multiply-accumulates of a student for one window: matrix products and convolutions, counted from its sizes."""

from __future__ import annotations

from torch import nn

from distill.encoders.units import Sizes
from distill.student import Student

HEAD = "branches and head"


def count_macs(student: Student, samples: int, sizes: Sizes | None = None) -> dict[str, int]:
    """Return the multiply-accumulates for one window by part.

    Means and deviations over time are not counted: sums, if a graph has them as products with the weights of frames.

    Args:
        student: the student.
        samples: of the window.
        sizes: widths of its encoder to count with; its own if not given.
    """
    encoder = set(student.encoder.modules())
    head = sum(
        module.in_features * module.out_features
        for module in student.modules()
        if isinstance(module, nn.Linear) and module not in encoder
    )
    return student.encoder.macs(samples, sizes) | {HEAD: head}


def total_macs(student: Student, samples: int, sizes: Sizes | None = None) -> int:
    """Return the multiply-accumulates for one window."""
    return sum(count_macs(student, samples, sizes).values())
