"""Speech for hours through a virtual microphone: `python -m benchmarks.soak BUNDLE --corpus PATH --minutes 60`.

Recordings of a corpus are played in random order, with pauses, at the speed of time, into a sound server of its own;
`edgeemo listen` hears them through PortAudio as it would a microphone. Writes ``benchmarks/results/NAME.json``:

* ``clock_drift``: the sample clock at the end by the time that went by, less 1;
* ``utterances``, ``heard``: how many were played, and how many of them a final event covers;
* ``lost_samples``: by the runtime's own count; ``sink_troubles``: how often a sink took no events;
* ``response_p50_s``, ``response_p90_s``: from the end of an utterance's sound to its final event;
* ``cpu_share``: processor time of the listener by wall time, of one core;
* ``memory_first_mb``, ``memory_last_mb``, ``memory_most_mb``: resident, after five minutes, at the end, and at most;
* ``memory_growth_mb_per_hour``: slope by least squares, after the first five minutes.

Ends with exit code 3 where a figure is beyond `LIMITS`. With ``--file`` the same recordings are given as one file;
``times_real_time`` tells how fast it was read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.results import Row, new_results
from benchmarks.tables import RESULTS
from benchmarks.virtual_microphone import virtual_microphone
from distill.corpora.read import read_corpus
from edge_runtime.audio import SAMPLE_RATE, Pcm, read_audio
from edge_runtime.bundle import load_bundle
from edge_runtime.config import GateSettings
from edge_runtime.console import console
from edge_runtime.errors import EdgeemoError, GateError
from edge_runtime.events import EmotionEvent, Event, StatusEvent, parse_event

_PAUSES = (1.0, 3.0)
"""Seconds between two utterances, at least and at most."""
LIMITS = {
    "clock_drift": 0.01,
    "lost_samples": 0,
    "sink_troubles": 0,
    "cpu_share": 0.05,
    "memory_most_mb": 150,
    "memory_growth_mb_per_hour": 3,
}
"""What a listener may do at most, at a hop of 0.5 s."""
_SETTLING_SECONDS = 300
_TOGETHER = 10
"""Utterances whose offset is sought at once."""
_FARTHEST = 20.0
"""Seconds by which heard time may be behind played time at first."""
_MORE = 6.0
"""Seconds by which that may grow from some utterances to the next."""
_PLAYER = ("pacat", "--raw", f"--rate={SAMPLE_RATE}", "--channels=1", "--format=s16le", "--latency-msec=2000")
_FRAME = SAMPLE_RATE // 50
_SOUND_DB = -30.0
"""An utterance's sound ends with its last 20 ms above this, relative to its loudest."""


@dataclass
class Playlist:
    """What is played, one after the other.

    Attributes:
        paths: recordings to choose from.
        seed: of their order and of the pauses.
        spans: ``(start, end)`` in played seconds of each utterance's sound so far.
        whole: whether all of it has been given.
    """

    paths: Sequence[Path]
    seed: int
    spans: list[tuple[float, float]] = field(default_factory=list)
    whole: bool = False

    def audio(self, seconds: float) -> Iterator[Pcm]:
        """Yield pauses and recordings until so many seconds have been given."""
        noise = np.random.default_rng(self.seed)
        position = 0
        while position < seconds * SAMPLE_RATE:
            pause = np.zeros(round(noise.uniform(*_PAUSES) * SAMPLE_RATE), np.float32)
            pcm = read_audio(self.paths[int(noise.integers(len(self.paths)))])
            begin = position + len(pause)
            first, last = sounding(pcm)
            self.spans.append(((begin + first) / SAMPLE_RATE, (begin + last) / SAMPLE_RATE))
            position = begin + len(pcm)
            yield pause
            yield pcm
        yield np.zeros(3 * SAMPLE_RATE, np.float32)
        self.whole = True


def sounding(pcm: Pcm) -> tuple[int, int]:
    """Return the first sample of a recording ``[samples]`` that sounds, and the one after the last."""
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (_SOUND_DB / 20))
    return (int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME) if len(loud) else (0, len(pcm))


