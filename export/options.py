"""How a run is exported. Imports nothing that takes time: the command reads it before torch is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from distill.corpora.argument import NamedPath
from edge_runtime.bundles.manifest import Precision

Progress = Callable[[str], None]
"""Receives a sentence before each step."""
MAX_DROP = 0.01
"""One point of unweighted accuracy."""
Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Changes:
    """What is to be done to the student.

    Attributes:
        prune: share of the multiply-accumulates that goes; 0 for none.
        sparsity: ``2:4`` or None.
        recover_epochs: epochs of recovery after pruning.
        qat_epochs: epochs under simulated INT8.
    """

    prune: float = 0.0
    sparsity: str | None = None
    recover_epochs: int = 0
    qat_epochs: int = 0

    @property
    def smaller(self) -> bool:
        """Whether weights go."""
        return bool(self.prune or self.sparsity)

    @property
    def any(self) -> bool:
        """Whether the student is another one afterwards."""
        return self.smaller or bool(self.qat_epochs)


@dataclass(frozen=True)
class Int8Options:
    """How INT8 is made.

    Attributes:
        calibration: a method, or ``auto`` for the one with the least logit error on validation windows.
        keep_float: how many of the most sensitive groups stay in float, or ``auto`` for as few as keep the loss of UA
            on validation speakers within ``max_drop`` at the upper end of its interval.
        sensitivity: measure what each group costs, even if nothing hangs on it.
        max_drop: of the gate.
    """

    calibration: Method | Literal["auto"] = "auto"
    keep_float: int | Literal["auto"] = 0
    sensitivity: bool = False
    max_drop: float = 0.01


@dataclass(frozen=True)
class ExportOptions:
    """How a run is exported.

    Attributes:
        int8: make the INT8 graphs too.
        fp16: make the FP16 graph too, for a TensorRT engine to compare with.
        precisions: the graphs that the bundle holds; all if none are named. All are measured.
        moved: where the run's corpora lie now, those that moved.
        changes: what is done to the student first.
        quantisation: how INT8 is made.
        max_drop: the largest loss of UA that the gate lets pass at the upper end of its interval.
        allow_drop: write the bundle whatever the gate says, and say so in it.
        folds: where the folds lie that tell the accuracy of a student that has learnt from everyone.
        jobs: how many folds are exported at a time.
    """

    int8: bool = False
    fp16: bool = False
    precisions: tuple[Precision, ...] = ()
    moved: tuple[NamedPath, ...] = ()
    changes: Changes = field(default_factory=Changes)
    quantisation: Int8Options = field(default_factory=Int8Options)
    max_drop: float = MAX_DROP
    allow_drop: bool = False
    folds: Path | None = None
    jobs: int = 1
