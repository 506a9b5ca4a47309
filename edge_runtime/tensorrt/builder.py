"""Parse a graph with NVIDIA's parser and build an engine of it.

Two libraries share one interface: ``tensorrt`` (10.3 to 11.x; needs a GPU, its engines are for the device that builds
them) and ``tensorrt_rtx`` (builds ahead of time with no GPU, for desktop RTX cards: a check, never a Jetson engine).
Names that not every version has are looked up, and left out if absent.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.bundles.onnx_file import check_opset
from edge_runtime.engines.chunks import LEAD, REST
from edge_runtime.errors import EdgeemoError
from edge_runtime.tensorrt.layers import EngineLayer, described_layers, inspected_layers
from edge_runtime.tensorrt.library import Library, load_library, quiet_log
from edge_runtime.windows import SHORTEST, WindowPolicy

WORKSPACE_MB = 512
"""Scratch memory that a layer may take: an eighth of a 4 GB board, where CPU and GPU share the memory."""


@dataclass(frozen=True)
class Build:
    """Result of a build.

    Attributes:
        library: name and version.
        graph: file name of the graph.
        matrix_layers: layers that multiply matrices or convolve.
        int8_layers: the matrix layers that work on INT8 tensors.
        by_precision: matrix layers by the type of their inputs: ``int8``, ``fp16``, ``fp32``.
        sparse: whether the builder was allowed 2:4 sparse kernels.
        size: bytes of the engine.
        seconds: time that parsing and building took.
        plan: the serialised engine.
        timing: the builder's timing cache; empty where the library has none.
    """

    library: str
    graph: str
    layers: int
    matrix_layers: int
    int8_layers: int
    by_precision: dict[str, int]
    sparse: bool
    size: int
    seconds: float
    plan: bytes = field(repr=False)
    timing: bytes = field(repr=False)
    inspected: tuple[EngineLayer, ...] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """Return everything but the plan, the timing cache and the single layers."""
        content = asdict(self)
        for name in ("plan", "timing", "inspected"):
            del content[name]
        return content


def build(
    graph: Path,
    policy: WindowPolicy,
    library: Library,
    *,
    workspace_mb: int = WORKSPACE_MB,
    timing: bytes = b"",
    sparse: bool = False,
) -> Build:
    """Parse and build a graph, strongly typed; its profile ranges up to the window, and is tuned for the window.

    Args:
        graph: an ONNX file.
        policy: its window.
        library: which TensorRT.
        workspace_mb: scratch memory that a layer may take, in MB.
        timing: timing cache of an earlier build on the same device.
        sparse: weights have 2:4 sparsity; allow the kernels for it.

    Raises:
        EdgeemoError: the parser or the builder fails; their first message is in the text.
        MissingPartError: the library is not installed.
    """
    check_opset(graph)
    trt = load_library(library)
    began = time.monotonic()
    log = quiet_log(trt)
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        # Raised by the bindings for a null pointer.
        raise EdgeemoError(f"{library} {trt.__version__} does not start ({log.first_error()})") from error
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        problem = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise EdgeemoError(f"{graph}: TensorRT's parser rejects it ({problem.splitlines()[0]})")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    # TensorRT-RTX measures when the engine runs, not when it is built.
    cache = _timing_cache(config, timing) if library == "tensorrt" else None
    profile = builder.create_optimization_profile()
    shortest, longest = (LEAD + REST, LEAD + policy.chunk) if policy.chunk else (SHORTEST, policy.samples)
    profile.set_shape("pcm", (1, shortest), (1, longest), (1, longest))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgeemoError(f"{graph}: TensorRT cannot build it ({log.first_error()})")
    content = bytes(plan)
    layers = _inspect(trt, log, content) if library == "tensorrt" else []
    layers = layers or described_layers(log.described)
    matrix = [layer.precision for layer in layers if layer.matrix]
    return Build(
        library=f"{library} {trt.__version__}",
        graph=graph.name,
        layers=len(layers),
        matrix_layers=len(matrix),
        int8_layers=matrix.count("int8"),
        by_precision={name: matrix.count(name) for name in dict.fromkeys(sorted(matrix))},
        sparse=sparse,
        size=len(content),
        seconds=round(time.monotonic() - began, 3),
        plan=content,
        timing=bytes(config.get_timing_cache().serialize()) if cache is not None else b"",
        inspected=tuple(layers),
    )


def _flags(trt: Any) -> int:
    """Return the flags of a strongly typed network; from TensorRT 11 on there is no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _timing_cache(config: Any, content: bytes) -> Any:
    """Return a timing cache with earlier measurements; an empty one if the builder does not accept them."""
    for known in (content, b""):
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _inspect(trt: Any, log: Any, plan: bytes) -> list[EngineLayer]:
    """Return the layers from the engine's inspector, on the GPU; empty if the engine does not load."""
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        return []
    return inspected_layers(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
