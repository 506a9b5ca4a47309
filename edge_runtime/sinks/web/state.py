"""The state as JSON (`/api/state`, `/healthz`, messages to pages) and in Prometheus' text format 0.0.4."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from edge_runtime import __version__
from edge_runtime.loop.monitor import Snapshot
from edge_runtime.text import valid_unicode

HEALTHY_SECONDS = 10.0
"""Time without a turn of the loop after which it counts as stalled."""
FAILING = 10
"""Consecutive windows without scores after which the model counts as failing."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("starting", "listening", "silence", "no-audio", "device-lost", "stopped")
EVENT_TYPES = ("provisional", "final", "status")

Samples = Mapping[tuple[tuple[str, str], ...], float]
_Family = tuple[str, str, str, Samples | float | None]
"""Name, kind, help and value of a metric; None for unknown."""


def as_json(value: object) -> str:
    """Return JSON that browsers can read: NaN and infinity become null, invalid characters are escaped."""
    return to_json(_clean(value), inf_nan_mode="null").decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value


def _since(moment: float) -> float:
    """Return the seconds since a `time.monotonic`, which does not jump when the clock is set."""
    return max(0.0, time.monotonic() - moment)


def _audio_age(now: Snapshot) -> float | None:
    return _since(now.last_audio) if now.last_audio else None


def _failing(now: Snapshot) -> bool:
    return now.failures_in_row >= FAILING


def _stalled(now: Snapshot) -> bool:
    return now.state != "stopped" and _since(now.last_loop) >= HEALTHY_SECONDS


def state(now: Snapshot) -> dict[str, Any]:
    """Return the whole state; monotonic times become ages and ``uptime``, in seconds."""
    content = asdict(now)
    for monotonic in ("last_loop", "last_audio", "began"):
        del content[monotonic]
    return content | {
        "loop_age": _since(now.last_loop),
        "audio_age": _audio_age(now),
        "uptime": _since(now.began),
        "failing": _failing(now),
        "version": __version__,
    }


def health(now: Snapshot) -> dict[str, Any]:
    """Return what needs no token: ``status`` is ``ok``, or ``stalled`` or ``failing`` with a ``reason``."""
    age = _since(now.last_loop)
    content = {"status": "ok", "loop_age_seconds": round(age, 3)}
    if age >= HEALTHY_SECONDS:
        return content | {"status": "stalled", "reason": f"the last turn of the loop was {age:.0f} s ago"}
    if _failing(now):
        reason = f"the last {now.failures_in_row} windows could not be scored"
        return content | {"status": "failing", "reason": reason}
    return content


def health_of_all(states: Mapping[str, Snapshot]) -> dict[str, Any]:
    """Return the health of several sources: that of the first one with a problem, with its name, else ``ok``.

    A source that has ended has none.
    """
    found = {name: health(now) for name, now in states.items() if now.state != "stopped" or len(states) == 1}
    for name, content in found.items():
        if content["status"] != "ok":
            return content | ({"source": name} if name else {})
    return next(iter(found.values()), {"status": "ok"})


def level(now: Snapshot) -> dict[str, Any]:
    """Return the message that pages receive five times a second."""
    age = _audio_age(now)
    return {
        "type": "level",
        "state": now.state,
        "failing": _failing(now),
        "stalled": _stalled(now),
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
        "uptime": round(_since(now.began), 1),
    }


def hello(now: Snapshot, history_minutes: float, history: list[str], sources: Sequence[str] = ()) -> str:
    """Return the first message to a page: what runs, and the events of the last minutes, given as JSON texts.

    ``sources`` are the names of all sources, where they have any.
    """
    head = {
        "type": "hello",
        "run": f"{now.started:.3f} {now.model}",
        "labels": now.labels,
        "model": now.model,
        "version": __version__,
        "sources": sources,
        "history_minutes": history_minutes,
        "now": level(now),
    }
    return f'{as_json(head)[:-1]},"history":[{",".join(history)}]}}'


