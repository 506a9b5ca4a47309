"""Processes per core: several `edgeemo listen` at a time, each on a recording played in real time.

Each listener is a separate process, like a service, with the whole runtime: voice activity detection, engine, decision,
events as JSON lines. All run on one core; the measuring process uses another one where available.

Lateness of a decision is its event's ``latency_ms``: from the time when the block that led to it was due to the event.
A listener that falls behind does not delay its source, so waiting counts too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.bench.accuracy.playback import EventLog, Playlist
from benchmarks.bench.device.latency import sample_floor
from benchmarks.bench.results import Row
from benchmarks.lab.soak import ProcessUsage
from benchmarks.lab.views.growth_columns import STREAMS
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import EmotionEvent
from edge_runtime.sources.audio import SAMPLE_RATE

COUNTS = (1, 2, 4, 8, 16, 32, 48)
SECONDS = 30.0
_START = 5.0
"""Additional seconds of audio per listener, so that the first one still has audio while the last one is measured."""
_TIMEOUT_SECONDS = 120.0


def measure_streams(
    bundle: Bundle,
    recordings: Sequence[Path],
    work: Path,
    *,
    corpus: str,
    counts: Sequence[int] = COUNTS,
    seconds: float = SECONDS,
    settle: float = 3.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Run listeners on different audio at the same time, and return a row for each number of them.

    Args:
        bundle: a verified bundle.
        recordings: speech; every stream plays them in a different order, with pauses of one to three seconds.
        work: directory for the audio of the streams.
        corpus: name of the corpus of the recordings.
        counts: numbers of streams.
        seconds: duration of each measurement.
        settle: seconds from the start of the last listener to the measurement.
        seed: of the orders and pauses; stream ``n`` takes ``seed + n``.
        say: receives a line per measurement.

    Raises:
        EdgeemoError: a listener ends early or does not start.
    """
    length = seconds + settle + _START * (max(counts) + 2)
    played = [write_stream(recordings, work / f"stream-{n}.wav", length, seed + n) for n in range(max(counts))]
    files, shares = [path for path, _ in played], [share for _, share in played]
    rows = []
    for count in sorted(counts):
        figures = _listen_together(bundle.root, files[:count], seconds, settle)
        say(f"{count} streams: {figures['cpu_share']:.1%} of a core, latest by {figures['lateness_max_ms']:.0f} ms")
        rows.append(
            listening_row(
                bundle, figures, shares[:count], corpus=corpus, sweep=STREAMS, how="a process each, all on one core"
            )
        )
    return rows


def listening_row(
    bundle: Bundle, figures: dict[str, float], shares: Sequence[float], *, corpus: str, sweep: str, how: str
) -> Row:
    """Return the row of some streams.

    Args:
        bundle: what scored them.
        figures: what was measured.
        shares: share of speech of each stream.
        corpus: name of the corpus of their recordings.
        sweep: name of the sweep over numbers of streams.
        how: in which processes they ran, for the note.
    """
    window = bundle.manifest.window
    figures = figures | {"hop_seconds": window.hop_seconds, "speech_share": float(np.mean(shares))}
    return Row(
        system="listen",
        corpus=corpus,
        parameters=bundle.manifest.encoder.parameters,
        sweep=sweep,
        settings={"streams": len(shares)},
        figures={name: round(value, 4) for name, value in figures.items()},
        note=f"{how}; window {window.seconds:g} s, hop {window.hop_seconds:g} s",
    )


def lateness(decisions: Sequence[Sequence[EmotionEvent]]) -> dict[str, float]:
    """Return statistics of the lateness of decisions, over all streams.

    Returns:
        ``decisions``, ``silent_streams`` (those without any), ``lateness_p50_ms`` and ``lateness_max_ms``, and
        ``lateness_p99_ms`` where there are enough decisions (`benchmarks.bench.device.latency.sample_floor`).
    """
    late = [event.latency_ms for events in decisions for event in events]
    figures = {"decisions": float(len(late)), "silent_streams": float(sum(not events for events in decisions))}
    # Zero without decisions: `keeps_up` checks the silent streams too.
    figures |= {"lateness_p50_ms": float(np.median(late or [0.0])), "lateness_max_ms": max(late, default=0.0)}
    if len(late) >= sample_floor(99):
        figures["lateness_p99_ms"] = float(np.percentile(late, 99))
    return figures


