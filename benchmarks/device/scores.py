"""Score windows on the processor at hand: ``python -m benchmarks.device.scores BUNDLE WINDOWS OUT``.

Imports the runtime only, so that it runs on a device, or on an emulated processor (`benchmarks/machines.py`).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.kernels import products_saturate
from edge_runtime.engines.known_answer_test import verdict_on
from edge_runtime.sources.audio import Pcm


class Scored(NamedTuple):
    """What an engine gave.

    Attributes:
        logits: ``[windows, classes]``.
        seconds: ``[windows]`` that each took.
        backend: what ran the graph.
        news: sentences on engines that were replaced.
        saturates: whether INT8 products saturate on this processor unless asked not to.
        outcome: of the known-answer test.
        error: of the known answers' logits.
    """

    logits: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float64]
    backend: str
    news: tuple[str, ...]
    saturates: bool
    outcome: str
    error: float


def write_windows(windows: list[Pcm], path: Path) -> None:
    """Write windows ``[samples]`` for `main`."""
    np.savez(path, pcm=np.concatenate(windows), lengths=[len(each) for each in windows])


def read_scores(path: Path) -> Scored:
    """Return what `main` wrote."""
    with np.load(path) as found:
        return Scored(
            found["logits"],
            found["seconds"],
            str(found["backend"]),
            tuple(map(str, found["news"])),
            bool(found["saturates"]),
            str(found["outcome"]),
            float(found["error"]),
        )


def main(bundle_path: Path, windows_path: Path, out: Path) -> None:
    """Score the windows with the engine that `listen` would run, and write what it gives."""
    bundle = load_bundle(bundle_path)
    engine = open_engine(bundle, "onnxruntime")
    verdict = verdict_on(engine, bundle)
    with np.load(windows_path) as given:
        windows = np.split(given["pcm"], np.cumsum(given["lengths"])[:-1])
    logits, seconds = [], []
    for window in windows:
        began = time.perf_counter()
        logits.append(engine.score(window).logits)
        seconds.append(time.perf_counter() - began)
    np.savez(
        out,
        logits=np.stack(logits),
        seconds=seconds,
        backend=engine.backend,
        news=np.array(engine.notices(), str),
        saturates=products_saturate(),
        outcome=verdict.outcome,
        error=np.nan if verdict.error is None else verdict.error,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
