"""Latency over lengths of the window and numbers of threads; runs on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime

from benchmarks.bench.device.device_sections import Sweep, SweepPoint
from benchmarks.bench.device.latency import time_in_turns
from benchmarks.bench.device.machine_state import usable_cores
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.engine import OnnxEngine, session_options
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

SECONDS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
CALLS = 20
_WINDOWS = 4
_FATAL_ONLY = 4

Speech = Callable[[float, int], list[Pcm]]
"""Returns windows of speech, given their length in seconds and their number."""


def measure_sweep(
    bundle: Bundle,
    speech: Speech,
    precisions: tuple[Precision, ...],
    *,
    lengths: tuple[float, ...] = SECONDS,
    threads: tuple[int, ...] | None = None,
) -> Sweep:
    """Time graphs over lengths of the window and numbers of threads, precisions in turns.

    Args:
        bundle: a verified bundle.
        speech: returns windows of speech.
        precisions: of the graphs.
        lengths: of the windows, in seconds; that of the bundle is added.
        threads: numbers of threads; None for 1 to the cores that this process may use.
    """
    wanted = sorted({*lengths, bundle.manifest.window.seconds})
    taken = [seconds for seconds in wanted if _takes(bundle, precisions[0], seconds)]
    points = []
    for number in threads or thread_counts(usable_cores()):
        engines = {each: OnnxEngine.of(bundle, each, threads=number) for each in precisions}
        systems: dict[str, Callable[[Pcm], object]] = {name: engine.score for name, engine in engines.items()}
        for seconds in taken:
            found = time_in_turns(systems, speech(seconds, _WINDOWS), rounds=CALLS, warm_up=3)
            points += [
                SweepPoint(
                    precision=name,
                    window_seconds=seconds,
                    threads=number,
                    p50_ms=round(each.median, 3),
                    max_ms=round(max(each.milliseconds), 3),
                    real_time_factor=round(each.real_time_factor, 6),
                )
                for name, each in found.items()
            ]
    return Sweep(calls=CALLS, points=points, too_long=[each for each in wanted if each not in taken])


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads to measure: all up to four, powers of two, and all cores.

    >>> thread_counts(2), thread_counts(12)
    ((1, 2), (1, 2, 3, 4, 8, 12))
    """
    powers = [1 << exponent for exponent in range(3, cores.bit_length()) if 1 << exponent < cores]
    return tuple(sorted({*range(1, min(cores, 4) + 1), *powers, cores}))


def _takes(bundle: Bundle, precision: Precision, seconds: float) -> bool:
    """Return whether a graph can process a window of this length: up to the bundle's always, and any in chunks."""
    if seconds <= bundle.manifest.window.seconds or bundle.manifest.window.chunk:
        return True
    options = session_options(precision)
    # A window that is too long is not an error here.
    options.log_severity_level = _FATAL_ONLY
    session = onnxruntime.InferenceSession(bundle.read_graph(precision), options, providers=["CPUExecutionProvider"])
    pcm = np.zeros((1, round(seconds * SAMPLE_RATE)), np.float32)
    try:
        session.run(["logits"], {"pcm": pcm, "reference": bundle.reference()})
    except Exception:  # ONNX Runtime's errors share no public base class.
        return False
    return True
