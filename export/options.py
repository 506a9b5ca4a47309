"""How a run is exported. Imports neither torch nor onnx, so that a command can check options quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from distill.corpora.argument import NamedPath
from edge_runtime.bundles.manifest import Precision

Engine = TypeVar("Engine")
Progress = Callable[[str], None]
"""Receives a sentence before each step."""
MAX_DROP = 0.01
"""One point of unweighted accuracy."""
MAX_CCC_DROP = 0.02
"""Of a dimension's concordance correlation coefficient."""
Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Changes:
    """Changes of the student before it becomes a graph.

    Attributes:
        prune: share of the multiply-accumulates that is removed; 0 for none.
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
        """Whether weights are removed."""
        return bool(self.prune or self.sparsity)

    @property
    def any(self) -> bool:
        """Whether the student is changed at all."""
        return self.smaller or bool(self.qat_epochs)


@dataclass(frozen=True)
class Int8Options:
    """How INT8 is made.

    Attributes:
        calibration: a method, or ``auto`` for the one with the least logit error on validation windows.
        keep_float: how many of the most sensitive groups stay in float, or ``auto`` for as few as keep the loss of UA
            on validation speakers within ``max_drop`` at the upper end of its interval.
        sensitivity: measure the cost of each group, for the report.
        max_drop: limit of the accuracy gate.
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
        precisions: the graphs that the bundle holds; all if none are named. The accuracy of
            these is measured, and that of the float graph.
        moved: new places of corpora of the run that moved.
        max_drop: the largest loss of UA that passes the accuracy gate, at the upper end of its interval.
        max_ccc_drop: the largest loss of CCC of a predicted dimension, in the same way.
        allow_drop: write the bundle even if a graph loses more, and record it.
        allow_chance: write the bundle even if the accuracy of a graph is at chance level, and record it.
        folds: directory of the folds that estimate the accuracy of a student that was trained on all speakers.
        jobs: how many folds are exported at a time.
    """

    int8: bool = False
    fp16: bool = False
    precisions: tuple[Precision, ...] = ()
    moved: tuple[NamedPath, ...] = ()
    changes: Changes = field(default_factory=Changes)
    quantisation: Int8Options = field(default_factory=Int8Options)
    max_drop: float = MAX_DROP
    max_ccc_drop: float = MAX_CCC_DROP
    allow_drop: bool = False
    allow_chance: bool = False
    folds: Path | None = None
    jobs: int = 1

    def evaluated(self, engines: Mapping[Precision, Engine]) -> dict[Precision, Engine]:
        """Return the engines whose accuracy is measured: a simulation of INT8 for TensorRT takes most of an export."""
        return {
            name: each for name, each in engines.items() if not self.precisions or name in (*self.precisions, "fp32")
        }
