"""From a finished run to a bundle: pruning, graphs, parity, accuracy gate, TensorRT check, bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.evaluation.evaluate import Evaluation
from distill.pruning.macs import count_macs
from distill.pruning.prune import Plan
from distill.pruning.sparsity import TWO_OF_FOUR
from distill.student import Student
from distill.training.huggingface import only_errors
from edge_runtime.bundles.manifest import GRAPHS, graph_name
from edge_runtime.engines.engine import Outputs
from edge_runtime.errors import WrongUseError
from export.accuracy_gate.dimensions import (
    DimensionParity,
    DimensionReport,
    apply_dimension_gate,
    compare_dimensions,
    dimension_gate_error,
)
from export.accuracy_gate.evaluate_graphs import Evaluations, accuracy_of, evaluate_graphs
from export.accuracy_gate.gate import gate_error
from export.accuracy_gate.parity import Ladder, check_parity
from export.bundle.report import REPORT, ExportReport, remove_report, write_report
from export.bundle.write_bundle import staged, write_bundle
from export.folds import check_folds, evaluate_folds
from export.graphs.open_graphs import arithmetic_of, open_graphs
from export.int8.tensorrt_check import check_builds, check_form
from export.loaded_run import LoadedRun, load_run
from export.options import Changes, ExportOptions, Progress
from export.prepare import Prepared, prepare
from export.write_graphs import write_graphs


@dataclass(frozen=True)
class Outcome:
    """What `export_run` measured, for the command and for tables.

    Attributes:
        builds: what TensorRT's check built.
        evaluations: decisions of each graph on the test part; ``unpruned`` for the run's student where it was changed.
        referenced: the same after some utterances of the speaker; empty for a student without a speaker model.
    """

    report: ExportReport
    builds: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    referenced: dict[str, Evaluation]
    student: Student


def plan_run(folder: Path, options: ExportOptions, progress: Progress = lambda text: None) -> Plan:
    """Return the pruning plan of an export with these options; write nothing.

    Raises:
        WrongUseError: the options prune nothing, or the target cannot be reached.
    """
    only_errors()
    if not options.changes.smaller:
        raise WrongUseError("--dry-run: shows the plan of --prune or --sparsity; give one of them")
    run = load_run(folder, options.moved)
    without_training = Changes(options.changes.prune, options.changes.sparsity)
    plan = prepare(run, without_training, folder, progress).plan
    assert plan is not None
    return plan


def export_run(folder: Path, out: Path, options: ExportOptions, progress: Progress = lambda text: None) -> Outcome:
    """Make a bundle of a finished run; an older bundle at ``out`` is replaced at the end.

    Raises:
        EdgeemoError: the run is not finished, or its corpus is missing or changed.
        GateError: a graph is too far from the one that it should equal, loses too much accuracy, or decides by
            chance; the figures are in ``OUT.report.json`` and ``OUT.report.md``.
    """
    only_errors()
    run = load_run(folder, options.moved)
    check_folds(run, folder, options.folds)
    # Beside the bundle; an interrupted training continues from there.
    work = out.with_name(f".{out.name}.work")
    failed_report = out.with_name(f"{out.name}.{REPORT}")
    with staged(out) as part:
        remove_report(failed_report)  # of an earlier export
        of_folds = evaluate_folds(run, options, work, progress) if options.folds else None
        prepared = prepare(run, options.changes, work, progress)
        outcome, validation = _measure(run, prepared, part, folder, options, progress, of_folds)
        report = outcome.report
        predicted = None if report.dimensions is None else report.dimensions.gate
        if report.gate.refused or (predicted is not None and predicted.refused):
            paths = write_report(report, failed_report)
            if predicted is None or report.gate.refused:
                raise gate_error(report.gate, str(paths[0]))
            raise dimension_gate_error(predicted, str(paths[0]))
        write_bundle(part, run, outcome.student, report, validation, options.precisions)
    shutil.rmtree(work, ignore_errors=True)
    return outcome


def _measure(
    run: LoadedRun,
    prepared: Prepared,
    part: Path,
    folder: Path,
    options: ExportOptions,
    progress: Progress,
    of_folds: Evaluations | None,
) -> tuple[Outcome, Outputs]:
    """Write all graphs into ``part`` and measure them; their accuracy only if it is not that of folds.

    Also return the float graph's outputs for validation windows.
    """
    student, int8, quantisation = write_graphs(run, prepared, part, options, progress)
    check_form(part)
    engines = open_graphs(part, student)
    if options.int8:
        progress(f"INT8 for CPUs is measured with {arithmetic_of('int8-cpu')}")
    progress("parity ladder")
    ladder = check_parity(run, student, engines)
    measured = of_folds or evaluate_graphs(
        run, student, options.evaluated(engines), changed=options.changes.any, progress=progress
    )
    gate = measured.gate(
        options.precisions,
        max_drop=options.max_drop,
        allow_drop=options.allow_drop,
        allow_chance=options.allow_chance,
    )
    dimensions = _dimensions(student, ladder, measured, options) if student.config.dimensions else None
    builds = check_builds(part, run.policy, progress, sparse=options.changes.sparsity == TWO_OF_FOUR)
    for built in builds:
        quantisation.setdefault(GRAPHS[built["graph"]], {})["tensorrt_check"] = built
    report = ExportReport(
        run=str(folder),
        accuracy=accuracy_of(measured.evaluations),
        languages=measured.by_language(),
        referenced=accuracy_of(measured.referenced),
        gate=gate,
        parity=ladder.parity,
        dimensions=dimensions,
        macs=count_macs(student, run.policy.samples),
        sizes={precision: (part / graph_name(precision)).stat().st_size for precision in engines},
        pruning=prepared.pruning,
        quantisation=quantisation,
        sensitivity=int8.sensitivity if int8 else [],
    )
    return Outcome(report, builds, dict(measured.evaluations), dict(measured.referenced), student), ladder.speech[
        "fp32"
    ]


def _dimensions(student: Student, ladder: Ladder, measured: Evaluations, options: ExportOptions) -> DimensionReport:
    parity: list[DimensionParity] = []
    upper = "pytorch"
    for name, outputs in ladder.speech.items():
        if name != "pytorch":
            wanted = ladder.speech[upper].dimensions
            parity.append(compare_dimensions(name, outputs.dimensions, upper, wanted))
            upper = "fp32"
    gate = apply_dimension_gate(
        measured.evaluations,
        measured.baseline,
        measured.judged(options.precisions),
        max_drop=options.max_ccc_drop,
        allow=options.allow_drop,
    )
    concordance = {
        name: each.dimensions.concordance for name, each in measured.evaluations.items() if each.dimensions is not None
    }
    return DimensionReport(names=student.config.dimensions, concordance=concordance, gate=gate, parity=parity)
