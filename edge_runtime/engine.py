"""Run a bundle's graph: PCM in, logits and statistics out. What every engine offers, and the one for CPUs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_runtime.audio import Pcm
from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.manifest import Precision


class Scores(NamedTuple):
    """What the graph gives for one stretch of audio.

    Attributes:
        logits: ``[classes]``.
        statistics: ``[D]`` mean and deviation over time of the encoder's output.
    """

    logits: npt.NDArray[np.float32]
    statistics: npt.NDArray[np.float32]


class Engine(ABC):
    """Something that runs a bundle's graph.

    Attributes:
        precision: precision of the graph.
        backend: library, version and precision, as events carry them.
    """

    precision: Precision
    backend: str

    @abstractmethod
    def score(self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None) -> Scores:
        """Score one stretch of audio.

        Args:
            pcm: ``[samples]`` float32 at 16 kHz, -1..1, not padded.
            reference: ``[1, D]`` the speaker's usual statistics; the bundle's default if not given.
        """

    def score_windows(self, windows: list[Pcm]) -> npt.NDArray[np.float32]:
        """Return the logits ``[len(windows), classes]`` of some windows, with the default reference."""
        return np.stack([self.score(pcm).logits for pcm in windows])

    def news(self) -> list[str]:
        """Return what happened to the engine since it was last asked, a sentence each."""
        return []

    def close(self) -> None:  # noqa: B027  (not every engine holds something)
        """Free what the engine holds."""


class OnnxEngine(Engine):
    """A graph in ONNX Runtime on the CPU; TensorRT's forms run as a float simulation.

    Args:
        path: the graph.
        reference: ``[1, D]`` used where `score` is given none.
        precision: precision of the graph.
        threads: threads within one operator; a small model is fastest with one.

    Raises:
        EdgeemoError: ONNX Runtime refuses the graph.
    """

    def __init__(
        self,
        path: Path,
        reference: npt.NDArray[np.float32],
        precision: Precision,
        *,
        threads: int = 1,
    ) -> None:
        self.precision = precision
        self.backend = f"onnxruntime {onnxruntime.__version__} {precision}"
        self._reference = reference
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool would keep a core busy between two windows.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if precision in ("int8-trt", "fp16"):
            # Not fused, a Q/DQ graph runs as a float simulation of itself, the same on every processor.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public base class.
            raise EdgeemoError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it ({_first_line(error)})"
            ) from error

    @classmethod
    def of(cls, bundle: Bundle, precision: Precision | None = None, *, threads: int = 1) -> OnnxEngine:
        """Return an engine on a bundle's graph; the INT8 one for CPUs if not told, else FP32 where there is none.

        Raises:
            EdgeemoError: the bundle lacks the graph, or ONNX Runtime refuses it.
        """
        if precision is None:
            precision = "int8-cpu" if "int8-cpu" in bundle.precisions else "fp32"
        return cls(bundle.graph(precision), bundle.reference(), precision, threads=threads)

    def score(self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None) -> Scores:
        """Score one stretch of audio.

        Args:
            pcm: ``[samples]`` float32 at 16 kHz, -1..1, not padded.
            reference: ``[1, D]`` the speaker's usual statistics; the bundle's default if not given.
        """
        feeds = {"pcm": pcm[np.newaxis], "reference": self._reference if reference is None else reference}
        logits, statistics = self._session.run(["logits", "statistics"], feeds)
        return Scores(logits[0], statistics[0])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
