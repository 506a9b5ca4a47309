"""Time systems on the same audio, in turns or paced at the hop; runs on the device.

Back to back, systems take turns window by window, so that a temporary slowdown of the machine affects all of them.
Paced, one system scores a window per hop and sleeps in between, as on a device, with lower clocks and cold caches.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.bench.device.device_sections import Timing
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

CONFIDENCE = 0.99
"""Confidence of MLPerf Inference's early-stopping rule."""


@functools.cache
def sample_floor(percentile: int) -> int:
    """Return the smallest number of samples for which a percentile is reported.

    By MLPerf Inference's early-stopping rule for single streams (mlcommons/inference, ``loadgen/early_stopping.cc`` and
    ``results.cc``; tolerance 0, confidence 0.99): the smallest ``n`` for which it is improbable,

        n q^(n-1) (1-q) + q^n <= 1 - 0.99,    q = percentile / 100,

    that at most one of ``n`` independent samples is beyond the true percentile. Then the second largest sample bounds
    the percentile from above with that confidence. The median has no such floor.

    >>> [sample_floor(each) for each in (50, 90, 95, 99)]
    [1, 64, 130, 662]
    """
    if percentile <= 50:
        return 1
    q = percentile / 100
    count = 2
    while count * q ** (count - 1) * (1 - q) + q**count > 1 - CONFIDENCE:
        count += 1
    return count


@dataclass(frozen=True)
class Latency:
    """Latency of one system.

    Attributes:
        milliseconds: every timed call.
        warm_up: calls before them, not counted.
        audio_seconds: length of the window.
        warm_up_ms: times of those calls.
        hop_seconds: from one call to the next; None for back to back.
        late: calls that began late.
    """

    milliseconds: tuple[float, ...]
    warm_up: int
    audio_seconds: float
    warm_up_ms: tuple[float, ...] = ()
    hop_seconds: float | None = None
    late: int | None = None

    def percentile(self, q: int) -> float | None:
        """Return a percentile in ms, or None where there are too few samples for it."""
        return float(np.percentile(self.milliseconds, q)) if len(self.milliseconds) >= sample_floor(q) else None

    @property
    def median(self) -> float:
        """The median in ms."""
        return float(np.median(self.milliseconds))

    @property
    def real_time_factor(self) -> float:
        """Median processing time over the duration of the audio."""
        return self.median / 1000 / self.audio_seconds

    def columns(self) -> dict[str, float | None]:
        """Return the columns of a results row: median, 90th percentile, real-time factor."""
        return {
            "p50_ms": round(self.median, 3),
            "p90_ms": _ms(self.percentile(90)),
            "real_time_factor": round(self.real_time_factor, 6),
        }

    def timing(self, system: str, threads: int | None) -> Timing:
        """Return a section of a results file, samples included."""
        way: Literal["back to back", "paced"] = "back to back" if self.hop_seconds is None else "paced"
        return Timing(
            system=system,
            way=way,
            window_seconds=self.audio_seconds,
            hop_seconds=self.hop_seconds,
            threads=threads,
            calls=len(self.milliseconds),
            warm_up_calls=self.warm_up,
            warm_up_first_ms=_ms(self.warm_up_ms[0]) if self.warm_up_ms else None,
            warm_up_ms=_ms(float(np.median(self.warm_up_ms))) if self.warm_up_ms else None,
            p50_ms=round(self.median, 3),
            p90_ms=_ms(self.percentile(90)),
            p95_ms=_ms(self.percentile(95)),
            p99_ms=_ms(self.percentile(99)),
            max_ms=round(max(self.milliseconds), 3),
            real_time_factor=round(self.real_time_factor, 6),
            late=self.late,
            samples_ms=[round(each, 3) for each in self.milliseconds],
        )


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def time_in_turns(
    systems: Mapping[str, Callable[[Pcm], object]],
    windows: Sequence[Pcm],
    *,
    rounds: int,
    warm_up: int = 5,
    settle: int = 0,
) -> dict[str, Latency]:
    """Time every system on the same windows of one length.

    Args:
        systems: functions of a window, by name.
        windows: windows of equal length, used in turn.
        rounds: timed calls of each system.
        warm_up: rounds before, not counted.
        settle: untimed calls at the beginning of each turn, so that the contents of the caches do not depend on the
            previous system.

    Raises:
        ValueError: there are no windows, or they differ in length.
    """
    seconds = _seconds(windows)
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in range(-warm_up, rounds):
        window = windows[round_number % len(windows)]
        for name, call in systems.items():
            for _ in range(settle):
                call(window)
            times[name].append(_timed(call, window))
    return {
        name: Latency(tuple(values[warm_up:]), warm_up, seconds, tuple(values[:warm_up]))
        for name, values in times.items()
    }


def time_paced(
    call: Callable[[Pcm], object],
    windows: Sequence[Pcm],
    *,
    rounds: int,
    hop_seconds: float,
    warm_up: int = 5,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Latency:
    """Time one system once a hop, sleeping in between.

    Calls begin on a fixed grid of one hop; a call longer than a hop makes the next ones late, as on a slow
    device.

    Args:
        call: function of a window.
        windows: windows of equal length, used in turn.
        rounds: timed calls.
        hop_seconds: from one call to the next.
        warm_up: untimed calls before, paced too.
        sleep: waits so many seconds.
        clock: returns the time in seconds.

    Raises:
        ValueError: there are no windows, or they differ in length.
    """
    seconds = _seconds(windows)
    times: list[float] = []
    late = 0
    began = clock()
    for number in range(warm_up + rounds):
        wait = began + number * hop_seconds - clock()
        if wait > 0:
            sleep(wait)
        elif number >= max(warm_up, 1):
            late += 1
        times.append(_timed(call, windows[number % len(windows)]))
    return Latency(tuple(times[warm_up:]), warm_up, seconds, tuple(times[:warm_up]), hop_seconds, late)


def _timed(call: Callable[[Pcm], object], window: Pcm) -> float:
    began = time.perf_counter_ns()
    call(window)
    return (time.perf_counter_ns() - began) / 1e6


def _seconds(windows: Sequence[Pcm]) -> float:
    if len({len(window) for window in windows}) != 1:
        raise ValueError("windows must all have one length")
    return len(windows[0]) / SAMPLE_RATE
