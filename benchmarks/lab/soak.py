"""Soak test through a virtual microphone: `python -m benchmarks.lab.soak BUNDLE --corpus PATH --minutes 60`.

Recordings of a corpus are played in random order, with pauses, in real time, into a separate sound server;
`edgeemo listen` reads them through PortAudio like a microphone. With ``--array`` the microphone has six channels at
48 kHz: four with the speech, weaker from one to the next and a few samples late, one with mains hum, one with music, as
the playback channel of an array. Writes ``benchmarks/results/NAME.json``:

* ``clock_drift``: ratio of the sample clock to the elapsed time at the end, less 1;
* ``utterances``, ``detected``: number of utterances played, and of those with a final event;
* ``lost_samples``: counted by the runtime; ``sink_troubles``: failures of a sink;
* ``response_p50_s``, ``response_p90_s``: from the end of an utterance's sound to its final event;
* ``cpu_share``: processor time of the listener divided by wall time;
* ``memory_first_mb``, ``memory_last_mb``, ``memory_most_mb``: resident, after five minutes, at the end, and at most;
* ``memory_growth_mb_per_hour``: slope by least squares, after the first five minutes.

Exit code 3 where a figure is beyond `LIMITS`. With ``--file`` the same recordings are read as one file, and
``times_real_time`` is the speed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import numpy as np
import soundfile
import soxr

from benchmarks.bench.accuracy.playback import EventLog, Match, Playlist, match, response_times
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.options import RESULTS, publish
from benchmarks.lab.virtual_microphone import NAMES, virtual_microphone
from distill.corpora.read import read_corpus
from distill.evaluation.metrics import Floats
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError, GateError, Tool, WrongUseError
from edge_runtime.parameters import Number, path_option
from edge_runtime.service import resident_mb
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

LIMITS = {
    "clock_drift": 0.01,
    "lost_samples": 0,
    "sink_troubles": 0,
    "cpu_share": 0.05,
    "memory_most_mb": 150,
    "memory_growth_mb_per_hour": 3,
}
"""Largest values allowed, at a hop of 0.5 s."""
_SETTLING_SECONDS = 300
_SEED = 0
ARRAY, ARRAY_RATE = 6, 48_000
_SPEECH_GAINS = (1.0, 0.9, 0.8, 0.7)
_LATE = 5
"""Samples at 48 kHz from one microphone of the array to the next: 3.5 cm."""
_MAINS, _HUM = 50.0, 0.02
_NOTES, _MUSIC, _NOTE_SECONDS = (220.0, 277.2, 329.6, 440.0, 370.0, 293.7), 0.1, 0.25


def _player(array: bool) -> tuple[str, ...]:
    rate, channels = (ARRAY_RATE, ARRAY) if array else (SAMPLE_RATE, 1)
    names = (f"--channel-map={','.join(NAMES)}",) if array else ()
    return (
        *("pacat", "--raw", f"--rate={rate}", f"--channels={channels}", "--format=s16le", "--latency-msec=2000"),
        *names,
    )


@dataclass
class ProcessUsage:
    """Processor time and resident memory of a process, sampled."""

    pid: int
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    def sample(self) -> None:
        """Take a sample: ``(time, CPU seconds, resident MB)``."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.samples.append((time.monotonic(), cpu, resident_mb(Path(f"/proc/{self.pid}/statm"))))

    @property
    def cpu_share(self) -> float:
        """CPU seconds a second, from the first sample to the last."""
        (start, before, _), (end, after, _) = self.samples[0], self.samples[-1]
        return (after - before) / (end - start)

    def figures(self) -> dict[str, float]:
        """Return share of the processor, memory, and its growth after the first minutes."""
        table = np.array(self.samples)
        settled = table[table[:, 0] - table[0, 0] >= min(_SETTLING_SECONDS, (table[-1, 0] - table[0, 0]) / 2)]
        hours = settled[:, 0] / 3600
        slope = float(np.polyfit(hours - hours[0], settled[:, 2], 1)[0]) if len(settled) > 2 else 0.0
        return {
            "cpu_share": self.cpu_share,
            "memory_first_mb": float(settled[0, 2]),
            "memory_last_mb": float(table[-1, 2]),
            "memory_most_mb": float(table[:, 2].max()),
            "memory_growth_mb_per_hour": slope,
        }


