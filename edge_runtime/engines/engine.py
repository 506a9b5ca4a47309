"""Run a bundle's graph: PCM in, logits and statistics out. The interface of engines, and the engine for CPUs.

The INT8 graph for CPUs gives the same decisions on every processor (`edge_runtime/engines/kernels.py`).
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.chunks import CHUNK_KEY, NEXT, PAST, Begun, Past, score_in_chunks
from edge_runtime.engines.kernels import exact_products, products_saturate
from edge_runtime.errors import EdgeemoError, EngineError, NotANumberError
from edge_runtime.machine import instruction_sets, processor
from edge_runtime.sources.audio import Pcm
from edge_runtime.strict_json import shown

SIMULATED: tuple[Precision, ...] = ("int8-trt", "fp16")
"""Graphs for TensorRT, which ONNX Runtime runs as a float simulation."""


NO_DIMENSIONS = np.zeros(0, np.float32)
DIMENSIONS_OUTPUT = "dimensions"
"""The graph's output with predicted dimensions, which not every graph has."""


_LONGEST = 1_000_000
"""The longest chunk, and the most that a graph in chunks passes on, in numbers."""


class Scores(NamedTuple):
    """Outputs for one window.

    Attributes:
        logits: ``[classes]``.
        statistics: ``[D]``, mean and deviation over time.
        dimensions: ``[K]`` predicted dimensions (`edge_runtime.dimensions`), which may lie beyond the ends of the
            scale; empty for a graph without.
    """

    logits: npt.NDArray[np.float32]
    statistics: npt.NDArray[np.float32]
    dimensions: npt.NDArray[np.float32] = NO_DIMENSIONS


class Outputs(NamedTuple):
    """Outputs for some windows: logits ``[windows, classes]``, and dimensions ``[windows, K]``, where K may be 0."""

    logits: npt.NDArray[np.floating]
    dimensions: npt.NDArray[np.floating]


class Engine(ABC):
    """Runs a bundle's graph.

    Attributes:
        precision: precision of the graph.
        backend: library, version and precision, as events carry them.
        depends_on: what the results depend on besides the bundle: library and version, processor or device.
    """

    precision: Precision
    backend: str
    depends_on: tuple[str, ...] = ()

    @abstractmethod
    def score(
        self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None, begun: Begun[Scores] | None = None
    ) -> Scores:
        """Score one window.

        Args:
            pcm: ``[samples]`` float32 at 16 kHz, -1..1, not padded.
            reference: ``[1, D]`` the mean that the logits are relative to; by default the training mean.
            begun: what this engine has of shorter windows that begin with the same sample and have the same reference;
                it is extended. Only a graph in chunks uses it.
        """

    def score_windows(self, windows: list[Pcm]) -> npt.NDArray[np.float32]:
        """Return the logits ``[len(windows), classes]`` of windows, with the training mean."""
        return np.stack([self.score(pcm).logits for pcm in windows])

    def outputs(self, windows: list[Pcm]) -> Outputs:
        """Return logits and dimensions of windows, with the training mean."""
        found = [self.score(pcm) for pcm in windows]
        return Outputs(np.stack([each.logits for each in found]), np.stack([each.dimensions for each in found]))

    def history(self) -> tuple[str, ...]:
        """Return a sentence for each thing that happened to the engine since it was opened."""
        return ()

    def close(self) -> None:  # noqa: B027  (not every engine holds something)
        """Free what the engine holds."""