def late_streams(logs: Sequence[EventLog]) -> float:
    """Return how many streams have left out provisional events, which `lateness` does not count."""
    late = {(id(log), event.source) for log in logs for event in log.statuses() if event.status == "late"}
    return float(len(late))


def write_stream(
    recordings: Sequence[Path], path: Path, seconds: float, seed: int, pauses: tuple[float, float] | None = None
) -> tuple[Path, float]:
    """Write the audio of a stream; return the file and its share of speech.

    Args:
        recordings: speech, to choose from.
        path: of the file.
        seconds: its length, at least.
        seed: of the order and the pauses.
        pauses: seconds between two recordings, at least and at most; by default those of `Playlist`.
    """
    playlist = Playlist(recordings, seed) if pauses is None else Playlist(recordings, seed, pauses)
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, subtype="PCM_16") as file:
        for pcm in playlist.audio(seconds):
            file.write(pcm)
        length = file.frames / SAMPLE_RATE
    return path, sum(end - start for start, end in playlist.spans) / length


def _listen_together(bundle: Path, files: Sequence[Path], seconds: float, settle: float) -> dict[str, float]:
    with ExitStack() as stack:
        listeners = [_start(bundle, file, stack) for file in files]
        _sleep(settle, listeners)
        uses = [ProcessUsage(process.pid) for process, _ in listeners]
        began = time.monotonic()
        for use in uses:
            use.sample()
        _sleep(seconds, listeners)
        for use in uses:
            use.sample()
        ended = time.monotonic()
        proportional = [_proportional_mb(process.pid) for process, _ in listeners]
    decisions = [
        [event for at, event in list(log.events) if began <= at < ended and isinstance(event, EmotionEvent)]
        for _, log in listeners
    ]
    spans = [use.cpu_share for use in uses]
    figures = {
        "seconds": ended - began,
        "cpu_share": sum(spans),
        "cpu_share_per_stream": float(np.mean(spans)),
        "resident_mb": float(np.mean([use.samples[-1][2] for use in uses])),
        **lateness(decisions),
        "late_streams": late_streams([log for _, log in listeners]),
    }
    known = [each for each in proportional if each is not None]
    if len(known) == len(listeners):
        figures |= {"memory_mb": sum(known), "memory_per_stream_mb": float(np.mean(known))}
    return figures


def _start(bundle: Path, file: Path, stack: ExitStack) -> tuple[subprocess.Popen[str], EventLog]:
    """Start a listener and wait for its first event; the stack ends it."""
    command = [sys.executable, "-m", "edge_runtime", "listen", str(bundle), "--source", str(file)]
    command += ["--paced", "--sink", "stdout"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    log = EventLog()
    assert process.stdout is not None
    reader = threading.Thread(target=log.read, args=(process.stdout,), daemon=True)
    # In reverse order: the process is killed, the reader ends, the pipe is closed.
    stack.callback(process.stdout.close)
    stack.callback(process.wait)
    stack.callback(reader.join)
    stack.callback(process.kill)
    reader.start()
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not log.events:
        if process.poll() is not None or time.monotonic() > deadline:
            raise EdgeemoError(f"{bundle}: edgeemo listen does not start")
        time.sleep(0.05)
    # After the start, since the last listeners would start too slowly on a busy core.
    keep_on_one_core(process.pid)
    return process, log


def _sleep(seconds: float, listeners: Sequence[tuple[subprocess.Popen[str], EventLog]]) -> None:
    time.sleep(seconds)
    for process, _ in listeners:
        if process.poll() is not None:
            raise EdgeemoError(f"edgeemo listen ended early (exit code {process.returncode}): is the machine busy?")


def keep_on_one_core(pid: int) -> None:
    """Move all threads of a process to one core, the last one that this process may use; on Linux only.

    Threads that it starts later inherit this.
    """
    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0))
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def _proportional_mb(pid: int) -> float | None:
    """Return the proportional memory of a process in MB of a million bytes; None if unavailable.

    Source: ``Pss`` of ``smaps_rollup``, proc(5).
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("Pss:")), None)
    return None if found is None else int(found.split()[1]) * 1024 / 1e6
