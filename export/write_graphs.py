"""The graphs of a bundle: float, FP16, and the two INT8 forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from distill.student import Student
from edge_runtime.bundles.manifest import GRAPHS, SCHEMA_VERSION, graph_name
from edge_runtime.sources.audio import SAMPLE_RATE
from export.graphs.float_graph import export_graph
from export.graphs.half import write_half
from export.int8.make_int8 import CALIBRATION_WINDOWS, Int8, make_int8
from export.int8.quantise import write_int8
from export.int8.smooth import smoothed
from export.loaded_run import LoadedRun
from export.options import ExportOptions, Progress
from export.prepare import Prepared


def write_graphs(
    run: LoadedRun, prepared: Prepared, part: Path, options: ExportOptions, progress: Progress
) -> tuple[Student, Int8 | None, dict[str, Any]]:
    """Write the float graph and, where wanted, those in FP16 and INT8.

    Return the student in the graphs, what INT8 was measured with, and how each precision was quantised.
    """
    path = part / graph_name("fp32")
    progress("FP32 graph")
    export_graph(prepared.student, run.policy, path)
    student, measured, done = prepared.student, None, {}
    if options.int8:
        student, measured, smoothing = _float_for_int8(run, student, part, progress)
        done = make_int8(measured, part, options.quantisation, progress, options.precisions)
        for precision in list(done):
            done[precision] |= smoothing | ({"aware": prepared.aware} if prepared.aware else {})
    if options.fp16:
        # From the float graph that the bundle holds, with scales migrated or not.
        progress("FP16 graph")
        write_half(path, part / graph_name("fp16"))
    for name in GRAPHS:
        if (part / name).is_file():
            _write_metadata(part / name, _metadata(run))
    return student, measured, done


def _float_for_int8(
    run: LoadedRun, student: Student, part: Path, progress: Progress
) -> tuple[Student, Int8, dict[str, Any]]:
    """Write the float graph that is better for INT8, as it is or with scales migrated, and return its student."""
    path = part / graph_name("fp32")
    reference = student.reference.numpy()
    int8 = Int8(run, path, reference)
    smoothing: dict[str, Any] = {"smoothed": False}
    windows = run.windows("train", CALIBRATION_WINDOWS)
    other = smoothed(student, windows)
    if other is None:
        return student, int8, smoothing
    progress("scale migration (SmoothQuant)")
    trial = part / "smoothed.onnx"
    export_graph(other, run.policy, trial)
    # Both are compared with the graph before.
    candidate = Int8(run, trial, reference, wanted=int8.float_logits)
    errors = [_error_of(each, part) for each in (int8, candidate)]
    smoothing |= {"logit_error": round(errors[0], 5), "logit_error_smoothed": round(errors[1], 5)}
    if errors[1] < errors[0]:
        smoothing["smoothed"] = True
        student = other
        trial.replace(path)
        int8 = Int8(run, path, reference, wanted=int8.float_logits)
        int8.calibration = candidate.calibration
    trial.unlink(missing_ok=True)
    return student, int8, smoothing


def _error_of(int8: Int8, part: Path) -> float:
    """Return the logit error of INT8 for CPUs with ranges by ``minmax``."""
    path = part / "trial.onnx"
    write_int8(int8.model, path, "int8-cpu", int8.calibration.ranges("minmax"))
    error = int8.evaluate(path, "int8-cpu").error
    path.unlink()
    return error


def _metadata(run: LoadedRun) -> dict[str, str]:
    """Return labels, rates and calibration for the ``metadata_props`` of a graph that is used without its bundle."""
    recipe = run.record.recipe
    return {
        "edgeemo.schema_version": SCHEMA_VERSION,
        "edgeemo.labels": json.dumps(run.record.labels),
        "edgeemo.sample_rate": str(SAMPLE_RATE),
        "edgeemo.window_seconds": str(recipe.window.seconds),
        "edgeemo.hop_seconds": str(recipe.window.hop_seconds),
        "edgeemo.temperature": f"{run.report.temperature:.6g}",
        "edgeemo.threshold": f"{run.report.threshold:.6g}",
        "edgeemo.recipe": recipe.name,
        "edgeemo.corpora": ", ".join(
            each.facts.name
            for each in (
                *(run.record.corpus.parts or (run.record.corpus,)),
                *run.record.auxiliary,
                *run.record.without_labels,
            )
        ),
    }


def _write_metadata(graph: Path, metadata: dict[str, str]) -> None:
    model = onnx.load(graph)
    there = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, there | metadata)
    onnx.save(model, graph)
