"""From a finished run to a bundle: pruning, graphs, parity, accuracy gate, TensorRT check, bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.evaluation.evaluate import Evaluation
from distill.pruning.plan import Plan
from distill.pruning.sparsity import TWO_OF_FOUR
from distill.scoring import student_score
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from distill.training.huggingface import only_errors
from edge_runtime.bundles.manifest import GRAPHS, AccuracyEntry, Precision, graph_name
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.parity import Parity
from edge_runtime.errors import EdgeemoError, GateError, WrongUseError
from edge_runtime.sources.audio import Pcm
from edge_runtime.tensorrt.builder import build
from edge_runtime.tensorrt.library import installed
from edge_runtime.windows import SHORTEST
from export.accuracy_gate.evaluate_graphs import REFERENCE_UTTERANCES, UNPRUNED, Judged, drop, entry, judge_graphs
from export.accuracy_gate.gate import Drop, Gate, judge, refusal
from export.accuracy_gate.parity import compare, edge_windows
from export.bundle.known_answers import write_known_answers
from export.bundle.manifest import essentials, manifest_of, write_voices
from export.bundle.report import ExportReport, model_card, remove_report, write_report
from export.bundle.write_bundle import file_entries, staged, write_essentials, write_manifest
from export.folds import judge_folds, refuse_unfounded
from export.graphs.open_graphs import judged_with, open_graphs
from export.int8.tensorrt_lint import lint
from export.loaded_run import LoadedRun, load_run
from export.options import Changes, ExportOptions
from export.prepare import Prepared, macs_of, prepare
from export.write_graphs import write_graphs

PARITY_WINDOWS = 64
REPORT = "report"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What `export_run` measured, for the command and for tables.

    Attributes:
        report: everything that was measured.
        builds: what TensorRT's check built.
        evaluations: what each graph decided on the test part; ``unpruned`` for the run's student where it was changed.
        referenced: the same relative to references of the speakers; empty for a student that takes none.
        student: the student that was exported.
    """

    report: ExportReport
    builds: list[dict[str, Any]]
    evaluations: dict[str, Evaluation]
    referenced: dict[str, Evaluation]
    student: Student


def plan_run(folder: Path, options: ExportOptions, say: Say = lambda text: None) -> Plan:
    """Return the plan that an export with these options would follow, and write nothing.

    Raises:
        WrongUseError: there is nothing to plan, or the target cannot be reached.
    """
    only_errors()
    if not options.changes.smaller:
        raise WrongUseError("--dry-run: shows the plan of --prune, --drop-blocks or --sparsity; give one of them")
    run = load_run(folder, options.moved)
    without_training = Changes(options.changes.prune, options.changes.drop_blocks, options.changes.sparsity)
    plan = prepare(run, without_training, folder, say).plan
    assert plan is not None
    return plan


def export_run(folder: Path, out: Path, options: ExportOptions, say: Say = lambda text: None) -> Outcome:
    """Make a bundle of a finished run.

    Args:
        folder: the run directory.
        out: the bundle directory; an older bundle there is replaced at the end.
        options: how.
        say: told what is being done.

    Raises:
        EdgeemoError: the run is not finished, or its corpus is gone or changed.
        GateError: a graph is too far from the one that it should equal, or loses too much accuracy; then
            ``OUT.report.json`` and ``OUT.report.md`` say by how much.
    """
    only_errors()
    run = load_run(folder, options.moved)
    refuse_unfounded(run, folder, options.folds)
    # What is beside the bundle; a training that was interrupted goes on from there.
    work = out.with_name(f".{out.name}.work")
    kept_report = out.with_name(f"{out.name}.{REPORT}")
    with staged(out) as part:
        remove_report(kept_report)  # of an earlier refusal, which would be read as this one's
        figures = judge_folds(run, options, work, say) if options.folds else None
        prepared = prepare(run, options.changes, work, say)
        outcome, rungs, logits = _measure(run, prepared, part, folder, options, say, figures)
        report = outcome.report
        if not report.gate.passed and not options.allow_drop:
            paths = write_report(report, kept_report)
            raise refusal(report.gate, str(paths[0]))
        write_report(report, part / REPORT)
        write_voices(outcome.student, part)
        for name in GRAPHS:
            if options.ship and GRAPHS[name] not in options.ship:
                (part / name).unlink(missing_ok=True)
        manifest = manifest_of(
            run,
            outcome.student,
            accuracy=_of_graphs(report.accuracy),
            languages={name: _of_graphs(each) for name, each in report.languages.items()},
            quantisation=report.quantisation,
            pruning=report.pruning,
            macs=report.macs,
            gate=report.gate,
            rungs=rungs,
            known=write_known_answers(
                part, outcome.student.reference.numpy(), run.policy.samples, logits, run.report.temperature
            ),
            files=file_entries(part),
        )
        (part / "README.md").write_text(model_card(manifest, report), encoding="utf-8")
        write_manifest(part, manifest.model_copy(update={"files": file_entries(part)}))
    shutil.rmtree(work, ignore_errors=True)
    return outcome