class ArrayChannels:
    """Turns mono speech at 16 kHz into the six channels of an array at 48 kHz."""

    def __init__(self) -> None:
        self._resample = soxr.ResampleStream(SAMPLE_RATE, ARRAY_RATE, 1)
        self._before: Floats = np.zeros(_LATE * len(_SPEECH_GAINS))
        self._position = 0

    def __call__(self, pcm: Pcm) -> Floats:
        """Return ``[S, 6]`` for the next samples ``[N]``."""
        speech = self._resample.resample_chunk(np.asarray(pcm, np.float32))
        longer = np.concatenate([self._before, speech])
        self._before = longer[len(speech) :]
        seconds = (self._position + np.arange(len(speech))) / ARRAY_RATE
        self._position += len(speech)
        start = len(longer) - len(speech)
        columns = [gain * longer[start - _LATE * n :][: len(speech)] for n, gain in enumerate(_SPEECH_GAINS)]
        hum = sum(_HUM / k * np.sin(2 * np.pi * _MAINS * k * seconds) for k in range(1, 10))
        number, since = np.divmod(seconds, _NOTE_SECONDS)
        pitch = np.array(_NOTES)[number.astype(int) % len(_NOTES)]
        music = _MUSIC * np.sin(2 * np.pi * pitch * seconds) * np.exp(-8 * since)
        return np.stack([*columns, hum, music], axis=1)


def soak(
    bundle: Path, paths: Sequence[Path], minutes: float, options: Sequence[str], seed: int, *, array: bool = False
) -> dict[str, float]:
    """Play recordings to a listener in real time; return the figures.

    Raises:
        MissingPartError: PulseAudio is not installed.
        EdgeemoError: the listener ends early.
    """
    playlist, log = Playlist(paths, seed), EventLog()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak"))
        environment = stack.enter_context(virtual_microphone(Path(folder), ARRAY if array else 2))
        listener = _listener(bundle, options, environment)
        stack.callback(listener.kill)
        assert listener.stdout is not None
        reader = threading.Thread(target=log.read, args=(listener.stdout,), daemon=True)
        reader.start()
        _wait(lambda: bool(log.events), listener)
        use = ProcessUsage(listener.pid)
        player = subprocess.Popen(_player(array), env=environment, stdin=subprocess.PIPE)
        stack.callback(player.kill)
        assert player.stdin is not None
        feeder = threading.Thread(target=_play, args=(playlist, minutes * 60, player.stdin, array), daemon=True)
        feeder.start()
        while feeder.is_alive():
            use.sample()
            feeder.join(timeout=10)
            if listener.poll() is not None:
                raise EdgeemoError(f"the listener ended early, with exit code {listener.returncode}")
        if player.wait(timeout=60) or not playlist.finished:
            raise EdgeemoError(f"the player ended early, with exit code {player.returncode}")
        time.sleep(3)
        use.sample()
        listener.terminate()
        listener.wait(timeout=60)
        reader.join(timeout=60)
        wall = log.events[-1][0] - log.events[0][0]
    if listener.returncode:
        raise EdgeemoError(f"the listener ended with exit code {listener.returncode}")
    found = match(playlist.spans, [event for _, event in log.emotions("final")])
    waited = np.array(response_times(playlist, log, found)) if found.detected else np.zeros(1)
    statuses = [event.status for event in log.statuses()]
    return {
        "minutes": wall / 60,
        **_counts(playlist, log, found),
        "clock_drift": log.events[-1][1].end / wall - 1.0,
        "lost_samples": log.events[-1][1].dropped_samples,
        "sink_troubles": sum(event.status == "sink" for event in log.statuses()),
        "status_events": len(statuses) - statuses.count("started") - statuses.count("stopped"),
        "response_p50_s": float(np.percentile(waited, 50)),
        "response_p90_s": float(np.percentile(waited, 90)),
        **use.figures(),
    }


