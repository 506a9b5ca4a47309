"""An engine that caches the statistics of each window, to measure one student with many references.

A graph's statistics do not depend on the reference. The part after them is extracted from the same graph, so that
another reference costs only the head, not the encoder; `tests/benchmarks/test_speakers.py` compares both ways.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx.utils import Extractor

from edge_runtime.engines.engine import OnnxEngine, Scores, session_options
from edge_runtime.sources.audio import Pcm


class CachingEngine:
    """Scores windows as `OnnxEngine.score` does, and caches the statistics ``[D]`` of every window."""

    def __init__(self, engine: OnnxEngine, path: Path, default: npt.NDArray[np.float32]) -> None:
        self._engine = engine
        self._default = np.asarray(default, np.float32)
        head = Extractor(onnx.load(path)).extract_model(["statistics", "reference"], ["logits"])
        options = session_options(engine.precision, simulated=engine.simulated)
        self._head = onnxruntime.InferenceSession(head.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._cached: dict[bytes, npt.NDArray[np.float32]] = {}

    def score(self, pcm: Pcm, reference: npt.NDArray[np.float32] | None = None) -> Scores:
        """Score one window ``[S]`` relative to a reference ``[1, D]``; to the default one if not given."""
        key = hashlib.blake2b(np.ascontiguousarray(pcm).tobytes(), digest_size=16).digest()
        if key not in self._cached:
            self._cached[key] = self._engine.score(pcm, None).statistics
        statistics = self._cached[key]
        given = self._default if reference is None else reference
        (logits,) = self._head.run(["logits"], {"statistics": statistics[None], "reference": given})
        return Scores(logits[0], statistics)