@dataclass
class Heard:
    """What the listener said, each event with the time (`time.monotonic`) at which it came out."""

    events: list[tuple[float, Event]] = field(default_factory=list)

    def read(self, stream: IO[str]) -> None:
        """Read events until the stream ends."""
        for line in stream:
            self.events.append((time.monotonic(), parse_event(line)))

    def emotions(self, kind: str) -> list[tuple[float, EmotionEvent]]:
        """Return the emotion events of a type."""
        return [(at, event) for at, event in self.events if isinstance(event, EmotionEvent) and event.type == kind]

    def statuses(self) -> list[StatusEvent]:
        """Return the status events."""
        return [event for _, event in self.events if isinstance(event, StatusEvent)]


@dataclass
class Use:
    """Processor time and resident memory of a process, sampled."""

    pid: int
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    def look(self) -> None:
        """Take a sample: ``(time, CPU seconds, resident MB)``."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.samples.append((time.monotonic(), cpu, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    def figures(self) -> dict[str, float]:
        """Return shares and slopes; what is said of growth leaves out the first minutes."""
        table = np.array(self.samples)
        settled = table[table[:, 0] - table[0, 0] >= min(_SETTLING_SECONDS, (table[-1, 0] - table[0, 0]) / 2)]
        hours = settled[:, 0] / 3600
        slope = float(np.polyfit(hours - hours[0], settled[:, 2], 1)[0]) if len(settled) > 2 else 0.0
        span = table[-1] - table[0]
        return {
            "cpu_share": float(span[1] / span[0]),
            "memory_first_mb": float(settled[0, 2]),
            "memory_last_mb": float(table[-1, 2]),
            "memory_most_mb": float(table[:, 2].max()),
            "memory_growth_mb_per_hour": slope,
        }


@dataclass(frozen=True)
class Match:
    """Which final event covers which utterance.

    Attributes:
        events: ``[utterances]`` index of the event, -1 for none.
        offsets: ``[utterances]`` seconds from played to heard time.
    """

    events: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float64]

    @property
    def heard(self) -> int:
        """How many utterances an event covers."""
        return int((self.events >= 0).sum())


def match(spans: Sequence[tuple[float, float]], finals: Sequence[EmotionEvent]) -> Match:
    """Find the final event of each utterance.

    The offset from played to heard time is sought for some utterances at a time, as the one under which they and the
    events overlap most: it grows whenever the player is late on a busy machine, by a gap that nobody played.
    """
    played = np.array(spans)
    heard = np.array([[event.start, event.end] for event in finals]).reshape(-1, 2)
    events = np.full(len(played), -1)
    offsets = np.zeros(len(played))
    if not len(heard):
        return Match(events, offsets)
    groups = [slice(first, first + _TOGETHER) for first in range(0, len(played), _TOGETHER)]
    found: list[float] = []
    for group in groups:
        low, high = (found[-1] - 1.0, found[-1] + _MORE) if found else (-1.0, _FARTHEST)
        found.append(_offset(played[group], heard, low, high))
    for number, group in enumerate(groups):
        # Within some utterances the player may go over from the offset before to the one after.
        shared = np.stack([_overlaps(played[group] + by, heard) for by in found[max(0, number - 1) : number + 2]])
        best = shared.max(axis=0)
        events[group] = np.where(best.max(axis=1) > 0, best.argmax(axis=1), -1)
    hit = np.flatnonzero(events >= 0)
    # An event begins before its sound, by the padding.
    exact = heard[events[hit], 0] + GateSettings().padding - played[hit, 0]
    offsets[hit] = [np.median(exact[max(0, place - 2) : place + 3]) for place in range(len(hit))]
    return Match(events, offsets)


def _offset(played: npt.NDArray[np.float64], heard: npt.NDArray[np.float64], low: float, high: float) -> float:
    """Return the offset between two bounds under which ``[N, 2]`` and ``[M, 2]`` overlap most; the lower, for none."""
    every = np.unique((heard[:, 0][:, None] - played[:, 0]).round(2))
    candidates = every[(every >= low) & (every <= high)]
    if not len(candidates):
        return low
    shared = [_overlaps(played + by, heard).max(axis=1).sum() for by in candidates]
    return float(candidates[int(np.argmax(shared))])


def _overlaps(played: npt.NDArray[np.float64], heard: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the seconds that each of ``[N, 2]`` and ``[M, 2]`` share, ``[N, M]``."""
    shared = np.minimum(played[:, 1:], heard[:, 1]) - np.maximum(played[:, :1], heard[:, 0])
    return np.asarray(shared.clip(min=0))


