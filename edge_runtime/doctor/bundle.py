"""Checks of a bundle on this machine: its files, its engine, known answers and the time of one window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_runtime.backends import (
    LIBRARIES,
    best_precision,
    form_for_cpu,
    no_graph_for_tensorrt,
    open_engine,
    tensorrt_here,
)
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.config import EngineSettings
from edge_runtime.doctor.accelerators import ANOTHER_RUNTIME
from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.engines.engine import Engine
from edge_runtime.engines.known_answer_test import Verdict, cache_verdict, known_answer_test
from edge_runtime.errors import EdgeemoError, EngineError, MissingPartError, WrongUseError
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.tensorrt.engine_cache import engine_path
from edge_runtime.tensorrt.library import Library, installed, library_version, require_cuda_device
from edge_runtime.trusted_files import read_trusted
from edge_runtime.windows import with_hop

_TIMED = 5
"""Number of timed windows, after one untimed window."""
_EXPORT_AGAIN = "export the bundle again with this edgeemo: edgeemo export RUN --int8 --out BUNDLE"


class _Choice(NamedTuple):
    library: Library
    precision: Precision
    path: Path


def bundle(root: Path, settings: EngineSettings, hop_seconds: float | None = None) -> Iterator[Finding]:
    """Verify a bundle, report its backend, and score one window. No engine is built, which takes minutes.

    Raises:
        EdgeemoError: the bundle is refused, or does not run.
    """
    loaded = load_bundle(root)
    size = sum(entry.size for entry in loaded.manifest.files) / 1e6
    found = f"{root}: complete, {loaded.hash[:12]}, {size:.1f} MB, {', '.join(loaded.manifest.labels)}"
    yield Finding("bundle", "ok", found)
    yield Finding("bundle's graphs", "ok", ", ".join(loaded.precisions))
    yield from _refused_by_gate(loaded)
    hop = with_hop(loaded.manifest.window, hop_seconds).hop_seconds
    choice, why = _choice(loaded, settings)
    yield Finding("bundle's backend", "ok", f"{'TensorRT' if choice else 'ONNX Runtime'}: {why}")
    if choice:
        yield from _from_cache(loaded, choice, settings, hop)
    else:
        engine = open_engine(loaded, "onnxruntime", settings.precision, threads=settings.threads)
        yield from _tested(engine, loaded, settings, settings.precision, hop)


def _refused_by_gate(loaded: Bundle) -> Iterator[Finding]:
    refused = {each: why for each in loaded.precisions if (why := loaded.refused_by_gate(each))}
    other = next((each for each in loaded.precisions if each not in refused), None)
    remedy = f"edgeemo listen {loaded.root} --precision {other}, or " if other else ""
    for precision, why in refused.items():
        option = why.split()[-1]  # that let it pass, with which the sentence ends
        yield Finding(
            f"bundle's graph {precision}",
            "can be better",
            why,
            f"{remedy}export it again without {option}",
        )


def _choice(loaded: Bundle, settings: EngineSettings) -> tuple[_Choice | None, str]:
    """Return the choice of `open_engine`, None for ONNX Runtime, and its reason."""
    if settings.precision is not None:
        loaded.graph(settings.precision)
    if settings.backend == "onnxruntime":
        return None, "selected by name"
    if settings.precision == "int8-cpu":
        if settings.backend == "tensorrt":
            raise WrongUseError(
                "the settings select int8-cpu on TensorRT, but that graph is for ONNX Runtime; set precision = int8-trt"
            )
        return None, "int8-cpu is the graph for it"
    precision = settings.precision or best_precision(loaded)
    if precision is None:
        if settings.backend == "tensorrt":
            raise WrongUseError(no_graph_for_tensorrt(loaded))
        return None, "the bundle holds no graph for TensorRT"
    here = tensorrt_here()
    if here is None:
        if settings.backend == "tensorrt":
            raise MissingPartError(f"TensorRT is selected by name, and cannot run here: {_lacking()}")
        return None, _lacking()
    library, device = here
    version = library_version(library)
    target = device if library == "tensorrt" else None
    path = engine_path(loaded.hash, version, target, loaded.manifest.window, precision)
    return _Choice(library, precision, path), f"{version} and {device.name} are here; it runs {precision}"


def _lacking() -> str:
    if not any(map(installed, LIBRARIES)):
        return "there is no TensorRT"
    try:
        require_cuda_device()
    except MissingPartError as error:
        return error.message.partition(";")[0]
    return "TensorRT does not load"


def _from_cache(loaded: Bundle, choice: _Choice, settings: EngineSettings, hop: float) -> Iterator[Finding]:
    target = "device" if choice.library == "tensorrt" else "rtx"
    remedy = f"edgeemo build {loaded.root} --precision {choice.precision} --target {target}"
    if not choice.path.exists():
        found = f"{choice.path}: not built yet; listen builds it when it starts"
        yield Finding("bundle's engine", "missing", found, remedy)
        return
    try:
        plan = read_trusted(choice.path)
        engine = TensorRTEngine(plan, loaded.reference(), choice.precision, library=choice.library)
    except EngineError as error:
        yield Finding("bundle's engine", "can be better", f"{error.message}; listen builds it again", remedy)
        return
    yield Finding("bundle's engine", "ok", f"{choice.path}: in the cache, and loads")
    try:
        yield from _tested(engine, loaded, settings, form_for_cpu(loaded, choice.precision), hop, remedy)
    finally:
        engine.close()


def _tested(
    engine: Engine,
    loaded: Bundle,
    settings: EngineSettings,
    next_precision: Precision | None,
    hop: float,
    remedy: str = ANOTHER_RUNTIME,
) -> Iterator[Finding]:
    """Run the known-answer test, without the cached verdict, and score a window with the engine that listen would use.

    ``next_precision`` is the graph that ONNX Runtime would run instead, ``remedy`` is for an engine that fails.
    """
    notices = engine.history()
    if notices:
        yield Finding("bundle's engine", "can be better", "; ".join(notices), remedy)
    verdict = cache_verdict(known_answer_test(engine, loaded), engine, loaded)
    yield _known_answers(engine, loaded, verdict, remedy)
    if verdict.outcome != "failed":
        yield _score(engine, loaded, hop)
        return
    other = open_engine(loaded, "onnxruntime", next_precision, threads=settings.threads)
    try:
        yield _score(other, loaded, hop)
    finally:
        other.close()


def _known_answers(engine: Engine, loaded: Bundle, verdict: Verdict, remedy: str) -> Finding:
    what = "known answers"
    if verdict.outcome == "untested":
        return Finding(what, "unknown", f"{engine.backend}: {verdict.detail}", _EXPORT_AGAIN)
    if verdict.outcome == "failed":
        found = f"{engine.backend} fails: {verdict.detail}; listen runs the next engine"
        return Finding(what, "can be better", found, remedy)
    source = "" if loaded.known_answers else "; the bundle carries none, so its graph was computed in float"
    found = f"{engine.backend} passes: logits off by {verdict.error:.2g}, {verdict.tolerance:.2g} allowed{source}"
    if verdict.detail:
        return Finding(what, "can be better", f"{found}; {verdict.detail}", _EXPORT_AGAIN)
    return Finding(what, "ok", found)


def _score(engine: Engine, loaded: Bundle, hop: float) -> Finding:
    """Score one window of noise, or one chunk, and check its median time against the hop."""
    policy = loaded.manifest.window
    samples = policy.chunk or policy.samples
    pcm = np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)
    engine.score(pcm)
    times = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        logits = engine.score(pcm).logits
        times.append((time.perf_counter() - began) * 1000)
    if not np.isfinite(logits).all():
        raise EdgeemoError(f"{loaded.root}: {engine.backend} gives NaN or infinite scores; export the bundle again")
    took = float(np.median(times))
    found = f"{samples / loaded.manifest.sample_rate:g} s in {took:.1f} ms, by {engine.backend}"
    slow = took > hop * 1000
    remedy = "a longer hop_seconds under [decision], or a pruned bundle: edgeemo export RUN --int8 --prune 0.5"
    return rated("one window", not slow, f"{found}: slower than the hop of {hop:g} s" if slow else found, remedy)
