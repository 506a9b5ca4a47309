"""Time from the start of a process to its first scored window, and memory of that process; runs on the device.

`measure_cold_start` runs ``python -m benchmarks.bench.device.cold_start BUNDLE PRECISION THREADS`` several times. Each
process writes as JSON when it finished each step, on the clock that all processes share (``CLOCK_MONOTONIC``).
"""

from __future__ import annotations

import time

_BEGAN_NS = time.monotonic_ns()  # before all other imports: the time of our first line

import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.bench.device.device_sections import ColdStart, EngineBuild
    from edge_runtime.bundles.bundle import Bundle

SCORED = 20
"""Windows scored after the first one, to measure memory."""
_LIMIT_SECONDS = 120
_BUILD_SECONDS = 3600


def measure_cold_start(root: Path, precision: str, threads: int, *, starts: int = 3) -> ColdStart:
    """Start processes that score windows of noise, and return the medians of their times.

    Raises:
        EdgeemoError: a process fails.
    """
    from benchmarks.bench.device.device_sections import ColdStart

    runs = [_start(root, precision, threads) for _ in range(starts)]
    figures = {name: round(statistics.median(each[name] for each in runs), 2) for name in runs[0]}
    figures["process_threads"] = max(each["process_threads"] for each in runs)
    return ColdStart(precision=precision, threads=threads, starts=starts, **figures)


def _start(root: Path, precision: str, threads: int) -> dict[str, Any]:
    from edge_runtime.errors import EdgeemoError

    command = [sys.executable, "-m", "benchmarks.bench.device.cold_start", str(root), precision, str(threads)]
    began = time.monotonic_ns()
    try:
        found: dict[str, Any] = json.loads(_output(command, _LIMIT_SECONDS).splitlines()[-1])
    except _ProcessError as error:
        raise EdgeemoError(f"{root}: the process that measures the cold start failed ({error})") from error
    marks = [began, *found.pop("marks_ns")]
    names = ("interpreter_ms", "imports_ms", "bundle_ms", "load_ms", "first_window_ms")
    passed = {name: (end - start) / 1e6 for name, (start, end) in zip(names, pairwise(marks), strict=True)}
    return passed | {"total_ms": (marks[-1] - marks[0]) / 1e6} | found


class _ProcessError(Exception):
    """A process failed; the message is the reason."""


def _output(command: list[str], timeout: float) -> str:
    """Run a command and return its standard output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _ProcessError(str(error)) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise _ProcessError(last.removeprefix("Error: "))
    return done.stdout


def _probe(root: Path, precision: Any, threads: int) -> dict[str, Any]:
    """Take the steps of `edgeemo listen` up to its first window; return the time and memory after each."""
    import numpy as np

    from edge_runtime.bundles.bundle import load_bundle
    from edge_runtime.engines.engine import OnnxEngine
    from edge_runtime.service import give_back_memory, resident_mb

    marks, memory = [_BEGAN_NS, time.monotonic_ns()], [resident_mb()]
    bundle = load_bundle(root)
    marks.append(time.monotonic_ns())
    engine = OnnxEngine.of(bundle, precision, threads=threads)
    marks.append(time.monotonic_ns())
    # Noise, since the content does not change the time.
    pcm = np.random.default_rng(0).normal(0, 0.05, bundle.manifest.window.samples).astype(np.float32)
    begins = time.monotonic_ns()
    engine.score(pcm)
    marks.append(marks[-1] + time.monotonic_ns() - begins)
    give_back_memory()
    memory.append(resident_mb())
    scoring = []
    for _ in range(SCORED):
        engine.score(pcm)
        scoring.append(resident_mb())
    return {
        "marks_ns": marks,
        "resident_before_mb": memory[0],
        "resident_loaded_mb": memory[1],
        "resident_scoring_mb": max(scoring),
        "process_threads": _threads(),
    }


def _threads() -> int | None:
    """Return the number of threads of this process, those of libraries included; None without proc(5)."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return None


def measure_engine_build(bundle: Bundle) -> EngineBuild:
    """Build a TensorRT engine of a bundle outside the cache, and return the time it took."""
    from benchmarks.bench.device.device_sections import EngineBuild
    from edge_runtime.backends import best_precision, no_graph_for_tensorrt, tensorrt_here
    from edge_runtime.tensorrt.library import library_version

    here = tensorrt_here()
    if here is None:
        return EngineBuild(not_measured="not available: there is no TensorRT with a CUDA device here")
    library, _ = here
    precision = best_precision(bundle)
    if precision is None:
        return EngineBuild(not_measured=f"not available: {no_graph_for_tensorrt(bundle)}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge_runtime", "build", str(bundle.root), "--precision", precision]
        command += ["--target", "device" if library == "tensorrt" else "rtx", "--out", str(Path(folder) / "engine")]
        began = time.monotonic()
        try:
            _output(command, _BUILD_SECONDS)
        except _ProcessError as error:
            return EngineBuild(precision=precision, not_measured=f"the build failed ({error})")
        seconds = time.monotonic() - began
    return EngineBuild(precision=precision, library=library_version(library), seconds=round(seconds, 1))


if __name__ == "__main__":
    json.dump(_probe(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), sys.stdout)
