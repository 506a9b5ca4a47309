"""Record of a structured pruning, with importances, for the bundle: enough to repeat it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from distill.encoders.units import Kind, Sizes


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GroupPlan(_Record):
    """One group of units.

    Attributes:
        name: as ``blocks.0.attention``.
        kind: ``heads``, ``feed_forward`` or ``channels``.
        index: number of the block or convolution.
        before: how many units there were.
        kept: numbers of those that remain, in their order.
        lost: share of the group's importance that was removed.
    """

    name: str
    kind: Kind
    index: int
    before: int
    kept: tuple[int, ...]
    lost: float


class Plan(_Record):
    """A pruned encoder.

    Attributes:
        share: of the multiply-accumulates, as requested.
        samples: of the window that is counted for.
        macs_before: multiply-accumulates of one window by part.
        macs_after: those of the pruned student.
        sizes: of the pruned encoder.
        groups: each group of units.
        windows: training windows that importance was measured on.
        seed: of windows and directions.
        sparsity: ``2:4`` where two of every four neighbouring weights are zero; None for dense weights.
    """

    share: float
    samples: int
    macs_before: dict[str, int]
    macs_after: dict[str, int]
    sizes: Sizes
    groups: tuple[GroupPlan, ...]
    windows: int
    seed: int
    sparsity: str | None = None

    @property
    def removed(self) -> float:
        """Share of the multiply-accumulates that was taken out."""
        return 1.0 - sum(self.macs_after.values()) / sum(self.macs_before.values())
