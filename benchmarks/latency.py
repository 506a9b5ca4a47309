"""Time systems on the same audio, in turns; runs on the device.

Systems take turns window by window, so that a machine that slows down for a while slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.audio import SAMPLE_RATE, Pcm

P90_FLOOR = 64
P99_FLOOR = 662
"""Fewest samples that a percentile is reported from: those of MLPerf Inference's early-stopping rule."""


@dataclass(frozen=True)
class Latency:
    """Back-to-back latency of one system.

    Attributes:
        milliseconds: every timed call.
        warm_up: calls before them, not counted.
        audio_seconds: length of the window.
    """

    milliseconds: tuple[float, ...]
    warm_up: int
    audio_seconds: float

    def percentile(self, q: int) -> float | None:
        """Return a percentile in ms, or None where there are too few samples for it."""
        floor = {90: P90_FLOOR, 99: P99_FLOOR}.get(q, 1)
        return float(np.percentile(self.milliseconds, q)) if len(self.milliseconds) >= floor else None

    @property
    def real_time_factor(self) -> float:
        """Median processing time over the duration of the audio."""
        return float(np.median(self.milliseconds)) / 1000 / self.audio_seconds


def time_in_turns(
    systems: Mapping[str, Callable[[Pcm], object]],
    windows: Sequence[Pcm],
    *,
    rounds: int,
    warm_up: int = 5,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Time every system on the same windows of one length.

    Args:
        systems: what to call with a window, by name.
        windows: windows of equal length, used in turn.
        rounds: timed calls of each system.
        warm_up: untimed calls of each system before.
        tick: called after each round.

    Raises:
        ValueError: there are no windows, or they differ in length.
    """
    if len({len(window) for window in windows}) != 1:
        raise ValueError("windows must all have one length")
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in range(-warm_up, rounds):
        window = windows[round_number % len(windows)]
        for name, call in systems.items():
            began = time.perf_counter_ns()
            call(window)
            passed = (time.perf_counter_ns() - began) / 1e6
            if round_number >= 0:
                times[name].append(passed)
        tick()
    seconds = len(windows[0]) / SAMPLE_RATE
    return {name: Latency(tuple(values), warm_up, seconds) for name, values in times.items()}
