"""Test an engine with the known answers of its bundle before use.

An engine passes if the root mean square error of its logits is within the bundle's tolerance, the error at which the
expected accuracy falls by half a point (`export/bundle/known_answers.py`), and that of its dimensions, if the bundle
predicts any, within theirs. The verdict is cached by everything it
depends on, so that only the first start runs the test. An older bundle without known answers is tested with the same
synthetic signal against its own graph, computed in float.
"""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from edge_runtime import __version__
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.known_answers import KnownAnswers, synthetic_signal, windows_of
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import Engine, OnnxEngine, Scores
from edge_runtime.errors import EdgeemoError, EngineError, NotANumberError
from edge_runtime.files import cache_directory, digest_of
from edge_runtime.sources.audio import Pcm
from edge_runtime.trusted_files import read_trusted, store

OLDER_TOLERANCE = 0.086
"""Tolerance for bundles without known answers, as a share of the deviation of the exact logits over the synthetic
signal: the share in the default bundle, since the margins of an older bundle are unknown. The error of exact kernels is
0.001 of that deviation."""


class WrongAnswersError(EngineError):
    """An engine fails the known-answer test, so its results for speech cannot be trusted."""


class Verdict(BaseModel):
    """Result of the known-answer test of an engine.

    Attributes:
        outcome: ``passed``, ``failed``, or ``untested`` without anything to compare with.
        error: root mean square error of the logits; None if not computed.
        tolerance: the largest error that passes.
        detail: a sentence on a failure, or on a part that could not be tested; else empty.
        compared: whether logits were compared; false if the engine could not score.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Literal["passed", "failed", "untested"]
    error: float | None = None
    tolerance: float = 0.0
    detail: str = ""
    compared: bool = False


def known_answer_test(engine: Engine, bundle: Bundle) -> Verdict:
    """Score the synthetic signal with an engine and compare the logits."""
    try:
        known, wanted = _expected(engine, bundle)
    except EdgeemoError as error:
        return Verdict(outcome="untested", detail=f"there is nothing to compare with: {error.message}")
    # Only in older bundles, whose graphs may give NaN for silence.
    rows = known.dimensions.get(engine.precision, np.zeros((len(known.windows), 0), np.float32))
    pairs = [each for each in zip(known.windows, wanted, rows, strict=True) if np.isfinite(each[1]).all()]
    if not pairs:
        return Verdict(outcome="untested", detail="its graph gives NaN for all signals of the test")
    failed = partial(Verdict, outcome="failed", tolerance=known.tolerance)
    errors: list[tuple[float, float]] = []
    for window, exact, dimensions in pairs:
        try:
            scores = engine.score(window)
        except EdgeemoError as error:
            return failed(detail=error.message)
        if scores.logits.shape != exact.shape:
            detail = f"it gives {scores.logits.size} logits, but the bundle has {exact.size} labels"
            return failed(detail=detail, compared=True)
        if not np.isfinite(scores.logits).all():
            return failed(detail="it gives logits that are not numbers", compared=True)
        errors.append((_mean_square(scores.logits - exact), _dimension_error(scores, dimensions)))
    error_here, of_dimensions = (float(each) for each in np.sqrt(np.mean(errors, axis=0)))
    for what, found, allowed in (
        ("logits", error_here, known.tolerance),
        ("dimensions", of_dimensions, known.dimension_tolerance),
    ):
        if not found <= allowed:
            detail = f"its {what} have an error of {found:.2g} (root mean square; {allowed:.2g} is allowed)"
            return failed(error=error_here, detail=detail, compared=True)
    missing = len(known.windows) - len(pairs)
    detail = ""
    if missing:
        detail = f"the graph itself gives NaN for {missing} of {len(known.windows)} signals; export the bundle again"
    return Verdict(outcome="passed", error=error_here, tolerance=known.tolerance, detail=detail, compared=True)


def _mean_square(values: Floats) -> float:
    return float(np.square(values).mean())


def _dimension_error(scores: Scores, wanted: Floats) -> float:
    """Return the mean square error of the dimensions; infinite if there are not as many, 0 if none are wanted."""
    if not wanted.size:
        return 0.0
    return _mean_square(scores.dimensions - wanted) if scores.dimensions.shape == wanted.shape else np.inf


def verdict_on(engine: Engine, bundle: Bundle) -> Verdict:
    """Return the verdict on an engine, from the cache if there is one.

    Without a usable cache, every start runs the test.
    """
    with contextlib.suppress(EdgeemoError, OSError, ValidationError):
        return Verdict.model_validate_json(read_trusted(_verdict_path(engine, bundle)))
    return cache_verdict(known_answer_test(engine, bundle), engine, bundle)


def cache_verdict(verdict: Verdict, engine: Engine, bundle: Bundle) -> Verdict:
    """Store a verdict in the cache, if logits were compared, and return it.

    A GPU whose memory is full, for example, may have room at the next start.
    """
    if verdict.compared:
        with contextlib.suppress(EdgeemoError, OSError):
            store(_verdict_path(engine, bundle), verdict.model_dump_json().encode())
    return verdict


def _verdict_path(engine: Engine, bundle: Bundle) -> Path:
    facts = [__version__, bundle.hash, engine.precision, *engine.depends_on]
    return cache_directory() / "verdicts" / f"{digest_of(facts, 32)}.json"


def _expected(engine: Engine, bundle: Bundle) -> tuple[KnownAnswers, Floats]:
    """Return the signal with its tolerance, and the exact logits ``[windows, classes]`` of the engine's graph."""
    known = bundle.known_answers
    if known is not None and engine.precision in known.logits:
        return known, known.logits[engine.precision]
    policy = bundle.manifest.window
    windows = known.windows if known else windows_of(*synthetic_signal(policy.samples, policy.chunk))
    simulation = OnnxEngine.of(bundle, engine.precision, simulated=True)
    exact = np.stack([_logits(simulation, window, bundle) for window in windows])
    spread = float(np.nanstd(exact)) if np.isfinite(exact).any() else 0.0
    tolerance = known.tolerance if known else max(OLDER_TOLERANCE * spread, 1e-6)
    return KnownAnswers(windows, {}, tolerance), exact


def _logits(engine: Engine, window: Pcm, bundle: Bundle) -> Floats:
    """Return the logits ``[classes]`` of a window; NaN where the graph gives none."""
    try:
        return engine.score(window).logits
    except NotANumberError:
        return np.full(len(bundle.manifest.labels), np.nan, np.float32)
