"""The INT8 graphs of a bundle: calibration method and groups in float, chosen on validation speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from distill.evaluation.intervals import no_interval
from distill.evaluation.metrics import mean_difference, unweighted_accuracy
from edge_runtime.bundles.manifest import Precision, graph_name
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import Pcm
from export.graphs.open_graphs import arithmetic_of, open_graph
from export.graphs.policy import choose, groups
from export.int8.calibrate import Calibration
from export.int8.quantise import FORMS, write_int8
from export.int8.sensitivity import Sensitivity, WindowScores, logit_error, measure_sensitivity
from export.loaded_run import LoadedRun
from export.options import METHODS, Int8Options, Method, Progress

CALIBRATION_WINDOWS = 128
CHOICE_WINDOWS = 64
"""Validation windows that choices are made on."""
MAX_FLOAT_SHARE = 0.5
"""Share of the groups that ``--keep-float auto`` may leave in float."""


@dataclass
class Int8:
    """A float graph that is quantised, with the windows that choices are made on.

    ``reference`` is ``[1, D]``, the default one; ``wanted`` are logits of another graph on the validation windows that
    errors are relative to, None for this graph's.
    """

    run: LoadedRun
    graph: Path
    reference: Any
    wanted: Floats | None = None
    sensitivity: list[Sensitivity] = field(default_factory=list)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The float graph, loaded."""
        return onnx.load(self.graph)

    @cached_property
    def calibration(self) -> Calibration:
        """Activations on training windows."""
        return Calibration(self.model, self.run.windows("train", CALIBRATION_WINDOWS), self.reference)

    @cached_property
    def validation(self) -> list[Pcm]:
        """Windows that choices are made on."""
        return self.run.windows("validation", CHOICE_WINDOWS)

    @cached_property
    def float_logits(self) -> Floats:
        """Logits ``[windows, classes]`` of the float graph."""
        return OnnxEngine(self.graph, self.reference, "fp32").score_windows(self.validation)

    def logits(self, path: Path, precision: Precision) -> Floats:
        """Return the logits ``[windows, classes]`` of an INT8 graph on the validation windows."""
        return open_graph(path, self.reference, precision).score_windows(self.validation)

    def evaluate(self, path: Path, precision: Precision) -> WindowScores:
        """Score an INT8 graph on the validation windows."""
        logits = self.logits(path, precision)
        wanted = self.float_logits if self.wanted is None else self.wanted
        return WindowScores(
            error=logit_error(logits, wanted), ua=unweighted_accuracy(self._truth, logits.argmax(axis=1))
        )

    def largest_loss(self, path: Path, precision: Precision) -> float:
        """Return the upper end of the loss of UA of an INT8 graph against the float one on the validation windows.

        Raises:
            WrongUseError: there are too few validation speakers for an interval.
        """
        decided, wanted = self.logits(path, precision).argmax(axis=1), self.float_logits.argmax(axis=1)
        speakers = [item.speaker for item in self._items]
        found = mean_difference(self._truth, [decided], [wanted], speakers).ua_interval
        if found is None:
            why = no_interval(len(set(speakers)))
            raise WrongUseError(f"--keep-float auto: the loss on validation speakers has {why}; give a number")
        return found.high

    @cached_property
    def _items(self) -> list[Any]:
        items = self.run.fold.validation
        return [items[i] for i in np.linspace(0, len(items) - 1, len(self.validation)).astype(int)]

    @cached_property
    def _truth(self) -> Any:
        return np.array([self.run.record.labels.index(item.emotion) for item in self._items])


def make_int8(
    int8: Int8, part: Path, options: Int8Options, progress: Progress, precisions: Sequence[Precision] = ()
) -> dict[str, Any]:
    """Write INT8 graphs into ``part``; return how each precision was quantised, for the bundle.

    Args:
        int8: the float graph and the speech to quantise it with.
        part: the bundle.
        options: of quantisation.
        progress: called with each step.
        precisions: those that the bundle will have; all if none are named. The groups that stay in float are chosen on
            the graph for CPUs, which is then written too.
    """
    chosen = bool(options.sensitivity or options.keep_float)
    forms: dict[Precision, str] = {
        precision: graph_name(precision)
        for precision in FORMS
        if not precisions or precision in precisions or (chosen and precision == "int8-cpu")
    }
    methods: dict[Precision, Method] = {}
    done: dict[str, Any] = {}
    for precision, name in forms.items():
        methods[precision], tried = _method(int8, part / name, precision, options, progress)
        done[precision] = {
            "measured_with": arithmetic_of(precision),
            "calibration": methods[precision],
            "windows": len(int8.calibration.windows),
            "logit_error_by_method": tried,
        }
    kept: Sequence[str] = ()
    if chosen:
        kept = _kept(int8, part, methods, options, progress)
    for precision, name in forms.items():
        progress(f"{precision} graph, calibrated on training windows ({methods[precision]})")
        done[precision] |= write_int8(
            int8.model, part / name, precision, int8.calibration.ranges(methods[precision]), kept
        )
        done[precision]["kept_in_float"] = list(kept)
    return done


def _method(
    int8: Int8, path: Path, precision: Precision, options: Int8Options, progress: Progress
) -> tuple[Method, dict[str, float]]:
    """Return the calibration method for one form, and the logit error of each that was tried."""
    if options.calibration != "auto":
        return options.calibration, {}
    tried: dict[Method, float] = {}
    for method in METHODS:
        progress(f"{precision}: trying calibration by {method} on validation windows")
        write_int8(int8.model, path, precision, int8.calibration.ranges(method))
        tried[method] = int8.evaluate(path, precision).error
    return min(tried, key=lambda method: tried[method]), {name: round(error, 5) for name, error in tried.items()}


def _kept(
    int8: Int8, part: Path, methods: dict[Precision, Method], options: Int8Options, progress: Progress
) -> Sequence[str]:
    """Measure the sensitivity of every group and return those that stay in float."""
    path = part / graph_name("int8-cpu")
    ranges = int8.calibration.ranges(methods["int8-cpu"])
    int8.sensitivity = measure_sensitivity(
        int8.model, ranges, "int8-cpu", int8.evaluate, tick=lambda group: progress(f"sensitivity: {group} in float")
    )
    order = [row.group for row in int8.sensitivity]
    if options.keep_float != "auto":
        return order[: options.keep_float]
    most = int(len(groups(choose(int8.model))) * MAX_FLOAT_SHARE)
    uppers = []
    for count in range(most + 1):
        write_int8(int8.model, path, "int8-cpu", ranges, order[:count])
        uppers.append(int8.largest_loss(path, "int8-cpu"))
        if uppers[-1] <= options.max_drop:
            break
    count = int(np.argmin(uppers))
    progress(f"{count} of {len(order)} groups stay in float: {', '.join(order[:count]) or 'none'}")
    return order[:count]