def through_file(
    bundle: Path, paths: Sequence[Path], minutes: float, options: Sequence[str], seed: int
) -> dict[str, float]:
    """Run a listener on the same audio as one file, as fast as it reads it; return the figures.

    Raises:
        EdgeemoError: the listener fails.
    """
    playlist, log = Playlist(paths, seed), EventLog()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        path = Path(folder) / "playlist.wav"
        with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, subtype="PCM_16") as file:
            for pcm in playlist.audio(minutes * 60):
                file.write(pcm)
            seconds = file.frames / SAMPLE_RATE
        listener = _listener(bundle, ["--source", str(path), *options], dict(os.environ))
        assert listener.stdout is not None
        with listener.stdout:
            log.read(listener.stdout)
        if listener.wait(timeout=60):
            raise EdgeemoError(f"the listener ended with exit code {listener.returncode}")
    found = match(playlist.spans, [event for _, event in log.emotions("final")])
    return {
        "minutes": seconds / 60,
        **_counts(playlist, log, found),
        "times_real_time": seconds / (log.events[-1][0] - log.events[0][0]),
    }


def _listener(bundle: Path, options: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_runtime", "listen", str(bundle), "--sink", "stdout", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _counts(playlist: Playlist, log: EventLog, found: Match) -> dict[str, float]:
    return {
        "utterances": len(playlist.spans),
        "detected": found.detected,
        "final_events": len(log.emotions("final")),
        "provisional_events": len(log.emotions("provisional")),
    }


def _play(playlist: Playlist, seconds: float, pipe: IO[bytes], array: bool) -> None:
    channels = ArrayChannels() if array else np.asarray
    with pipe:
        for each in playlist.audio(seconds):
            pcm = channels(each)
            pipe.write((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())


def _wait(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise EdgeemoError("the listener does not start")
        time.sleep(0.05)


def beyond_limits(figures: Mapping[str, float]) -> list[str]:
    """Return a sentence for each figure beyond its limit."""
    exceeded = [
        f"{name} is {figures[name]:.4g}, beyond {limit:g}"
        for name, limit in LIMITS.items()
        if name in figures and abs(figures[name]) > limit
    ]
    missed = figures["utterances"] - figures["detected"]
    return exceeded + ([f"{missed:g} utterances were not detected"] if missed else [])


@click.command("soak", cls=Tool)
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@path_option("--corpus", "Its recordings are played.", required=True)
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    type=Number(0, min_open=True),
    metavar="MINUTES",
    help="Duration.",
)
@click.option(
    "--hop",
    default=0.5,
    show_default=True,
    type=Number(0.1, 10),
    metavar="SECONDS",
    help="From one window to the next.",
)
@click.option("--name", default="soak", show_default=True, metavar="NAME", help="Of the file under benchmarks/results.")
@click.option("--sink", "sinks", multiple=True, metavar="SINK", help="Further sinks of the listener.")
@click.option("--array", is_flag=True, help="A microphone of six channels at 48 kHz, two without speech.")
@click.option("--file", "as_file", is_flag=True, help="Read the same audio from one file, as fast as possible.")
def main(
    bundle: Path,
    corpus: Path,
    minutes: float,
    hop: float,
    name: str,
    sinks: tuple[str, ...],
    array: bool,
    as_file: bool,
) -> None:
    """Play speech to a listener through a virtual microphone, and write its figures.

    \b
    Example:
      python -m benchmarks.lab.soak bundle --corpus RAVDESS --minutes 60
    """
    began = time.monotonic()
    found = read_corpus(corpus)
    extra = [word for sink in sinks for word in ("--sink", sink)]
    if array and as_file:
        raise WrongUseError("--array is for a microphone, not for --file")
    paths, options = [utterance.path for utterance in found.utterances], ["--hop", str(hop), *extra]
    if as_file:
        figures = through_file(bundle, paths, minutes, options, _SEED)
    else:
        figures = soak(bundle, paths, minutes, options, _SEED, array=array)
    manifest = load_bundle(bundle).manifest
    row = Row(
        system="listen",
        corpus=found.facts.name,
        parameters=manifest.encoder.parameters,
        figures={key: round(value, 6) for key, value in figures.items()},
        note=f"window {manifest.window.seconds:g} s, hop {hop:g} s"
        + (f"; a microphone of {ARRAY} channels at {ARRAY_RATE} Hz" if array else ""),
    )
    path = RESULTS / f"{name}.json"
    publish(new_results([row], seconds=time.monotonic() - began, seeds=[_SEED]), path)
    console.print(f"{row.figures}")
    if exceeded := beyond_limits(figures):
        raise GateError(f"{path}: beyond the limits: {', '.join(exceeded)}")


if __name__ == "__main__":
    main()
