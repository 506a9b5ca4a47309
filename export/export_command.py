"""`edgeemo export`: a run to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Table

from distill.corpora.argument import CORPUS, NamedPath
from distill.evaluation.intervals import ends
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import MANIFEST, Precision
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.parameters import Number, given
from edge_runtime.tensorrt.library import cuda_device, installed

if TYPE_CHECKING:
    from distill.pruning.prune import Plan
    from edge_runtime.bundles.bundle import Bundle
    from edge_runtime.bundles.manifest import AccuracyEntry
    from export.accuracy_gate.dimensions import DimensionReport
    from export.accuracy_gate.gate import Drop
    from export.export_run import Outcome


_INT8_OPTIONS = ("qat_epochs", "sensitivity", "keep_float", "calibration")


class _Count(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number from 0 up, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        if not str(value).isdigit():
            self.fail(f"'{value}' is neither a number nor auto", param, ctx)
        return int(value)


class _Precisions(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Precisions, separated by commas."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Precision, ...]:
        known = {str(each): each for each in get_args(Precision)}
        names = str(value).split(",")
        if wrong := [name for name in names if name not in known]:
            self.fail(f"'{wrong[0]}' is not one of {', '.join(known)}", param, ctx)
        return tuple(known[name] for name in names)


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Bundle directory; an older bundle is replaced."
)
@click.option("--int8", is_flag=True, help="Make the INT8 graphs for CPUs and for TensorRT too.")
@click.option("--fp16", is_flag=True, help="Make an FP16 graph too, for a TensorRT engine to compare with.")
@click.option(
    "--precisions", type=_Precisions(), help="Graphs in the bundle, as fp32,int8-cpu; all are measured.  [default: all]"
)
@click.option(
    "--corpus",
    "moved",
    multiple=True,
    type=CORPUS,
    help="New place of the run's corpus, if it moved; by name, if several.",
)
@click.option(
    "--folds",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folds, which give the accuracy of a student that was trained on all speakers.",
)
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="Folds at a time, with --folds."
)
@click.option(
    "--prune",
    default=0.0,
    show_default=True,
    type=Number(0, 1, max_open=True),
    metavar="SHARE",
    help="Remove this share of the multiply-accumulates, for a faster bundle; as 0.5.",
)
@click.option(
    "--sparsity", type=click.Choice(["2:4"]), help="Two zeros in every four weights, for sparse tensor cores."
)
@click.option(
    "--recover-epochs",
    type=click.IntRange(min=0),
    metavar="N",
    help="Epochs of distillation from the unpruned student after pruning.  [default: 4]",
)
@click.option("--dry-run", is_flag=True, help="Only show the plan of --prune; write nothing.")
@click.option(
    "--calibration",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "minmax", "percentile"]),
    help="Ranges of INT8 activations on training windows; auto: the better on validation.",
)
@click.option(
    "--sensitivity", is_flag=True, help="Measure the cost of INT8 in each part: table and plot in the report."
)
@click.option(
    "--keep-float",
    default=0,
    show_default=True,
    type=_Count(),
    help="Leave the N most sensitive parts in float; auto: the fewest that pass the accuracy gate on validation.",
)
@click.option(
    "--qat-epochs",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Epochs of distillation under simulated INT8 (QAT).",
)
@click.option(
    "--max-drop",
    default=0.01,
    show_default=True,
    type=Number(0, 1),
    metavar="SHARE",
    help="Largest loss of UA (unweighted accuracy, the mean recall of the emotions) at the upper end of its 95 % "
    "interval; 0.01 is one point.",
)
@click.option(
    "--max-ccc-drop",
    default=0.02,
    show_default=True,
    type=Number(0, 1),
    metavar="CCC",
    help="Largest loss of concordance (CCC) of a predicted dimension at the upper end of its 95 % interval.",
)
@click.option(
    "--allow-drop", is_flag=True, help="Write the bundle even if a graph may lose more; the bundle records it."
)
@click.option(
    "--allow-chance",
    is_flag=True,
    help="Write the bundle even if its accuracy is at chance level, as to try the chain; the bundle records it.",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Add the bundle's models to this model repository of Triton Inference Server; RUN may be a bundle then.",
)
@needs_extra("export")
def export_command(
    run: Path,
    out: Path | None,
    int8: bool,
    fp16: bool,
    precisions: tuple[Precision, ...] | None,
    moved: tuple[NamedPath, ...],
    folds: Path | None,
    jobs: int,
    prune: float,
    sparsity: str | None,
    recover_epochs: int | None,
    dry_run: bool,
    calibration: Any,
    sensitivity: bool,
    keep_float: Any,
    qat_epochs: int,
    max_drop: float,
    max_ccc_drop: float,
    allow_drop: bool,
    allow_chance: bool,
    triton: Path | None,
) -> None:
    """Turn the finished RUN into a bundle: ONNX graphs, manifest, model card, report.

    Every graph is compared with the one before it and measured on held-out speakers. If a graph is too far off, may
    lose more accuracy than --max-drop, or decides no better than by chance, the command ends with exit code 3 and
    writes no bundle; the figures are in OUT.report.json and OUT.report.md.

    \b
    Examples:
      edgeemo export run --int8 --out bundle
      edgeemo export run --int8 --prune 0.5 --out small-bundle
      edgeemo export run --int8 --out bundle --triton models
      edgeemo export bundle --triton models
    """
    if (run / MANIFEST).is_file():
        _serve_bundle(run, triton)
        return
    if out is None and not dry_run:
        raise WrongUseError("--out: give a directory for the bundle (or --dry-run to see the plan of --prune only)")
    if not int8 and not dry_run:
        _check_int8_options(precisions or ())
    if "fp16" in (precisions or ()) and not fp16:
        raise WrongUseError("--precisions fp16: this graph is not made; give --fp16 too")
    if jobs > 1 and folds is None:
        raise WrongUseError("--jobs: is for several folds; give --folds too")
    if out is not None and out.exists() and not (out / MANIFEST).is_file():
        raise WrongUseError(f"{out}: exists and is no bundle; give another --out")
    _check_run_directory(run)
    from edge_runtime.triton.repository import base_name
    from export.export_run import export_run, plan_run
    from export.options import Changes, ExportOptions, Int8Options

    smaller = bool(prune or sparsity)
    epochs = recover_epochs if recover_epochs is not None else 4 if smaller else 0
    if epochs and not smaller:
        raise WrongUseError("--recover-epochs: there is nothing to recover from; give --prune as well")
    options = ExportOptions(
        int8=int8,
        fp16=fp16,
        precisions=precisions or (),
        moved=moved,
        changes=Changes(prune, sparsity, epochs, qat_epochs),
        quantisation=Int8Options(calibration, keep_float, sensitivity, max_drop),
        max_drop=max_drop,
        max_ccc_drop=max_ccc_drop,
        allow_drop=allow_drop,
        allow_chance=allow_chance,
        folds=folds,
        jobs=jobs,
    )
    if dry_run:
        _show_plan(plan_run(run, options, progress=_print_progress))
        return
    assert out is not None
    if triton is not None:
        base_name(out)
    outcome = export_run(run, out, options, progress=_print_progress)
    _show(outcome)
    bundle = load_bundle(out)
    _build_here(bundle, triton)
    size = sum(entry.size for entry in bundle.manifest.files)
    console.print(f"{out}: {size / 1e6:.1f} MB; next: edgeemo listen {out}")


def _print_progress(text: str) -> None:
    console.print(f"  {text}")


def _check_run_directory(folder: Path) -> None:
    """Check that a directory is a finished run of one fold, before torch is loaded."""
    from distill.runs.cross_validation import CROSS_VALIDATION
    from distill.runs.run_directory import read_report, read_run

    folds = sorted(path.parent.name for path in folder.glob("fold-*/report.json"))
    if not (folder / "run.json").is_file() and ((folder / CROSS_VALIDATION).is_file() or folds):
        which = folds[0] if folds else "fold-0"
        raise WrongUseError(
            f"{folder}: holds the folds of a cross-validation, each with a student of its own; "
            f"export one of them: edgeemo export {folder / which}"
        )
    read_run(folder)
    read_report(folder)


def _serve_bundle(folder: Path, triton: Path | None) -> None:
    """Add a finished bundle to a model repository; options of an export are errors."""
    if triton is None:
        raise WrongUseError(
            f"{folder}: is a bundle already; to serve it with Triton, give a model repository (--triton)"
        )
    if others := [
        option for name, option in given(click.get_current_context()).items() if name not in ("run", "triton")
    ]:
        raise WrongUseError(f"{', '.join(others)}: is for the export of a run, and {folder} is a bundle already")
    bundle = load_bundle(folder)
    for precision in bundle.precisions:
        if refused := bundle.refused_by_gate(precision):
            console.print(f"  {refused}", style="yellow")
    _build_here(bundle, triton)


def _check_int8_options(precisions: tuple[Precision, ...]) -> None:
    found = [option for name, option in given(click.get_current_context()).items() if name in _INT8_OPTIONS]
    if any(each.startswith("int8") for each in precisions):
        found.append("--precisions")
    if found:
        raise WrongUseError(f"{found[0]}: is an option of INT8; give --int8 too")


def _build_here(bundle: Bundle, triton: Path | None) -> None:
    """Build engines if this device has a GPU and TensorRT; add all to a model repository if one is given."""
    from edge_runtime.tensorrt.build_engines import build_engines
    from edge_runtime.triton.repository import serve
    from export.triton.serve_graphs import serve_graphs

    for served in serve_graphs(bundle, triton) if triton else ():
        _print_progress(served.summary())
    device = cuda_device() if installed("tensorrt") else None
    if device is not None:
        try:
            for made in build_engines(bundle, bundle.engine_precisions, device):
                console.print(f"  {made.built.library}, {device.name}: {made.path} {made.warning}".rstrip())
                if triton:
                    _print_progress(serve(bundle, triton, made.precision, "tensorrt", made.built.plan).summary())
        except EdgeemoError as error:
            # The bundle is complete: engines are no part of it.
            console.print(
                f"  no engine for this device: {error.message}; try: edgeemo build {bundle.root}", style="yellow"
            )
    elif triton and bundle.engine_precisions:
        _print_progress(f"for TensorRT, on the server itself: edgeemo build {bundle.root} --triton {triton}")


def _show(outcome: Outcome) -> None:
    report = outcome.report
    if report.pruning:
        before = sum(report.pruning["plan"]["macs_before"].values())
        now = sum(report.macs.values())
        console.print(f"  multiply-accumulates of one window: {now / 1e6:.0f} of {before / 1e6:.0f} million")
    ladder = Table(
        "graph", "against", "on", "largest logit difference", "mean cosine", "same decision", title="parity ladder"
    )
    for rung in report.parity:
        ladder.add_row(
            rung.lower,
            rung.upper,
            rung.inputs,
            f"{rung.largest_difference:.2g}",
            f"{rung.mean_cosine:.5f}",
            f"{rung.agreement:.1%}",
        )
    console.print(ladder)
    _show_accuracy("held-out speakers", report.accuracy, report.gate.drops, report.gate.baseline)
    if report.referenced:
        title = f"after {report.gate.reference_utterances} utterances of the speaker"
        _show_accuracy(title, report.referenced, report.gate.reference_drops, report.gate.baseline)
    if report.dimensions is not None:
        _show_dimensions(report.dimensions)
    if report.gate.overridden:
        failed = ", ".join(report.gate.failed)
        console.print(f"  the accuracy gate failed for {failed}; the bundle was written and records it", style="yellow")
    if report.gate.at_chance:
        failed = ", ".join(report.gate.at_chance)
        console.print(f"  the accuracy of {failed} is at chance level; the bundle records it", style="yellow")
    for each in outcome.builds:
        console.print(
            f"  {each['library']} built {each['graph']}: "
            f"{each['int8_layers']} of {each['matrix_layers']} matrix layers in INT8, {each['size'] / 1e6:.1f} MB"
        )


def _show_accuracy(
    title: str, accuracies: Mapping[str, AccuracyEntry], drops: Mapping[Precision, Drop], baseline: str
) -> None:
    table = Table("graph", "UA", "95 % interval", f"loss of UA against {baseline}", title=title)
    for name, entry in accuracies.items():
        drop = next((drop for precision, drop in drops.items() if precision == name), None)
        loss = drop.show("+.3f") if drop else ""
        table.add_row(name, f"{entry.ua:.3f}", ends(entry.ua_low, entry.ua_high, entry.speakers), loss)
    console.print(table)


def _show_dimensions(found: DimensionReport) -> None:
    table = Table("graph", "dimension", "CCC", "95 % interval", title="predicted dimensions, held-out speakers")
    for graph, each in found.concordance.items():
        for name, one in each.items():
            table.add_row(graph, name, f"{one.ccc:.3f}", one.interval_text)
    console.print(table)
    if found.gate.overridden:
        failed = ", ".join(found.gate.failed)
        console.print(f"  the gate by CCC failed for {failed}; the bundle was written and records it", style="yellow")


def _show_plan(plan: Plan) -> None:
    table = Table("group", "before", "kept", "importance lost", title="plan")
    for group in plan.groups:
        table.add_row(group.name, str(group.before), str(len(group.kept)), f"{group.lost:.2%}")
    console.print(table)
    before, after = sum(plan.macs_before.values()), sum(plan.macs_after.values())
    console.print(
        f"  multiply-accumulates of one window: {after / 1e6:.0f} of {before / 1e6:.0f} million "
        f"({plan.removed:.1%} less){', 2:4 sparse' if plan.sparsity else ''}; nothing was written"
    )
    # Data goes to standard output.
    click.echo(plan.model_dump_json(indent=2))