def _measure(
    run: LoadedRun,
    prepared: Prepared,
    part: Path,
    folder: Path,
    options: ExportOptions,
    say: Say,
    figures: Judged | None,
) -> tuple[Outcome, list[Parity], Floats]:
    """Write all graphs into ``part`` and measure them; their accuracy where there are no figures of folds.

    Returns:
        What was measured, the parity ladder, and the float graph's logits of validation windows.
    """
    changed = options.changes.any
    student, int8, quantisation = write_graphs(
        run, prepared, part, options.quantisation if options.int8 else None, fp16=options.fp16, say=say
    )
    for name in _for_tensorrt(part):
        lint(part / name)
    engines = open_graphs(part, student)
    if options.int8:
        say(f"INT8 for CPUs is judged with {judged_with('int8-cpu')}")
    say("parity ladder")
    rungs, logits = _ladder(run, student, engines)
    judged = figures or judge_graphs(run, student, part, engines, changed=changed, say=say)
    evaluations, referenced = dict(judged.evaluations), dict(judged.referenced)
    gate = _gate(evaluations, referenced, options)
    builds = _check_tensorrt(part, run, say, sparse=options.changes.sparsity == TWO_OF_FOUR)
    for built in builds:
        quantisation.setdefault(GRAPHS[built["graph"]], {})["tensorrt_check"] = built
    for precision in engines:
        write_essentials(part / graph_name(precision), essentials(run))
    accuracy: dict[str, AccuracyEntry] = {name: entry(found) for name, found in evaluations.items()}
    report = ExportReport(
        run=str(folder),
        accuracy=accuracy,
        languages=_by_language(evaluations),
        referenced={name: entry(found) for name, found in referenced.items()},
        gate=gate,
        parity=rungs,
        macs=macs_of(run, student),
        sizes={precision: (part / graph_name(precision)).stat().st_size for precision in engines},
        pruning=prepared.pruning,
        quantisation=quantisation,
        sensitivity=int8.sensitivity if int8 else [],
    )
    return Outcome(report, builds, evaluations, referenced, student), rungs, logits


def _of_graphs(accuracy: dict[str, AccuracyEntry]) -> dict[str, AccuracyEntry]:
    """Return the accuracy of what may be in a bundle: not that of the student before it was pruned."""
    return {name: value for name, value in accuracy.items() if name in GRAPHS.values()}


def _by_language(evaluations: dict[str, Evaluation]) -> dict[str, dict[str, AccuracyEntry]]:
    """Return the accuracy by language and then by graph; empty where there is one language."""
    found: dict[str, dict[str, AccuracyEntry]] = {}
    for graph, evaluation in evaluations.items():
        for language, part in evaluation.by_language().items():
            found.setdefault(language, {})[graph] = entry(part)
    return found


def _gate(evaluations: dict[str, Evaluation], referenced: dict[str, Evaluation], options: ExportOptions) -> Gate:
    baseline = UNPRUNED if UNPRUNED in evaluations else "fp32"
    accuracy = evaluations[baseline].accuracy
    return judge(
        _drops(evaluations, baseline, options.ship),
        reference_drops=_drops(referenced, baseline, options.ship),
        reference_utterances=REFERENCE_UTTERANCES if referenced else 0,
        baseline=baseline,
        baseline_ua=accuracy.ua,
        max_drop=options.max_drop,
        allow=options.allow_drop,
        speakers=accuracy.speakers,
        utterances=accuracy.utterances,
    )


def _drops(evaluations: dict[str, Evaluation], baseline: str, ship: tuple[Precision, ...]) -> dict[Precision, Drop]:
    """Return the losses of the graphs that the bundle is to hold."""
    return {
        precision: drop(evaluations[baseline], evaluations[precision])
        for precision in GRAPHS.values()
        if precision in evaluations and precision != baseline and (not ship or precision in ship)
    }


def _ladder(run: LoadedRun, student: Student, engines: dict[Precision, OnnxEngine]) -> tuple[list[Parity], Floats]:
    """Climb the parity ladder; return its rungs, and the float graph's logits of validation windows."""
    edges = edge_windows(run.policy.samples, max(SHORTEST, student.encoder.minimum_samples))
    speech = list(spread_windows(run.fold.validation, run.policy, PARITY_WINDOWS))
    score = student_score(student)
    wanted, wanted_edges = score(speech), np.concatenate([score([pcm]) for pcm in edges.values()])
    rungs = []
    upper = "pytorch"
    for precision, engine in engines.items():
        logits, at_edges = engine.score_windows(speech), _finite(engine, edges, precision)
        rungs.append(compare(precision, logits, upper, wanted))
        rungs.append(compare(precision, at_edges, upper, wanted_edges, "edge cases"))
        if precision == "fp32":
            upper, wanted, wanted_edges = "fp32", logits, at_edges
    return rungs, wanted


def _finite(engine: OnnxEngine, windows: dict[str, Pcm], precision: Precision) -> Floats:
    """Return the logits of edge cases.

    Raises:
        GateError: one of them is not finite.
    """

    def logits(name: str, pcm: Pcm) -> Floats:
        try:
            return engine.score(pcm).logits
        except EdgeemoError as error:
            raise GateError(
                f"the {precision} graph fails on {name} ({error.message}): the export is faulty, no bundle was written"
            ) from error

    return np.stack([logits(name, pcm) for name, pcm in windows.items()])


def _for_tensorrt(part: Path) -> list[str]:
    """Return the graphs that TensorRT is meant to take."""
    return [name for name, precision in GRAPHS.items() if precision != "int8-cpu" and (part / name).is_file()]


def _check_tensorrt(part: Path, run: LoadedRun, say: Say, *, sparse: bool) -> list[dict[str, Any]]:
    """Build the graphs that TensorRT is meant to take, ahead of time, where ``tensorrt_rtx`` is installed."""
    if not installed("tensorrt_rtx"):
        say('TensorRT check left out; to have it, run: pip install "edgeemo[rtx]"')
        return []
    say("TensorRT check: NVIDIA's parser and builder, no GPU")
    builds = [build(part / name, run.policy, "tensorrt_rtx", sparse=sparse) for name in _for_tensorrt(part)]
    for each in builds:
        if GRAPHS[each.graph] == "int8-trt" and each.int8_layers == 0:
            raise GateError(
                f"{each.library} built {each.graph} with no INT8 layer at all: it would run in float on the device, "
                "no bundle was written"
            )
    return [each.summary() for each in builds]
