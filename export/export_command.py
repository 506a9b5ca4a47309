"""`edgeemo export`: a run to a bundle."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from edge_runtime.bundle import load_bundle
from edge_runtime.console import console
from edge_runtime.engine_cache import cuda_device, installed
from edge_runtime.extras import needs_extra


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Bundle directory; an older bundle is replaced."
)
@click.option("--int8", is_flag=True, help="Make the INT8 graphs for CPUs and for TensorRT too.")
@click.option("--fp16", is_flag=True, help="Make an FP16 graph too, for a TensorRT engine to compare with.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Where the run's corpus lies now, if it moved.")
@needs_extra("export")
def export_command(run: Path, out: Path, int8: bool, fp16: bool, corpus: Path | None) -> None:
    r"""Turn the finished RUN into a bundle: ONNX graphs, manifest, model card.

    Every graph is compared with the one before it and measured on held-out speakers. A graph that is too far off ends
    the command with exit code 3 and leaves no bundle.

    \b
    Example:
      edgeemo export run --int8 --out bundle
    """
    from distill.run_directory import read_report

    read_report(run)  # Refuse a wrong directory before the seconds that torch takes to load.
    from export.engine_build import build_engines, engine_precisions
    from export.export_run import export_run

    outcome = export_run(run, out, int8=int8, fp16=fp16, corpus=corpus, say=lambda text: console.print(f"  {text}"))
    ladder = Table(
        "graph", "against", "largest logit difference", "mean cosine", "same decision", title="parity ladder"
    )
    for rung in outcome.rungs:
        ladder.add_row(
            rung.lower, rung.upper, f"{rung.largest_difference:.2g}", f"{rung.mean_cosine:.5f}", f"{rung.agreement:.1%}"
        )
    console.print(ladder)
    table = Table("graph", "UA", "95 % interval", "loss of UA against FP32", title="held-out speakers")
    for precision, entry in outcome.accuracy.items():
        drop = outcome.drops.get(precision)
        loss = f"{drop[0]:+.3f} ({drop[1]:+.3f} to {drop[2]:+.3f})" if drop else ""
        table.add_row(precision, f"{entry.ua:.3f}", f"{entry.ua_low:.3f} - {entry.ua_high:.3f}", loss)
    console.print(table)
    for each in outcome.builds:
        console.print(
            f"  {each['library']} built {each['graph']}: "
            f"{each['int8_layers']} of {each['matrix_layers']} matrix layers in INT8, {each['size'] / 1e6:.1f} MB"
        )
    device = cuda_device() if installed("tensorrt") else None
    if device is not None:
        bundle = load_bundle(out)
        for made in build_engines(bundle, engine_precisions(bundle), device):
            console.print(f"  {made.built.library}, {device.name}: {made.path} {made.warning}".rstrip())
    console.print(f"{out}: {sum(outcome.sizes.values()) / 1e6:.1f} MB; next: edgeemo listen {out}")
