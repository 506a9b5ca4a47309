"""How a run is exported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from distill.corpora.argument import NamedPath
from edge_runtime.bundles.manifest import Precision
from export.gate import MAX_DROP
from export.int8 import Int8Options
from export.prepare import Changes


@dataclass(frozen=True)
class ExportOptions:
    """How a run is exported.

    Attributes:
        int8: make the INT8 graphs too.
        fp16: make the FP16 graph too, for a TensorRT engine to compare with.
        ship: the graphs that the bundle holds when all are measured; all of them if not told.
        moved: where the run's corpora lie now, those that moved.
        changes: what is done to the student first.
        quantisation: how INT8 is made.
        max_drop: the largest loss of UA that the gate lets pass at the upper end of its interval.
        allow_drop: write the bundle whatever the gate says, and say so in it.
        folds: where the folds lie that give the accuracy of a student that is trained on all speakers.
        jobs: how many folds are exported at a time.
    """

    int8: bool = False
    fp16: bool = False
    ship: tuple[Precision, ...] = ()
    moved: tuple[NamedPath, ...] = ()
    changes: Changes = field(default_factory=Changes)
    quantisation: Int8Options = field(default_factory=Int8Options)
    max_drop: float = MAX_DROP
    allow_drop: bool = False
    folds: Path | None = None
    jobs: int = 1
