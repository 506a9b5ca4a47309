"""The graphs of a bundle: float, FP16, and the two INT8 forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.speech.spread_windows import spread_windows
from distill.student import Student
from edge_runtime.bundles.manifest import graph_name
from export.graphs.float_graph import export_graph
from export.graphs.half import write_half
from export.int8.make_int8 import CALIBRATION_WINDOWS, Int8, make_int8
from export.int8.quantise import write_int8
from export.int8.smooth import smoothed
from export.loaded_run import LoadedRun
from export.options import Int8Options
from export.prepare import Prepared

Say = Callable[[str], None]


def write_graphs(
    run: LoadedRun, prepared: Prepared, part: Path, int8: Int8Options | None, *, fp16: bool, say: Say
) -> tuple[Student, Int8 | None, dict[str, Any]]:
    """Write the float graph and, where wanted, those in FP16 and INT8.

    Args:
        run: the run.
        prepared: its student, ready to become a graph.
        part: the bundle on its way.
        int8: how the INT8 graphs are made; None for none.
        fp16: make the FP16 graph too.
        say: told what is being done.

    Returns:
        The student that the graphs hold, what INT8 was measured with, and what was done to each precision.
    """
    path = part / graph_name("fp32")
    say("FP32 graph")
    export_graph(prepared.student, run.policy, path)
    student, measured, done = prepared.student, None, {}
    if int8 is not None:
        student, measured, smoothing = _float_for_int8(run, student, part, int8, say)
        done = make_int8(measured, part, int8, say)
        for precision in list(done):
            done[precision] |= smoothing | ({"aware": prepared.aware} if prepared.aware else {})
    if fp16:
        # From the float graph that the bundle holds, with scales migrated or not.
        say("FP16 graph")
        write_half(path, part / graph_name("fp16"))
    return student, measured, done


def _float_for_int8(
    run: LoadedRun, student: Student, part: Path, options: Int8Options, say: Say
) -> tuple[Student, Int8, dict[str, Any]]:
    """Leave the float graph that is better for INT8: as it is, or with scales migrated; return its student."""
    path = part / graph_name("fp32")
    reference = student.reference.numpy()
    int8 = Int8(run, path, reference)
    smoothing: dict[str, Any] = {"smoothed": False}
    if options.smooth == "off":
        return student, int8, smoothing
    windows = list(spread_windows(run.fold.train, run.policy, CALIBRATION_WINDOWS))
    other = smoothed(student, windows)
    if other is None:
        return student, int8, smoothing
    say("scale migration (SmoothQuant)")
    trial = part / "smoothed.onnx"
    export_graph(other, run.policy, trial)
    # Both are to equal the graph as it was.
    candidate = Int8(run, trial, reference, wanted=int8.float_logits)
    errors = [_error_of(each, part) for each in (int8, candidate)]
    smoothing |= {"logit_error": round(errors[0], 5), "logit_error_smoothed": round(errors[1], 5)}
    if options.smooth == "on" or errors[1] < errors[0]:
        smoothing["smoothed"] = True
        student = other
        trial.replace(path)
        int8 = Int8(run, path, reference, wanted=int8.float_logits)
        int8.calibration = candidate.calibration
    trial.unlink(missing_ok=True)
    return student, int8, smoothing


def _error_of(int8: Int8, part: Path) -> float:
    """Return the logit error of INT8 for CPUs with plain ranges."""
    path = part / "trial.onnx"
    write_int8(int8.model, path, "int8-cpu", int8.calibration.ranges("minmax"))
    error = int8.judge(path, "int8-cpu").error
    path.unlink()
    return error