def responses(playlist: Playlist, heard: Heard, found: Match) -> list[float]:
    """Return the seconds from the end of each heard utterance's sound to its final event.

    When a sample was captured is told by the events of the last minutes: each came out ``latency_ms`` after the block
    that held the sample which ended it, so none of them can have been captured later.
    """
    gate = GateSettings()
    finals = heard.emotions("final")
    began = np.array(
        [
            at - event.latency_ms / 1000 - (event.end - gate.padding + gate.minimum_silence)
            for at, event in finals
            if event.windows
        ]
    )
    waited = []
    for (_, end), event, offset in zip(playlist.spans, found.events, found.offsets, strict=True):
        if event >= 0:
            zero = float(np.median(began[max(0, event - 20) : event + 21]))
            waited.append(finals[event][0] - (zero + end + offset))
    return waited


def soak(bundle: Path, paths: Sequence[Path], minutes: float, options: Sequence[str], seed: int) -> dict[str, float]:
    """Play and listen for so many minutes; return the figures.

    Raises:
        MissingPartError: PulseAudio is not installed.
        EdgeemoError: the listener ends too early.
    """
    playlist, heard = Playlist(paths, seed), Heard()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak"))
        environment = stack.enter_context(virtual_microphone(Path(folder)))
        listener = _listener(bundle, options, environment)
        stack.callback(listener.kill)
        assert listener.stdout is not None
        reader = threading.Thread(target=heard.read, args=(listener.stdout,), daemon=True)
        reader.start()
        _wait(lambda: bool(heard.events), listener)
        use = Use(listener.pid)
        player = subprocess.Popen(_PLAYER, env=environment, stdin=subprocess.PIPE)
        stack.callback(player.kill)
        assert player.stdin is not None
        feeder = threading.Thread(target=_play, args=(playlist, minutes * 60, player.stdin), daemon=True)
        feeder.start()
        while feeder.is_alive():
            use.look()
            feeder.join(timeout=10)
            if listener.poll() is not None:
                raise EdgeemoError(f"the listener ended early, with exit code {listener.returncode}")
        if player.wait(timeout=60) or not playlist.whole:
            raise EdgeemoError(f"the player ended early, with exit code {player.returncode}")
        time.sleep(3)
        use.look()
        listener.terminate()
        listener.wait(timeout=60)
        reader.join(timeout=60)
        wall = heard.events[-1][0] - heard.events[0][0]
    if listener.returncode:
        raise EdgeemoError(f"the listener ended with exit code {listener.returncode}")
    found = match(playlist.spans, [event for _, event in heard.emotions("final")])
    waited = np.array(responses(playlist, heard, found)) if found.heard else np.zeros(1)
    statuses = [event.status for event in heard.statuses()]
    return {
        "minutes": wall / 60,
        **_counts(playlist, heard, found),
        "clock_drift": heard.events[-1][1].end / wall - 1.0,
        "lost_samples": heard.events[-1][1].dropped_samples,
        "sink_troubles": sum(event.status == "sink" for event in heard.statuses()),
        "status_events": len(statuses) - statuses.count("started") - statuses.count("stopped"),
        "response_p50_s": float(np.percentile(waited, 50)),
        "response_p90_s": float(np.percentile(waited, 90)),
        **use.figures(),
    }