def session_options(precision: Precision, threads: int = 1, *, simulated: bool = False) -> Any:
    """Return the options for ONNX Runtime (`onnxruntime.SessionOptions`).

    ``simulated`` computes INT8 in float, without INT8 kernels: slower, and identical on every processor.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread pool keeps a core busy between windows.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else a pattern of allocations is kept for each length of input, 6 kB each, and no window is faster for it.
    options.enable_mem_pattern = False
    # Otherwise bytes that look like ORT's own format skip our checks of ONNX files.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3
    if precision == "int8-cpu" and not simulated:
        exact_products(options)
    if simulated or precision in SIMULATED:
        # Unfused, a Q/DQ graph runs as a float simulation, identical on every processor.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


class OnnxEngine(Engine):
    """A graph in ONNX Runtime on the CPU; graphs for TensorRT run as a float simulation.

    Args:
        path: the graph.
        reference: ``[1, D]`` the training mean, used where `score` gets none.
        precision: precision of the graph.
        threads: threads within one operator; a small model is fastest with one.
        classes: required number of logits; by default the graph's.
        dimensions: required number of dimensions, 0 for a graph without them; by default the graph's.
        content: the graph, if already read; ``path`` is then its name in messages.
        simulated: compute INT8 in float, without INT8 kernels.

    Raises:
        EdgeemoError: ONNX Runtime cannot load the graph, or its inputs and outputs are not those of a bundle.
    """

    def __init__(
        self,
        path: Path,
        reference: npt.NDArray[np.float32],
        precision: Precision,
        *,
        threads: int = 1,
        classes: int | None = None,
        dimensions: int | None = None,
        content: bytes | None = None,
        simulated: bool = False,
    ) -> None:
        self.precision = precision
        self.simulated = simulated
        self.backend = f"onnxruntime {onnxruntime.__version__} {precision}{' simulated' if simulated else ''}"
        self.depends_on = (self.backend, platform.machine(), processor(), instruction_sets())
        if precision == "int8-cpu" and not simulated:
            self.depends_on += ("saturating" if products_saturate() else "exact",)
        self._reference = reference
        self._path = path
        options = session_options(precision, threads, simulated=simulated)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path) if content is None else content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class.
            raise EngineError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it ({_first_line(error)})"
            ) from error
        if content is not None:
            # ONNX Runtime keeps the bytes for sessions on other devices: unused memory.
            self._session._model_bytes = None
        inputs = self._session.get_inputs()
        given: dict[str, int | None] = {"pcm": None, "reference": reference.shape[1]}
        # What a graph in chunks passes on from one to the next, whose length is the graph's own.
        passed = {each.name: each.shape[-1] for each in inputs if each.name == PAST}
        _require_form(path, "input", inputs, given | passed)
        outputs = self._session.get_outputs()
        wanted: dict[str, int | None] = {"logits": classes, "statistics": reference.shape[1]}
        if passed:
            wanted[NEXT] = passed[PAST]
        if dimensions or (dimensions is None and any(each.name == DIMENSIONS_OUTPUT for each in outputs)):
            wanted[DIMENSIONS_OUTPUT] = dimensions
        _require_form(path, "output", outputs, wanted)
        self._names = list(wanted)
        self._classes, self._dimensions = classes, dimensions
        self.chunk = 0
        if passed:
            self._first_past = np.zeros((1, _length(path, passed[PAST])), np.float32)
            self.chunk = _length(path, self._session.get_modelmeta().custom_metadata_map.get(CHUNK_KEY))

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of all inputs and outputs by name; None for a dynamic size."""
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        return {each.name: tuple(size if isinstance(size, int) else None for size in each.shape) for each in values}

    @classmethod
    def of(
        cls, bundle: Bundle, precision: Precision | None = None, *, threads: int = 1, simulated: bool = False
    ) -> OnnxEngine:
        """Return an engine on a bundle's graph; by default INT8 for CPUs if present, else FP32.

        Raises:
            EdgeemoError: the bundle lacks the graph, or ONNX Runtime cannot load it.
        """
        if precision is None:
            precision = "int8-cpu" if "int8-cpu" in bundle.precisions else "fp32"
        engine = cls(
            bundle.graph(precision),
            bundle.reference(),
            precision,
            threads=threads,
            classes=len(bundle.manifest.labels),
            dimensions=len(bundle.dimensions),
            content=bundle.read_graph(precision),
            simulated=simulated,
        )
        chunk = bundle.manifest.window.chunk
        if engine.chunk != chunk:
            raise EdgeemoError(
                f"{bundle.graph(precision)}: processes chunks of {engine.chunk} samples, and bundle.json says {chunk}; "
                "export the bundle again"
            )
        return engine

    def score(
        self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None, begun: Begun[Scores] | None = None
    ) -> Scores:
        """Score one window, as `Engine.score`.

        Raises:
            EdgeemoError: the graph cannot be run, or gives NaN or another number of logits.
        """
        reference = self._reference if reference is None else reference
        if not self.chunk:
            return self._run({"pcm": pcm[np.newaxis], "reference": reference})[0]

        def step(piece: Pcm, past: Past | None) -> tuple[Scores, Past]:
            before = self._first_past if past is None else past
            scores, found = self._run({"pcm": piece[np.newaxis], "reference": reference, PAST: before})
            return scores, found[NEXT]

        return score_in_chunks(self, step, pcm, self.chunk, Begun() if begun is None else begun)

    def _run(self, feeds: dict[str, npt.NDArray[np.float32]]) -> tuple[Scores, dict[str, npt.NDArray[np.float32]]]:
        """Return the scores, and all outputs."""
        try:
            found = dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
        except Exception as error:  # as above
            raise EdgeemoError(f"{self._path}: ONNX Runtime cannot run it ({_first_line(error)})") from error
        logits, statistics = found["logits"], found["statistics"]
        if logits.shape != (1, self._classes or logits.size) or statistics.shape != self._reference.shape:
            raise EdgeemoError(
                f"{self._path}: gives logits {logits.shape} and statistics {statistics.shape}, "
                f"not (1, {self._classes or 'classes'}) and {self._reference.shape}; export the bundle again"
            )
        dimensions = found.get(DIMENSIONS_OUTPUT, NO_DIMENSIONS[np.newaxis])
        if dimensions.shape != (1, self._dimensions or dimensions.size):
            raise EdgeemoError(
                f"{self._path}: gives dimensions {dimensions.shape}, not (1, {self._dimensions}); "
                "export the bundle again"
            )
        # Softmax would turn it into an emotion.
        if not all(np.isfinite(each).all() for each in found.values()):
            raise NotANumberError(f"{self._path}: gives logits or statistics that are not numbers (NaN or infinity)")
        return Scores(logits[0], statistics[0], dimensions[0]), found


