"""Streams in one process on one core: `python -m benchmarks.lab.streams`.

One `edgeemo listen` with the default bundle reads several recordings in real time, as sources with names. All its
threads run on one core; the measuring process uses another one where available. The number of streams is doubled until
they do not keep up, and then bisected. Two kinds of streams:

* ``speech``: recordings one after the other, without pauses;
* ``conversation``: speech fills about 30 % of the time, as of one of several speakers.

Lateness of a decision is its event's ``latency_ms``: from the time when its last sample was due to the event. A process
that falls behind does not delay its sources, so waiting counts too. A stream that leaves out a provisional event, which
is reported by the status ``late``, does not keep up. Run it on an idle machine.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.bench.accuracy.playback import EventLog, sounding
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.growth_of_listening import keep_on_one_core, late_streams, lateness, listening_row, write_stream
from benchmarks.lab.options import RESULTS, corpus_or_rendered, publish, say
from benchmarks.lab.soak import ProcessUsage
from benchmarks.lab.views.growth_columns import CONVERSATION, SPEECH, keeps_up
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from edge_runtime.errors import EdgeemoError, Tool
from edge_runtime.events import EmotionEvent
from edge_runtime.parameters import Number, count_option, path_option
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

SHARES = {SPEECH: 1.0, CONVERSATION: 0.3}
"""Share of the time that speech fills, by the kind of streams."""
_SPREAD = (0.5, 1.5)
"""Shortest and longest pause, relative to the mean."""
_SETTLE = 5.0
"""Seconds from the start of the streams to the measurement."""
_FINEST = 0.05
"""Step at which the search ends, relative to the number of streams."""
_TIMEOUT = 300.0


def pauses_for(share: float, recordings: Sequence[Path]) -> tuple[float, float]:
    """Return the shortest and the longest pause, in seconds, for which speech fills a share of the time."""
    spans = [(*sounding(pcm), len(pcm)) for pcm in map(read_audio, recordings)]
    sound = float(np.mean([end - start for start, end, _ in spans])) / SAMPLE_RATE
    silence = float(np.mean([length - (end - start) for start, end, length in spans])) / SAMPLE_RATE
    mean = max(0.0, sound * (1 - share) / share - silence)
    return mean * _SPREAD[0], mean * _SPREAD[1]


def search(keeps: Callable[[int], bool], first: int, most: int) -> int:
    """Return the largest number that keeps up, to within 5 %, found by doubling and bisection; 0 for none.

    Args:
        keeps: measures a number, and returns whether it keeps up.
        first: the first number.
        most: the largest number to try.
    """
    good, count = 0, min(first, most)
    bad: int | None = None
    while True:
        if keeps(count):
            good = count
        else:
            bad = count
        if bad is None:
            if good == most:
                return good
            count = min(2 * good, most)
        elif bad - good <= max(1, round(_FINEST * bad)):
            return good
        else:
            count = (good + bad) // 2


def measure(
    bundle: Bundle, recordings: Sequence[Path], work: Path, kind: str, *, corpus: str, count: int, seconds: float
) -> Row:
    """Run so many streams of a kind in one process, and return their row.

    Args:
        bundle: a verified bundle.
        recordings: speech.
        work: directory for the audio, kept from one measurement to the next.
        kind: a key of `SHARES`.
        corpus: name of the corpus of the recordings.
        count: number of streams.
        seconds: duration of the measurement.

    Raises:
        EdgeemoError: the process ends early or does not start.
    """
    pauses = pauses_for(SHARES[kind], recordings[:50])
    # As long as a slow start takes, too.
    length = seconds + 4 * _SETTLE
    played = [
        write_stream(recordings, work / f"{kind}-{number}.wav", length, number, pauses) for number in range(count)
    ]
    config = work / "edge.toml"
    sources = "".join(f's{number} = "{path}"\n' for number, (path, _) in enumerate(played))
    config.write_text(f'bundle = "{bundle.root}"\npaced = true\n[sources]\n{sources}', encoding="utf-8")
    figures = _listen(config, count, seconds)
    return listening_row(
        bundle, figures, [share for _, share in played], corpus=corpus, sweep=kind, how="all in one process on one core"
    )


def _listen(config: Path, count: int, seconds: float) -> dict[str, float]:
    spawned = time.monotonic()
    command = [sys.executable, "-m", "edge_runtime", "listen", "--config", str(config), "--sink", "stdout"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    log = EventLog()
    assert process.stdout is not None
    reader = threading.Thread(target=log.read, args=(process.stdout,), daemon=True)
    try:
        reader.start()
        _wait(process, lambda: len(log.statuses()) >= count)
        started = log.events[0][0] - spawned
        keep_on_one_core(process.pid)
        _wait(process, lambda: bool(log.emotions("provisional")))
        first = log.emotions("provisional")[0][0] - spawned
        time.sleep(_SETTLE)
        use = ProcessUsage(process.pid)
        began = time.monotonic()
        use.sample()
        time.sleep(seconds)
        use.sample()
        ended = time.monotonic()
        if process.poll() is not None:
            raise EdgeemoError(f"edgeemo listen ended early (exit code {process.returncode})")
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
    decisions: dict[str, list[EmotionEvent]] = {f"s{number}": [] for number in range(count)}
    for at, event in log.events:
        if began <= at < ended and isinstance(event, EmotionEvent):
            decisions[event.source or ""].append(event)
    latest = [float(np.median([event.latency_ms for event in events])) for events in decisions.values() if events]
    return {
        "seconds": ended - began,
        "cpu_share": use.cpu_share,
        "cpu_share_per_stream": use.cpu_share / count,
        "resident_mb": use.samples[1][2],
        "start_seconds": started,
        "first_window_seconds": first,
        "lateness_p50_worst_ms": max(latest, default=0.0),
        **lateness(list(decisions.values())),
        "late_streams": late_streams([log]),
    }


def _wait(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise EdgeemoError("edgeemo listen does not start; try it with the same bundle and --paced")
        time.sleep(0.02)


@click.command("streams", cls=Tool)
@path_option("--out", "Where figures go.", default=RESULTS / "streams.json", show_default="streams.json")
@click.option("--only", multiple=True, type=click.Choice(tuple(SHARES)), help="Kinds of streams.  [default: all]")
@path_option("--corpus", "A corpus of speech.  [default: render one]", exists=True)
@count_option("--first", "Number of streams to begin with.", default=8)
@count_option("--most", "Largest number of streams.", default=256)
@click.option("--seconds", type=Number(1), default=60.0, show_default=True, help="Duration of each measurement.")
def main(out: Path, only: tuple[str, ...], corpus: Path | None, first: int, most: int, seconds: float) -> None:
    """Find how many streams of the default bundle one process on one core keeps up with.

    \b
    Example:
      python -m benchmarks.lab.streams --only conversation --first 2 --most 4 --seconds 20
    """
    began, before = time.monotonic(), machine_moment()
    bundle = load_bundle(DEFAULT_BUNDLE)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="streams") as folder:
        work = Path(folder)
        found = corpus_or_rendered(corpus, work)
        paths = [item.path for item in found.utterances]
        for kind in only or tuple(SHARES):

            @functools.cache
            def keeps(count: int, kind: str = kind) -> bool:
                row = measure(bundle, paths, work, kind, corpus=found.facts.name, count=count, seconds=seconds)
                rows.append(row)
                figures = row.figures or {}
                late = f"latest by {figures['lateness_max_ms']:.0f} ms"
                say(f"{kind}, {count} streams: {figures['cpu_share']:.0%} of a core, {late}")
                return keeps_up(figures)

            # A single stream first, for its memory and its start.
            keeps(1)
            say(f"{kind}: {search(keeps, first, most)} streams keep up")
    rows.sort(key=lambda row: (row.sweep or "", int((row.settings or {})["streams"])))
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.bundle = bundle.hash
    results.machine = machine_state(before, machine_moment())
    publish(results, out)


if __name__ == "__main__":
    main()
