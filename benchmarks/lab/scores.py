"""Score windows on the current processor, for `benchmarks.lab.processors`.

``python -m benchmarks.lab.scores engine BUNDLE WINDOWS OUT`` uses the engine of the runtime, ``graphs JOB OUT`` bare
sessions of ONNX Runtime. Imports only the runtime, so that it runs on devices and emulated processors
(`benchmarks/lab/machines.py`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.chunks import CHUNK_KEY, NEXT, PAST, pieces
from edge_runtime.engines.kernels import EXACT_PRODUCTS, products_saturate
from edge_runtime.engines.known_answer_test import verdict_on
from edge_runtime.sources.audio import Pcm

_WARM_UP = 2


class Scored(NamedTuple):
    """Output of an engine.

    Attributes:
        logits: ``[windows, classes]``.
        seconds: ``[windows]``, time of each.
        backend: of the engine.
        news: sentences on engines that were replaced.
        saturates: whether INT8 products saturate on this processor without the session entry.
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
    """Write windows ``[samples]`` for this program."""
    np.savez(path, pcm=np.concatenate(windows), lengths=[len(each) for each in windows])


def _read_windows(path: Path) -> list[Pcm]:
    with np.load(path) as given:
        return np.split(given["pcm"], np.cumsum(given["lengths"])[:-1])


def read_scores(path: Path) -> Scored:
    """Read the output of `score_engine`."""
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


def score_engine(bundle_path: Path, windows_path: Path, out: Path) -> None:
    """Score the windows with the engine that `edgeemo listen` selects, and write its output."""
    bundle = load_bundle(bundle_path)
    engine = open_engine(bundle, "onnxruntime")
    verdict = verdict_on(engine, bundle)
    windows = _read_windows(windows_path)
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
        news=np.array(engine.history(), str),
        saturates=products_saturate(),
        outcome=verdict.outcome,
        error=np.nan if verdict.error is None else verdict.error,
    )


def score_graphs(job_path: Path, out: Path) -> None:
    """Score and time graphs in bare sessions of ONNX Runtime, with or without the session entry for exact products.

    Args:
        job_path: JSON with ``graphs`` (path, and whether to set the session entry), ``windows`` (an ``.npz`` file of
            `write_windows`), ``reference`` ``[D]``, ``samples`` of the timed window and
            ``rounds``; all graphs are timed in turns.
        out: ``.npz`` with ``logits`` ``[graphs, windows, classes]`` and the median ``seconds`` ``[graphs]``.
    """
    job = json.loads(job_path.read_text())
    reference = np.array([job["reference"]], np.float32)
    sessions = [_session(path, exact) for path, exact in job["graphs"]]
    windows = _read_windows(Path(job["windows"]))
    logits = [np.concatenate([_run(each, window, reference) for window in windows]) for each in sessions]
    noise = np.random.default_rng(0).normal(0, 0.05, job["samples"]).astype(np.float32)
    seconds = np.full((len(sessions), job["rounds"]), np.nan)
    for turn in range(-_WARM_UP if job["rounds"] else 0, job["rounds"]):
        for number, session in enumerate(sessions):
            began = time.perf_counter()
            _run(session, noise, reference)
            if turn >= 0:
                seconds[number, turn] = time.perf_counter() - began
    medians = np.median(seconds, axis=1) if job["rounds"] else seconds[:, :0].sum(axis=1)
    np.savez(out, logits=np.stack(logits), seconds=medians)


def _session(path: str, exact: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: Any, window: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Any:
    chunk = int(session.get_modelmeta().custom_metadata_map.get(CHUNK_KEY, "0"))
    if not chunk:
        return session.run(["logits"], {"pcm": window[np.newaxis], "reference": reference})[0]
    logits: Any = None
    past = np.zeros(next(each.shape for each in session.get_inputs() if each.name == PAST), np.float32)
    for _, piece in pieces(window, chunk):
        feeds = {"pcm": piece[np.newaxis], "reference": reference, PAST: past}
        logits, past = session.run(["logits", NEXT], feeds)
    return logits


if __name__ == "__main__":
    if sys.argv[1] == "engine":
        score_engine(*map(Path, sys.argv[2:]))
    else:
        score_graphs(*map(Path, sys.argv[2:]))