def _length(path: Path, found: Any) -> int:
    """Return the length that a graph in chunks states of itself."""
    try:
        length = int(found)
    except (TypeError, ValueError):
        length = 0
    if not 0 < length <= _LONGEST:
        raise EdgeemoError(f"{path}: does not state its '{PAST}' and '{CHUNK_KEY}'; export the bundle again")
    return length


def _require_form(path: Path, role: str, values: list[Any], wanted: dict[str, int | None]) -> None:
    """Check the names, types and sizes ``[1, size]`` of a graph's inputs or outputs; None stands for any size."""
    found = {value.name: value for value in values}
    if found.keys() != wanted.keys():
        raise EdgeemoError(
            f"{path}: has the {role}s {_names(found)}, not {_names(wanted)} as in a bundle; export the bundle again"
        )
    for name, size in wanted.items():
        kind, shape = found[name].type, found[name].shape
        # Dynamic sizes have a name or none; those of outputs are checked with the results.
        fits = len(shape) == 2 and (not isinstance(shape[0], int) or shape[0] == 1)
        fits = fits and (size is None or not isinstance(shape[1], int) or shape[1] == size)
        if name == "pcm":
            fits = fits and not isinstance(shape[1], int)
        if kind != "tensor(float)" or not fits:
            raise EdgeemoError(
                f"{path}: its {role} '{name}' is {shown(kind)} {shown(shape)}, "
                f"not tensor(float) [1, {size or 'any size'}]; export the bundle again"
            )


def _names(values: Iterable[str]) -> str:
    return ", ".join(f"'{shown(name, 40)}'" for name in sorted(values))


def _first_line(error: Exception) -> str:
    # The message may quote the graph.
    return shown(str(error).strip().splitlines()[0], 300) if str(error).strip() else type(error).__name__