def through_file(
    bundle: Path, paths: Sequence[Path], minutes: float, options: Sequence[str], seed: int
) -> dict[str, float]:
    """Give the listener the same as one file, as fast as it takes it; return the figures.

    Raises:
        EdgeemoError: the listener fails.
    """
    playlist, heard = Playlist(paths, seed), Heard()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        path = Path(folder) / "playlist.wav"
        with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, subtype="PCM_16") as file:
            for pcm in playlist.audio(minutes * 60):
                file.write(pcm)
            seconds = file.frames / SAMPLE_RATE
        listener = _listener(bundle, ["--source", str(path), *options], dict(os.environ))
        assert listener.stdout is not None
        with listener.stdout:
            heard.read(listener.stdout)
        if listener.wait(timeout=60):
            raise EdgeemoError(f"the listener ended with exit code {listener.returncode}")
    found = match(playlist.spans, [event for _, event in heard.emotions("final")])
    return {
        "minutes": seconds / 60,
        **_counts(playlist, heard, found),
        "times_real_time": seconds / (heard.events[-1][0] - heard.events[0][0]),
    }


def _listener(bundle: Path, options: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge_runtime", "listen", str(bundle), "--sink", "stdout", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _counts(playlist: Playlist, heard: Heard, found: Match) -> dict[str, float]:
    return {
        "utterances": len(playlist.spans),
        "heard": found.heard,
        "final_events": len(heard.emotions("final")),
        "provisional_events": len(heard.emotions("provisional")),
    }


def _play(playlist: Playlist, seconds: float, pipe: IO[bytes]) -> None:
    with pipe:
        for pcm in playlist.audio(seconds):
            pipe.write((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())


def _wait(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise EdgeemoError("the listener does not start")
        time.sleep(0.05)


def beyond_limits(figures: Mapping[str, float]) -> list[str]:
    """Return the figures that are beyond what DESIGN and the soak's own issue ask for, each with its limit."""
    passed = [
        f"{name} is {figures[name]:.4g}, beyond {limit:g}"
        for name, limit in LIMITS.items()
        if name in figures and abs(figures[name]) > limit
    ]
    missed = figures["utterances"] - figures["heard"]
    return passed + ([f"{missed:g} utterances were not heard"] if missed else [])


@click.command("soak")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="Whose recordings are played.")
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--hop", default=0.5, show_default=True, help="Seconds from one window to the next.")
@click.option("--name", default="soak", show_default=True, help="Of the file under benchmarks/results.")
@click.option("--seed", default=0, show_default=True)
@click.option("--sink", "sinks", multiple=True, help="Further sinks of the listener.")
@click.option("--file", "as_file", is_flag=True, help="The same as one file, as fast as the listener takes it.")
def main(
    bundle: Path,
    corpus: Path,
    minutes: float,
    hop: float,
    name: str,
    seed: int,
    sinks: tuple[str, ...],
    as_file: bool,
) -> None:
    """Play speech to a listener for MINUTES through a virtual microphone, and write what it took."""
    began = time.monotonic()
    found = read_corpus(corpus)
    extra = [word for sink in sinks for word in ("--sink", sink)]
    figures = (through_file if as_file else soak)(
        bundle,
        [utterance.path for utterance in found.utterances],
        minutes,
        ["--hop", str(hop), *extra],
        seed,
    )
    manifest = load_bundle(bundle).manifest
    row = Row(
        system="listen",
        corpus=found.facts.name,
        parameters=manifest.encoder.parameters,
        figures={key: round(value, 6) for key, value in figures.items()},
        note=f"window {manifest.window.seconds:g} s, hop {hop:g} s",
    )
    path = RESULTS / f"{name}.json"
    new_results([row], seconds=time.monotonic() - began, seeds=[seed]).write(path)
    console.print(f"{path}; {row.figures}")
    if passed := beyond_limits(figures):
        raise GateError(f"{path}: beyond what a listener may do: {', '.join(passed)}")


if __name__ == "__main__":
    main()