def metrics(states: Mapping[str, Snapshot], *, clients: int, dropped_clients: int) -> str:
    """Return all metrics; those of a stream have its name as the label ``stream``, where it has one.

    Args:
        states: by name of the stream; one without a name has the empty name.
        clients: pages that are open.
        dropped_clients: pages that were dropped.
    """
    lost = next(iter(states.values())).lost_events
    streams = [[_named(name, family) for family in _of_stream(now)] for name, now in states.items()]
    of_process: tuple[_Family, ...] = (
        ("edgeemo_lost_events_total", "counter", "Events a sink had to drop.", _by("sink", lost)),
        ("edgeemo_web_clients", "gauge", "Pages that are open.", clients),
        ("edgeemo_web_dropped_clients_total", "counter", "Pages dropped for being slow.", dropped_clients),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", _resident_bytes()),
        ("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", time.process_time()),
        ("process_start_time_seconds", "gauge", "Unix time when the process started.", _START_TIME),
    )
    together = [_together(family) for family in zip(*streams, strict=True)]
    return "".join(_text(*each) for each in (*together, *of_process))


def _of_stream(now: Snapshot) -> tuple[_Family, ...]:
    events = dict.fromkeys(EVENT_TYPES, 0) | now.events
    states = dict.fromkeys((*STATES, now.state), 0) | {now.state: 1}
    about = (("version", __version__), ("model", now.model), ("backend", now.backend), ("source", now.source))
    return (
        ("edgeemo_info", "gauge", "What runs.", {about: 1}),
        ("edgeemo_state", "gauge", "1 for the state of the stream.", _by("state", states)),
        ("edgeemo_events_total", "counter", "Events of the stream.", _by("type", events)),
        ("edgeemo_windows_total", "counter", "Windows that were scored.", now.windows),
        ("edgeemo_scoring_seconds_total", "counter", "Time spent on scoring windows.", now.scoring_seconds),
        (
            "edgeemo_windows_left_out_total",
            "counter",
            "Provisional windows left out: decisions were late.",
            now.left_out,
        ),
        ("edgeemo_scoring_failures_total", "counter", "Windows that could not be scored.", now.failures),
        ("edgeemo_scoring_failures_in_row", "gauge", "Failed windows since the last scored one.", now.failures_in_row),
        ("edgeemo_dropped_samples_total", "counter", "Samples lost in capture.", now.dropped_samples),
        ("edgeemo_stream_seconds_total", "counter", "Seconds on the sample clock, gaps included.", now.position),
        ("edgeemo_level_dbfs", "gauge", "Level of the last block in dB of full scale.", now.level_db),
        ("edgeemo_speaking", "gauge", "1 during speech.", now.speaking),
        ("edgeemo_speech_probability", "gauge", "Probability of speech in the last block.", now.speech),
        ("edgeemo_loop_age_seconds", "gauge", "Time since the last turn of the loop.", _since(now.last_loop)),
        ("edgeemo_audio_age_seconds", "gauge", "Time since the last audio.", _audio_age(now)),
        ("edgeemo_listening_since_seconds", "gauge", "Unix time when listening began.", now.started),
        ("edgeemo_uptime_seconds", "gauge", "Time since listening began.", _since(now.began)),
    )


def _named(stream: str, family: _Family) -> _Family:
    """Return a family of metrics with the name of a stream as a label, if it has a name."""
    name, kind, text, value = family
    if not stream or value is None:
        return family
    samples = value if isinstance(value, Mapping) else {(): value}
    return name, kind, text, {(("stream", stream), *labels): number for labels, number in samples.items()}


def _together(families: Sequence[_Family]) -> _Family:
    """Return one family of those of all streams."""
    name, kind, text, value = families[0]
    if len(families) > 1:
        known = [each for *_, each in families if isinstance(each, Mapping)]
        value = {labels: number for samples in known for labels, number in samples.items()} or None
    return name, kind, text, value


def _by(label: str, values: Mapping[str, float]) -> Samples:
    return {((label, key),): value for key, value in values.items()}


def _text(name: str, kind: str, text: str, value: Samples | float | None) -> str:
    if value is None:  # unknown
        return ""
    samples = value if isinstance(value, Mapping) else {(): value}
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, number in samples.items():
        inside = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels)
        lines.append(f"{name}{{{inside}}} {float(number)!r}" if inside else f"{name} {float(number)!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    # The text format escapes backslash, quote and line feed; invalid characters cannot be sent in UTF-8.
    return _clean(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")  # type: ignore[no-any-return]


def _resident_bytes() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _start_time() -> float | None:
    """Return when the process started, from proc_pid_stat(5): field 22, in clock ticks since the machine started."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return time.time() - since_boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


_START_TIME = _start_time()
