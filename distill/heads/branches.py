"""Branches: projections of the statistics, trained to match teachers' embeddings; one a teacher, or one for all."""

from __future__ import annotations

from torch import nn

SHARED = "shared"
"""Name of the one branch of a student whose teachers share it."""


def projection(size: int, hidden: int, out: int) -> nn.Sequential:
    """Return a GELU projection; linear at its end, since teachers' embeddings take both signs."""
    return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, out))


def shared_hidden(size: int, hidden: int, outs: list[int]) -> int:
    """Return the hidden units that give one shared projection the parameters of disjoint ones.

    The shared projection ends in ``S = sum(outs)`` units, so that the classifier after it is the same. Disjoint
    projections of ``k = len(outs)`` branches have ``k (size + 1) hidden + (hidden + 1) S`` parameters, a shared one of
    ``h`` hidden units ``(size + 1) h + (h + 1) S``: equal at ``h = hidden (k (size + 1) + S) / (size + 1 + S)``.
    Rounding it leaves a difference of at most half a hidden unit, ``(size + 1 + S) / 2`` parameters.

    Args:
        size: inputs of the projections.
        hidden: hidden units of each disjoint projection.
        outs: sizes of the disjoint branches.
    """
    total = sum(outs)
    return round(hidden * (len(outs) * (size + 1) + total) / (size + 1 + total))
