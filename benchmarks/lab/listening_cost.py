"""What listening costs: ``python -m benchmarks.lab.listening_cost BUNDLE BUNDLE``.

Each bundle processes the same conversation, in blocks of 100 ms as from a microphone, on one thread: voice activity
detection, segments, windows, engine, decision. All take turns in one process, so that the machine is the same for all.
The unit is CPU time, which other load changes less than time. Two bounds are measured beside them: detection of speech
alone, what the listener would cost without any model; and each bundle with the longest hop, where few utterances have
another decision than the final one, so that hardly any second of speech is encoded twice. With ``--before CHECKOUT``
an earlier state of the project measures itself by its own program, before and after, and all times are relative to its
own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.bench.accuracy.playback import Playlist
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.options import RESULTS, corpus_or_rendered, publish, say
from benchmarks.lab.streams import SHARES, pauses_for
from benchmarks.lab.views.growth_columns import CONVERSATION, COST
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.config import DecisionSettings, ListenSettings, VadSettings
from edge_runtime.errors import EdgeemoError, Tool, WrongUseError
from edge_runtime.events import EmotionEvent
from edge_runtime.loop.vad import VadIterator
from edge_runtime.model import Model
from edge_runtime.parameters import Number, count_option, path_option
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.silero import FRAME, SileroDetector

_BLOCK = SAMPLE_RATE // 10
Figures = dict[str, float]
_VAD = "detection of speech alone"


def _events(model: Model, pcm: Pcm) -> int:
    """Return the number of decisions on a recording that arrives block by block."""
    stream = model.stream(SAMPLE_RATE)
    found = [event for start in range(0, len(pcm), _BLOCK) for event in stream.feed(pcm[start : start + _BLOCK])]
    return sum(isinstance(event, EmotionEvent) for event in [*found, *stream.close()])


def _detected(pcm: Pcm) -> int:
    vad = VadIterator(VadSettings(), SileroDetector())
    for start in range(0, len(pcm), _BLOCK):
        block = pcm[start : start + _BLOCK]
        for probability in vad.probabilities(block[: len(block) // FRAME * FRAME]):
            vad.process(probability)
    return 0


def _measured_by(checkout: Path, corpus: Path | None, seconds: float, rounds: int) -> dict[str, Figures]:
    """Return the figures that another checkout measures of its own default bundle, by system."""
    with tempfile.TemporaryDirectory(prefix="cost") as folder:
        out = Path(folder) / "cost.json"
        command = [sys.executable, "-m", "benchmarks.lab.listening_cost", "edge_runtime/default", "--out", str(out)]
        command += ["--seconds", f"{seconds:g}", "--rounds", str(rounds)]
        command += ["--corpus", str(corpus.resolve())] if corpus else []
        paths = os.environ | {"PYTHONPATH": str(checkout.resolve())}
        done = subprocess.run(command, cwd=checkout, env=paths, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EdgeemoError(f"{checkout}: its own benchmarks.lab.listening_cost fails: {done.stderr[-300:].strip()}")
        return {row["system"]: row["figures"] for row in json.loads(out.read_text())["rows"]}


@click.command("listening-cost", cls=Tool)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@path_option("--out", "Where figures go.", default=RESULTS / "listening-cost.json", show_default="listening-cost.json")
@path_option("--corpus", "A corpus of speech.  [default: render one]", exists=True)
@click.option("--seconds", type=Number(10), default=300.0, show_default=True, help="Length of the conversation.")
@count_option("--rounds", "Turns of each bundle.", default=5)
@path_option("--before", "A checkout of an earlier state, which is measured in the same run.", exists=True)
def main(
    bundles: tuple[Path, ...], out: Path, corpus: Path | None, seconds: float, rounds: int, before: Path | None
) -> None:
    """Measure the CPU time of listening with BUNDLES, in one run, relative to the first one.

    \b
    Example:
      python -m benchmarks.lab.listening_cost before now --seconds 60 --rounds 2
    """
    began, moment = time.monotonic(), machine_moment()
    if len({path.name for path in bundles}) < len(bundles):
        raise WrongUseError("two bundles have one name; give directories with different names")
    first = _measured_by(before, corpus, seconds, rounds) if before else {}
    opened = {path.name: Model(load_bundle(path)) for path in bundles}
    for path in bundles:
        bundle = load_bundle(path)
        longest = min(bundle.manifest.window.seconds, 10.0)
        sparse = ListenSettings(decision=DecisionSettings(hop_seconds=longest))
        opened[f"{path.name}, hop {longest:g} s"] = Model(bundle, sparse)
    with tempfile.TemporaryDirectory(prefix="cost") as folder:
        found = corpus_or_rendered(corpus, Path(folder))
        paths = [item.path for item in found.utterances]
        playlist = Playlist(paths, 0, pauses_for(SHARES[CONVERSATION], paths[:50]))
        pcm = np.concatenate(list(playlist.audio(seconds)))
    speech = sum(end - start for start, end in playlist.spans)
    length = len(pcm) / SAMPLE_RATE
    systems: dict[str, Callable[[], int]] = {
        _VAD: lambda: _detected(pcm),
        **{name: lambda model=model: _events(model, pcm) for name, model in opened.items()},  # type: ignore[misc]
    }
    spent: dict[str, list[float]] = {name: [] for name in systems}
    decisions: dict[str, int] = {}
    for turn in range(-1, rounds):
        for name, run in systems.items():
            start = time.process_time()
            decisions[name] = run()
            if turn >= 0:
                spent[name].append(time.process_time() - start)
                say(f"{name}, turn {turn + 1}: {spent[name][-1] / length:.1%} of the time")
    figures: dict[str, Figures] = {
        name: {
            "cpu_ms_per_speech_second": 1000 * float(np.median(each)) / speech,
            "cpu_seconds_per_hour": 3600 * float(np.median(each)) / length,
            "decisions": float(decisions[name]),
            "speech_share": speech / length,
        }
        for name, each in spent.items()
    }
    if before:
        second = _measured_by(before, corpus, seconds, rounds)
        means = {system: {key: (each[key] + second[system][key]) / 2 for key in each} for system, each in first.items()}
        figures = {f"before: {system}": each for system, each in means.items()} | figures
    baseline = figures[f"before: {DEFAULT_BUNDLE.name}" if before else bundles[0].name]["cpu_ms_per_speech_second"]
    rows = [
        Row(
            system=name,
            corpus=found.facts.name,
            sweep=COST,
            parameters=opened[name].bundle.manifest.encoder.parameters if name in opened else None,
            precision=opened[name].precision if name in opened else None,
            figures={key: round(value, 4) for key, value in each.items()}
            | {"ratio": round(each["cpu_ms_per_speech_second"] / baseline, 4)},
            note=f"{length:.0f} s of conversation, median of {rounds} turns, one thread",
        )
        for name, each in figures.items()
    ]
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[0])
    results.machine = machine_state(moment, machine_moment())
    publish(results, out)


if __name__ == "__main__":
    main()
