"""Score windows with bare sessions of ONNX Runtime: ``python -m benchmarks.device.sessions JOB OUT``.

The runtime sets the session entry for exact products where it is needed; here each graph is scored with it or without.
Imports the runtime only, so that it runs on an emulated processor.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_runtime.engines.kernels import EXACT_PRODUCTS

_WARM_UP = 2


def main(job_path: Path, out: Path) -> None:
    """Score and time graphs.

    Args:
        job_path: JSON with ``graphs`` (path, and whether it gets the session entry), ``windows`` (an ``.npz`` file of
            `benchmarks.device.scores.write_windows`), ``reference`` ``[D]``, ``samples`` of the timed window and
            ``rounds``; all graphs are timed in turns.
        out: ``.npz`` with ``logits`` ``[graphs, windows, classes]`` and the median ``seconds`` ``[graphs]``.
    """
    job = json.loads(job_path.read_text())
    reference = np.array([job["reference"]], np.float32)
    sessions = [_session(path, exact) for path, exact in job["graphs"]]
    with np.load(job["windows"]) as given:
        windows = np.split(given["pcm"], np.cumsum(given["lengths"])[:-1])
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
    return session.run(["logits"], {"pcm": window[np.newaxis], "reference": reference})[0]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
