"""`edgeemo build`: TensorRT engines of a bundle, on the device that runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click

from edge_runtime.backends import no_graph_for_tensorrt
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.console import console
from edge_runtime.errors import WrongUseError
from edge_runtime.tensorrt.build_engines import Made, build_engines
from edge_runtime.tensorrt.builder import WORKSPACE_MB
from edge_runtime.tensorrt.library import load_library, require_cuda_device
from edge_runtime.triton.repository import serve

_PRECISIONS = ("int8-trt", "fp16", "fp32")


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(_PRECISIONS),
    help="Which graph, more than once for several.  [default: the one that `listen` runs]",
)
@click.option(
    "--target",
    type=click.Choice(("device", "rtx")),
    default="device",
    show_default=True,
    help="This device, or desktop RTX cards ahead of time (no GPU needed; never for Jetson).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file, instead of the engine cache.",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Add the engine to this model repository of Triton Inference Server too, to serve it on this device.",
)
@click.option(
    "--workspace",
    default=WORKSPACE_MB,
    show_default=True,
    type=click.IntRange(1, 65_536),
    metavar="MB",
    help="Scratch memory of a layer, in MB.",
)
@click.option("--layers", is_flag=True, help="List every layer with its type.")
@click.option("--json", "as_json", is_flag=True, help="Write what was built as JSON to standard output.")
def build_command(
    bundle: Path,
    precisions: tuple[Precision, ...],
    target: Literal["device", "rtx"],
    out: Path | None,
    triton: Path | None,
    workspace: int,
    layers: bool,
    as_json: bool,
) -> None:
    """Build the TensorRT engine of BUNDLE into the user's engine cache, where `edgeemo listen` looks for it.

    An engine is the bundle's graph compiled for one GPU: it works on this device, with this TensorRT, only.

    \b
    Examples:
      edgeemo build BUNDLE
      edgeemo build BUNDLE --precision int8-trt --precision fp16 --layers
      edgeemo build BUNDLE --target rtx --out model.engine
      edgeemo build BUNDLE --triton models
    """
    if triton is not None and target == "rtx":
        raise WrongUseError("--triton: Triton runs engines of TensorRT, not of TensorRT for RTX (--target rtx)")
    loaded = load_bundle(bundle)
    chosen = precisions or loaded.engine_precisions[:1]
    if not chosen:
        raise WrongUseError(no_graph_for_tensorrt(loaded))
    device = None
    if target == "device":
        load_library("tensorrt")
        device = require_cuda_device()
    console.print(f"  building {', '.join(chosen)} for {device.name if device else 'desktop RTX cards'}")
    made = build_engines(loaded, chosen, device, workspace_mb=workspace, out=out)
    for each in made:
        _show(each, layers=layers)
        if triton is not None:
            served = serve(loaded, triton, each.precision, "tensorrt", each.built.plan)
            console.print(f"  {served.summary()}")
    if as_json:
        rows = [
            each.built.summary()
            | {"precision": each.precision, "path": str(each.path), "warning": each.warning}
            | {"parity": each.parity.model_dump() if each.parity else None}
            for each in made
        ]
        json.dump({"bundle": loaded.hash, "target": target, "engines": rows}, sys.stdout, indent=2)
        sys.stdout.write("\n")


def _show(made: Made, *, layers: bool) -> None:
    built = made.built
    if layers:
        for layer in built.inspected:
            console.print(f"    {layer.precision:5}  {'matrix' if layer.matrix else '      '}  {layer.name}")
    kinds = ", ".join(f"{count} {name}" for name, count in built.by_precision.items())
    console.print(
        f"  {built.library}, {made.precision}: {built.layers} layers; matrix layers: {kinds or 'not listed'}; "
        f"{built.size / 1e6:.1f} MB in {built.seconds:.1f} s"
    )
    if made.parity:
        console.print(
            f"  against its graph in ONNX Runtime, {made.parity.windows} windows: "
            f"largest logit difference {made.parity.largest_difference:.2g}, mean cosine {made.parity.mean_cosine:.5f}"
        )
    if made.warning:
        console.print(f"  warning: {made.warning}", style="yellow")
    console.print(f"  {made.path}")
