"""Parse a graph with NVIDIA's parser and build it; runs on the device, so it imports neither torch nor onnx.

Two libraries share one interface: ``tensorrt`` (needs a GPU; its engines are for the device that builds them) and
``tensorrt_rtx`` (builds ahead of time with no GPU, for desktop RTX cards: a check, never a Jetson engine).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.windows import SHORTEST, WindowPolicy

Library = Literal["tensorrt", "tensorrt_rtx"]
_EXTRAS: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
_MATRIX_KINDS = ("gemm", "correlation", "convolution", "conv", "MatrixMultiply", "CaskConvolution")


@dataclass(frozen=True)
class Build:
    """What came out of a build.

    Attributes:
        library: name and version.
        graph: file name of the graph.
        layers: layers of the built engine.
        matrix_layers: those of them that multiply matrices or convolve.
        int8_layers: the matrix layers that work on INT8 tensors.
        size: bytes of the engine.
        plan: the serialised engine.
    """

    library: str
    graph: str
    layers: int
    matrix_layers: int
    int8_layers: int
    size: int
    plan: bytes

    def summary(self) -> dict[str, Any]:
        """Return everything but the plan."""
        content = asdict(self)
        del content["plan"]
        return content


def available(library: Library) -> bool:
    """Return whether the library is installed."""
    return importlib.util.find_spec(library) is not None


def build(graph: Path, policy: WindowPolicy, library: Library) -> Build:
    """Parse and build a graph, strongly typed, with one profile at the real window.

    Args:
        graph: an ONNX file.
        policy: its window; the profile reaches from the shortest stretch to the window, and is tuned for the window.
        library: which TensorRT.

    Raises:
        EdgeemoError: the parser or the builder refuses the graph; their first message is in the text.
        MissingPartError: the library is not installed.
    """
    try:
        trt: Any = importlib.import_module(library)
    except ImportError as error:
        raise missing_extra(_EXTRAS[library], library) from error
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        problem = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise EdgeemoError(f"{graph}: TensorRT's parser refuses it ({problem.splitlines()[0]})")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    profile.set_shape("pcm", (1, SHORTEST), (1, policy.samples), (1, policy.samples))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgeemoError(f"{graph}: TensorRT cannot build it ({log.error or 'no reason given'})")
    content = bytes(plan)
    layers = engine_layers(log.described)
    matrix = [layer for layer in layers if layer.matrix]
    return Build(
        library=f"{library} {trt.__version__}",
        graph=graph.name,
        layers=len(layers),
        matrix_layers=len(matrix),
        int8_layers=sum(layer.int8 for layer in matrix),
        size=len(content),
        plan=content,
    )


class EngineLayer(NamedTuple):
    """One layer of a built engine."""

    name: str
    matrix: bool
    int8: bool


def engine_layers(described: str) -> list[EngineLayer]:
    """Read the layers of an engine from the builder's own description of it.

    The builder logs this description; reading it there needs no GPU, unlike the engine inspector.
    """
    layers = []
    for line in described.splitlines():
        found = re.match(r"Name: (.*), LayerType: (\w+), Inputs: (.*?)(?:, Outputs: |$)", line)
        if found:
            name, kind, inputs = found.groups()
            matrix = kind in _MATRIX_KINDS or "gemm" in name
            layers.append(EngineLayer(name, matrix, "Datatype: Int8" in inputs))
    return layers


def _log(trt: Any) -> Any:
    """Return a logger that keeps the first error and the description of the engine, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.error = ""
            self.described = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR and not self.error:
                self.error = message.splitlines()[0]
            if "LayerType:" in message:
                self.described += message + "\n"

    return Log()
