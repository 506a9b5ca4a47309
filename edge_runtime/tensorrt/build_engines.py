"""Build a bundle's graphs into engines: into the cache of this device, or into a file. Runs on the device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.parity import Parity
from edge_runtime.errors import EngineError, WrongUseError
from edge_runtime.files import replacing
from edge_runtime.tensorrt.builder import WORKSPACE_MB, Build, build
from edge_runtime.tensorrt.check import check_engine
from edge_runtime.tensorrt.engine_cache import engine_path, store_engine, timing_path
from edge_runtime.tensorrt.library import CudaDevice, Library, library_version
from edge_runtime.trusted_files import check_writable, read_trusted


class Made(NamedTuple):
    """An engine and its path; ``parity`` with its graph if it ran."""

    built: Build
    precision: Precision
    path: Path
    warning: str
    parity: Parity | None


def build_engines(
    bundle: Bundle,
    precisions: Sequence[Precision],
    device: CudaDevice | None,
    *,
    workspace_mb: int = WORKSPACE_MB,
    out: Path | None = None,
) -> list[Made]:
    """Build engines, for the GPU of this device or, if None, ahead of time for desktop RTX cards.

    ``workspace_mb`` is the scratch memory of a layer, ``out`` a file for the one engine instead of the cache.

    Raises:
        WrongUseError: for the CPU's INT8 graph, for several engines in one file, and for a missing FP16 graph.
        EngineError: the cache cannot be written to; raised before the build.
        EdgeemoError: TensorRT fails to parse or build a graph.
        GateError: the engine's results differ from those of its graph.
        MissingPartError: the library is not installed.
    """
    if "int8-cpu" in precisions:
        raise WrongUseError("int8-cpu is the form for ONNX Runtime, which TensorRT cannot read; use int8-trt")
    if out is not None and len(precisions) > 1:
        raise WrongUseError("--out takes one engine; give one --precision")
    if "fp16" in precisions and "fp16" not in bundle.precisions:
        raise WrongUseError(f"{bundle.root}: holds no fp16 graph; make one with: edgeemo export --fp16")
    library: Library = "tensorrt" if device else "tensorrt_rtx"
    version = library_version(library)
    policy = bundle.manifest.window
    made = []
    for precision in precisions:
        graph = bundle.graph(precision)
        path = out or engine_path(bundle.hash, version, device, policy, precision)
        check_writable(path.parent)
        timing = timing_path(version, device) if device and out is None else None
        built = build(
            graph,
            policy,
            library,
            workspace_mb=workspace_mb,
            timing=_earlier(timing),
            sparse=bundle.manifest.pruning.get("sparsity") == "2:4",
        )
        # Built ahead of time, it cannot run here.
        parity = check_engine(bundle, precision, built.plan) if device else None
        if out is None:
            store_engine(path, built.plan)
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(built.plan)
            path.chmod(0o600)
        if timing is not None and built.timing:
            store_engine(timing, built.timing)
        made.append(Made(built, precision, path, int8_warning(built, precision), parity))
    return made


def int8_warning(built: Build, precision: Precision) -> str:
    """Return a sentence on an INT8 engine of which half or more runs in float; "" for others."""
    if precision != "int8-trt" or built.int8_layers * 2 > built.matrix_layers:
        return ""
    if built.matrix_layers == 0:
        return f"{built.library} does not list the layers of this engine, so INT8 cannot be confirmed"
    if built.int8_layers == 0:
        return f"no INT8: none of the {built.matrix_layers} matrix layers runs in INT8"
    return f"INT8 in part only: {built.int8_layers} of {built.matrix_layers} matrix layers"


def _earlier(timing: Path | None) -> bytes:
    """Return the timing cache of earlier builds; empty if there is none that can be trusted."""
    if timing is None or not timing.exists():
        return b""
    try:
        return read_trusted(timing)
    except EngineError:
        return b""
