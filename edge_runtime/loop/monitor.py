"""The state of the loop, readable from other threads: the web page, `/healthz`, Prometheus, watchdogs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np

from edge_runtime.events import Event
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

SILENT_DB = -100.0


@dataclass(frozen=True)
class Snapshot:
    """The state at one moment.

    Attributes:
        source: name of the source.
        model: first 12 digits of the bundle's hash.
        backend: what runs the graph.
        backend_note: detail of the last ``backend`` status event, such as a failed known-answer test.
        labels: class names of the model.
        state: ``starting``, ``listening``, ``silence``, ``no-audio``, ``device-lost`` or ``stopped``.
        started: `time.time` at the start, by the clock of that time.
        began: `time.monotonic` at the start: a device without a battery clock is set later, by years.
        position: seconds on the sample clock.
        level_db: root mean square of the last block, in dB of full scale.
        speech: probability of speech in the last block; None without voice activity detection.
        speaking: whether a segment is open.
        dropped_samples: lost in capture.
        last_audio: `time.monotonic` of the last audio.
        last_loop: `time.monotonic` of the loop's last turn.
        windows: number of windows scored.
        scoring_seconds: total time of scoring.
        left_out: windows of provisional events that were left out because decisions were late.
        failures: windows that could not be scored.
        failures_in_row: consecutive failures up to now.
        events: number of events by type.
        lost_events: number of events dropped by each sink.
    """

    source: str = ""
    model: str = ""
    backend: str = ""
    backend_note: str = ""
    labels: tuple[str, ...] = ()
    state: str = "starting"
    started: float = 0.0
    began: float = 0.0
    position: float = 0.0
    level_db: float = SILENT_DB
    speech: float | None = None
    speaking: bool = False
    dropped_samples: int = 0
    last_audio: float = 0.0
    last_loop: float = 0.0
    windows: int = 0
    scoring_seconds: float = 0.0
    left_out: int = 0
    failures: int = 0
    failures_in_row: int = 0
    events: dict[str, int] = field(default_factory=dict)
    lost_events: dict[str, int] = field(default_factory=dict)


_STATES = {
    "started": "listening",
    "audio-back": "listening",
    "device-back": "listening",
    "silence": "silence",
    "no-audio": "no-audio",
    "device-lost": "device-lost",
    "stopped": "stopped",
}


class Monitor:
    """Holds the state: the loop writes it, any thread reads it.

    Args:
        process: for one of several sources, the monitor of the process: it holds the events that sinks lost, and the
            turns of the loop count for it too.
    """

    def __init__(self, process: Monitor | None = None) -> None:
        self._process = process
        self._lock = threading.Lock()
        now = time.monotonic()
        self._now = Snapshot(started=time.time(), began=now, last_loop=now)

    def snapshot(self) -> Snapshot:
        """Return an unchanging copy of the state."""
        lost = self._process.snapshot().lost_events if self._process else None
        with self._lock:
            lost = dict(self._now.lost_events) if lost is None else lost
            return replace(self._now, events=dict(self._now.events), lost_events=lost)

    def describe(self, *, source: str, model: str, backend: str, labels: tuple[str, ...]) -> None:
        """Record source, model and backend."""
        self._set(source=source, model=model, backend=backend, labels=labels)

    def heartbeat(self) -> None:
        """Record a turn of the loop, with or without audio."""
        self._set(last_loop=time.monotonic())
        if self._process:
            self._process.heartbeat()

    def record_audio(self, pcm: Pcm, position: int, *, speech: float | None, speaking: bool, dropped: int) -> None:
        """Record a block ``[samples]`` and the position of its end on the sample clock."""
        now = time.monotonic()
        self._set(
            level_db=level_db(pcm),
            position=position / SAMPLE_RATE,
            speech=speech,
            speaking=speaking,
            dropped_samples=dropped,
            last_audio=now,
            last_loop=now,
        )
        if self._process:
            self._process.heartbeat()

    def record_window(self, seconds: float, *, failed: bool = False) -> None:
        """Record the scoring of a window: its duration, and whether it failed."""
        with self._lock:
            self._now = replace(
                self._now,
                windows=self._now.windows + 1,
                scoring_seconds=self._now.scoring_seconds + seconds,
                failures=self._now.failures + failed,
                failures_in_row=self._now.failures_in_row + 1 if failed else 0,
            )

    def record_left_out(self) -> None:
        """Record a window that was left out because decisions were late."""
        with self._lock:
            self._now = replace(self._now, left_out=self._now.left_out + 1)

    def record(self, event: Event) -> None:
        """Record an event."""
        with self._lock:
            self._now.events[event.type] = self._now.events.get(event.type, 0) + 1
            self._now = replace(self._now, backend=event.backend)
            if event.type == "status":
                self._now = replace(self._now, state=_STATES.get(event.status, self._now.state))
                if event.status == "backend":
                    self._now = replace(self._now, backend_note=event.detail)

    def record_lost(self, sink: str) -> None:
        """Record an event that a sink dropped."""
        with self._lock:
            self._now.lost_events[sink] = self._now.lost_events.get(sink, 0) + 1

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._now = replace(self._now, **changes)  # type: ignore[arg-type]


def level_db(pcm: Pcm) -> float:
    """Return the root mean square of ``[samples]`` in dB of full scale, not under `SILENT_DB`."""
    power = float(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    return max(SILENT_DB, 10 * float(np.log10(power))) if power > 0 else SILENT_DB
