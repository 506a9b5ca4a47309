"""What Prometheus reads, in its text format 0.0.4.

Written here because it is little: the client library would be one more dependency on the device, and its registry a
second place for counts that `edge_runtime.loop.monitor` already holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from edge_runtime import __version__
from edge_runtime.loop.monitor import Snapshot
from edge_runtime.sinks.web.messages import uptime

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("starting", "listening", "silence", "no-audio", "device-lost", "stopped")
EVENT_TYPES = ("provisional", "final", "status")

Samples = Mapping[tuple[tuple[str, str], ...], float]


def metrics(now: Snapshot, *, clients: int, dropped_clients: int) -> str:
    """Return all of them.

    Args:
        now: the state.
        clients: pages that are open.
        dropped_clients: pages that were dropped since they were slow.
    """
    clock = time.monotonic()
    events = dict.fromkeys(EVENT_TYPES, 0) | now.events
    states = dict.fromkeys((*STATES, now.state), 0) | {now.state: 1}
    about = (("version", __version__), ("model", now.model), ("backend", now.backend), ("source", now.source))
    parts = [
        _family("edgeemo_info", "gauge", "What runs.", {about: 1}),
        _family("edgeemo_state", "gauge", "1 for the state the stream is in.", _by("state", states)),
        _family("edgeemo_events_total", "counter", "Events that were said.", _by("type", events)),
        _family("edgeemo_lost_events_total", "counter", "Events a sink had to drop.", _by("sink", now.lost_events)),
        _one("edgeemo_windows_total", "counter", "Windows that were scored.", now.windows),
        _one("edgeemo_scoring_seconds_total", "counter", "Time spent on scoring windows.", now.scoring_seconds),
        _one("edgeemo_scoring_failures_total", "counter", "Windows that could not be scored.", now.failures),
        _one(
            "edgeemo_scoring_failures_in_row",
            "gauge",
            "Windows that could not be scored since one was.",
            now.failures_in_row,
        ),
        _one("edgeemo_dropped_samples_total", "counter", "Samples lost in capture.", now.dropped_samples),
        _one("edgeemo_stream_seconds_total", "counter", "Seconds on the sample clock, gaps included.", now.position),
        _one("edgeemo_level_dbfs", "gauge", "Level of the last block in dB of full scale.", now.level_db),
        _one("edgeemo_speaking", "gauge", "1 while someone speaks.", now.speaking),
        _one("edgeemo_speech_probability", "gauge", "Probability of speech in the last block.", now.speech),
        _one("edgeemo_loop_age_seconds", "gauge", "Time since the loop was last seen alive.", clock - now.last_loop),
        _one(
            "edgeemo_audio_age_seconds",
            "gauge",
            "Time since audio came last.",
            clock - now.last_audio if now.last_audio else None,
        ),
        _one("edgeemo_listening_since_seconds", "gauge", "Unix time when listening began.", now.started),
        _one("edgeemo_uptime_seconds", "gauge", "Time since listening began.", uptime(now)),
        _one("edgeemo_web_clients", "gauge", "Pages that are open.", clients),
        _one("edgeemo_web_dropped_clients_total", "counter", "Pages dropped since they were slow.", dropped_clients),
        _one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", _resident_bytes()),
        _one("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", time.process_time()),
        _one("process_start_time_seconds", "gauge", "Unix time when the process started.", _START_TIME),
    ]
    return "".join(parts)


def _one(name: str, kind: str, text: str, value: float | None) -> str:
    """Return a family of one sample; none where the value is not known."""
    return "" if value is None else _family(name, kind, text, {(): value})


def _by(label: str, values: Mapping[str, float]) -> Samples:
    return {((label, key),): value for key, value in values.items()}


def _family(name: str, kind: str, text: str, samples: Samples) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples.items():
        inside = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels)
        lines.append(f"{name}{{{inside}}} {float(value)!r}" if inside else f"{name} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    # Backslash, quote and line feed have escapes; what is no character cannot be sent in UTF-8.
    text = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text.encode(errors="replace").decode()


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
