"""What goes on right now, for those who look from another thread: the web page, `/healthz`, Prometheus, watchdogs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np

from edge_runtime.events import Event
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

SILENT_DB = -100.0
"""Level of digital silence."""


@dataclass(frozen=True)
class Snapshot:
    """The state at one moment.

    Attributes:
        source: name of the source.
        model: first 12 digits of the bundle's hash.
        backend: what runs the graph.
        backend_note: what the last ``backend`` status event said, as of an engine that failed the known-answer test.
        labels: the emotions that the model knows.
        state: ``starting``, ``listening``, ``silence``, ``no-audio``, ``device-lost`` or ``stopped``.
        started: `time.time` when listening began, as the clock had it then.
        began: `time.monotonic` when listening began: a device without a clock of its own is set later, by years.
        position: seconds on the sample clock.
        level_db: root mean square of the last block, in dB of full scale.
        speech: probability of speech in the last block; None without a speech gate.
        speaking: whether a stretch of speech is open.
        dropped_samples: lost in capture.
        last_audio: `time.monotonic` when audio came last.
        last_loop: `time.monotonic` when the loop was last seen alive.
        windows: how many were scored.
        scoring_seconds: how long that took, in all.
        failures: windows that could not be scored.
        failures_in_row: how many of them since one was scored last.
        events: how many of each type were said.
        lost_events: events that each sink had to drop, by its name.
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
    """Holds the state; the loop writes it, any thread reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        now = time.monotonic()
        self._now = Snapshot(started=time.time(), began=now, last_loop=now)

    def snapshot(self) -> Snapshot:
        """Return the state now; it does not change any more."""
        with self._lock:
            return replace(self._now, events=dict(self._now.events), lost_events=dict(self._now.lost_events))

    def describe(self, *, source: str, model: str, backend: str, labels: tuple[str, ...]) -> None:
        """Take in what runs."""
        self._set(source=source, model=model, backend=backend, labels=labels)

    def alive(self) -> None:
        """Note that the loop turns, with or without audio."""
        self._set(last_loop=time.monotonic())

    def heard(self, pcm: Pcm, position: int, *, speech: float | None, speaking: bool, dropped: int) -> None:
        """Take in a block ``[samples]``, and where on the sample clock it ends."""
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

    def scored(self, seconds: float, *, failed: bool = False) -> None:
        """Take in that a window was scored or could not be, and how long it took."""
        with self._lock:
            self._now = replace(
                self._now,
                windows=self._now.windows + 1,
                scoring_seconds=self._now.scoring_seconds + seconds,
                failures=self._now.failures + failed,
                failures_in_row=self._now.failures_in_row + 1 if failed else 0,
            )

    def said(self, event: Event) -> None:
        """Take in an event."""
        with self._lock:
            self._now.events[event.type] = self._now.events.get(event.type, 0) + 1
            self._now = replace(self._now, backend=event.backend)
            if event.type == "status":
                self._now = replace(self._now, state=_STATES.get(event.status, self._now.state))
                if event.status == "backend":
                    self._now = replace(self._now, backend_note=event.detail)

    def lost(self, sink: str) -> None:
        """Take in that a sink had to drop an event."""
        with self._lock:
            self._now.lost_events[sink] = self._now.lost_events.get(sink, 0) + 1

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._now = replace(self._now, **changes)  # type: ignore[arg-type]


def level_db(pcm: Pcm) -> float:
    """Return the root mean square of ``[samples]`` in dB of full scale, not under `SILENT_DB`."""
    power = float(np.mean(np.square(pcm, dtype=np.float64))) if len(pcm) else 0.0
    return max(SILENT_DB, 10 * float(np.log10(power))) if power > 0 else SILENT_DB
