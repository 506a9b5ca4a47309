"""The graphs of a bundle that Triton serves with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.triton.repository import Served, serve
from export.graphs.cpu_graph import exact_in_any_session

SERVED: tuple[Precision, ...] = ("fp32", "int8-cpu")
"""The graphs that ONNX Runtime runs at its best; those in FP16 and in TensorRT's INT8 form are there for engines."""


def serve_graphs(bundle: Bundle, repository: Path) -> list[Served]:
    """Add the graphs of a bundle to a model repository.

    The INT8 graph is written with unsigned weights: Triton's backend cannot set the session entry for exact products.

    Raises:
        WrongUseError: a model of that name is not ours, or serves other clients; Triton cannot use the bundle's name.
        EdgeemoError: the bundle was changed while it was read.
    """
    graphs = {precision: bundle.read_graph(precision) for precision in SERVED if precision in bundle.precisions}
    if "int8-cpu" in graphs:
        graphs["int8-cpu"] = exact_in_any_session(graphs["int8-cpu"])
    return [serve(bundle, repository, precision, "onnxruntime", graph) for precision, graph in graphs.items()]
