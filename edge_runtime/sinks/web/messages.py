"""What is told about the state: the JSON of `/api/state` and `/healthz`, of the pages' hello and of their level."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json

from edge_runtime import __version__
from edge_runtime.loop.monitor import Snapshot

HEALTHY_SECONDS = 10.0
"""The loop is taken for dead when it was not seen for so long."""
FAILING = 10
"""So many windows in a row that could not be scored are no accident any more."""


def as_json(value: object) -> str:
    """Return JSON that browsers can read: what is no number becomes null, what is no character a question mark."""
    return to_json(_clean(value), inf_nan_mode="null").decode()


def uptime(now: Snapshot) -> float:
    """Return for how many seconds it has been listening, whatever the clock was set to meanwhile."""
    return max(0.0, time.monotonic() - now.began)


def audio_age(now: Snapshot) -> float | None:
    """Return how many seconds ago audio came last; None if it never did."""
    return max(0.0, time.monotonic() - now.last_audio) if now.last_audio else None


def failing(now: Snapshot) -> bool:
    """Return whether the model gives no results, though the loop turns."""
    return now.failures_in_row >= FAILING


def state(now: Snapshot) -> dict[str, Any]:
    """Return the whole state; ages and ``uptime`` in seconds, since nobody outside knows our monotonic clock."""
    told = asdict(now)
    loop, _, _ = told.pop("last_loop"), told.pop("last_audio"), told.pop("began")
    return told | {
        "loop_age": max(0.0, time.monotonic() - loop),
        "audio_age": audio_age(now),
        "uptime": uptime(now),
        "failing": failing(now),
        "version": __version__,
    }


def health(now: Snapshot) -> dict[str, Any]:
    """Return what is told to everybody: ``status`` is ``ok``, or ``stalled`` or ``failing`` with a ``reason``."""
    age = max(0.0, time.monotonic() - now.last_loop)
    told = {"status": "ok", "loop_age_seconds": round(age, 3)}
    if age >= HEALTHY_SECONDS:
        return told | {"status": "stalled", "reason": f"the loop was last seen {age:.0f} s ago"}
    if failing(now):
        reason = f"the last {now.failures_in_row} windows could not be scored"
        return told | {"status": "failing", "reason": reason}
    return told


def level(now: Snapshot) -> dict[str, Any]:
    """Return what moves, five times a second."""
    age = audio_age(now)
    return {
        "type": "level",
        "state": now.state,
        "failing": failing(now),
        "source": now.source,
        "backend": now.backend,
        "backend_note": now.backend_note,
        "position": round(now.position, 3),
        "audio_age": None if age is None else round(age, 3),
        "level_db": round(now.level_db, 1),
        "speech": now.speech,
        "speaking": now.speaking,
        "dropped_samples": now.dropped_samples,
        "failures": now.failures,
        "lost_events": sum(now.lost_events.values()),
        "uptime": round(uptime(now), 1),
    }


def hello(now: Snapshot, history_minutes: float, history: list[str]) -> str:
    """Return the first message to a page: what runs, and the events of the last minutes as JSON texts."""
    head = {
        "type": "hello",
        "run": f"{now.started:.3f} {now.model}",
        "labels": now.labels,
        "model": now.model,
        "version": __version__,
        "history_minutes": history_minutes,
        "now": level(now),
    }
    return f'{as_json(head)[:-1]},"history":[{",".join(history)}]}}'


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        # Names of files and devices may hold bytes that are no UTF-8.
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value
