"""Parity on the device: an engine against the graph that it was built from.

The device has no corpus, so the windows are synthetic: voiced sounds over noise, at every corner of the engine's
profile. They do not measure accuracy; they detect an engine whose results differ from those of its graph.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.known_answer_test import known_answer_test
from edge_runtime.engines.parity import Parity, measure
from edge_runtime.errors import GateError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.windows import SHORTEST

MIN_ENGINE_COSINE = 0.99
"""Both compute the same graph: what differs is the order of sums, and with it the rounding to INT8 and FP16."""


def check_engine(bundle: Bundle, precision: Precision, plan: bytes) -> Parity:
    """Compare an engine with its graph in ONNX Runtime, a float simulation of it.

    Raises:
        GateError: they are too far apart.
        EngineError: the engine does not load, or does not run.
    """
    windows = synthetic_windows(bundle.manifest.window.samples)
    wanted = OnnxEngine.of(bundle, precision).score_windows(windows)
    engine = TensorRTEngine(plan, bundle.reference(), precision)
    try:
        logits = engine.score_windows(windows)
        verdict = known_answer_test(engine, bundle)
    finally:
        engine.close()
    rung = measure(engine.backend, logits, precision, wanted)
    if not rung.mean_cosine >= MIN_ENGINE_COSINE:
        raise GateError(
            f"the engine's logits have a mean cosine of {rung.mean_cosine:.3f} with those of its graph "
            f"(limit {MIN_ENGINE_COSINE}): {engine.backend} has other results on this device, and the engine was "
            "not stored"
        )
    # The same test as when the engine is opened.
    if verdict.outcome == "failed":
        raise GateError(
            f"the engine fails the bundle's known-answer test ({verdict.detail}): {engine.backend} has other "
            "results on this device, and the engine was not stored"
        )
    return rung


def synthetic_windows(longest: int) -> list[Pcm]:
    """Return eight fixed windows of synthetic sound ``[samples]``, from the shortest that is scored to the longest."""
    random = np.random.default_rng(0)
    windows = []
    lengths = (longest, SHORTEST, longest - 1, SHORTEST + 1, longest, longest // 2, longest, longest)
    for number, samples in enumerate(lengths):
        time = np.arange(samples) / SAMPLE_RATE
        pitch = (90 + 30 * number) * (1 + 0.1 * np.sin(2 * np.pi * (1 + number) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        voice = sum(np.sin(harmonic * phase) / harmonic ** (0.5 + 0.2 * number) for harmonic in range(1, 16))
        syllables = 0.55 + 0.45 * np.sin(2 * np.pi * (2 + number) * time)
        sound = 0.1 * voice * syllables + random.normal(0, 0.01, samples)
        windows.append(sound.astype(np.float32))
    return windows
