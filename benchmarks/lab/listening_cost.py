"""What listening costs: ``python -m benchmarks.lab.listening_cost BUNDLE BUNDLE``.

Each bundle processes the same conversation, in blocks of 100 ms as from a microphone, on one thread: voice activity
detection, segments, windows, engine, decision. All take turns in one process, so that the machine is the same for all.
The unit is CPU time, which other load changes less than time. Two bounds are measured beside them: detection of speech
alone, what the listener would cost without any model; and each bundle with the longest hop, where few utterances have
another decision than the final one, so that hardly any second of speech is encoded twice. With ``--before CHECKOUT``
`edgeemo listen` of an earlier state of the project and of this one process the recording too, each with its own default
bundle in a process of its own, less the CPU time of a process that processes a second of silence.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import soundfile

from benchmarks.bench.accuracy.playback import Playlist
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.results import Row, new_results
from benchmarks.lab.command_cost import cost_of
from benchmarks.lab.options import RESULTS, corpus_or_rendered, publish, say
from benchmarks.lab.streams import SHARES, pauses_for
from benchmarks.lab.views.growth_columns import CONVERSATION, COST
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import DecisionSettings, ListenSettings, VadSettings
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.events import EmotionEvent
from edge_runtime.loop.vad import VadIterator
from edge_runtime.model import Model
from edge_runtime.parameters import Number, count_option, path_option
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.silero import FRAME, SileroDetector

_ROOT = Path(__file__).parents[2]
_BLOCK = SAMPLE_RATE // 10
Figures = dict[str, float]
_VAD = "detection of speech alone"


def _streamed(model: Model, pcm: Pcm) -> tuple[float, int]:
    """Return the CPU time and the number of decisions on a recording that arrives block by block."""
    began, stream = time.process_time(), model.stream(SAMPLE_RATE)
    found = [event for start in range(0, len(pcm), _BLOCK) for event in stream.feed(pcm[start : start + _BLOCK])]
    decisions = sum(isinstance(event, EmotionEvent) for event in [*found, *stream.close()])
    return time.process_time() - began, decisions


def _detected(pcm: Pcm) -> tuple[float, int]:
    began = time.process_time()
    vad = VadIterator(VadSettings(), SileroDetector())
    for start in range(0, len(pcm) - FRAME, 3 * FRAME):
        block = pcm[start : start + 3 * FRAME]
        for probability in vad.probabilities(block[: len(block) // FRAME * FRAME]):
            vad.process(probability)
    return time.process_time() - began, 0


def _process(checkout: Path, pcm: Pcm, folder: Path) -> tuple[float, int]:
    """Return the CPU time and the decisions of a checkout's `edgeemo listen`, without what its start costs."""
    recording, log = folder / "recording.wav", folder / "events.jsonl"
    listen = [sys.executable, "-m", "edge_runtime", "listen", "--source", recording, "--json"]
    spent = []
    for samples in (np.zeros(SAMPLE_RATE, np.float32), pcm):
        soundfile.write(recording, samples, SAMPLE_RATE, subtype="FLOAT")
        # A file sink leaves out provisional events, so standard output goes to the file.
        spent.append(cost_of(["sh", "-c", 'exec "$@" > "$0"', log, *listen], cwd=checkout).cpu_seconds)
    types = [json.loads(line)["type"] for line in log.read_text(encoding="utf-8").splitlines()]
    return spent[1] - spent[0], types.count("provisional") + types.count("final")


def _commit(checkout: Path) -> str:
    """Return the short commit of a checkout; its name where it is none."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or checkout.name


@click.command("listening-cost", cls=Tool)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@path_option("--out", "Where figures go.", default=RESULTS / "listening-cost.json", show_default="listening-cost.json")
@path_option("--corpus", "A corpus of speech.  [default: render one]", exists=True)
@click.option("--seconds", type=Number(10), default=300.0, show_default=True, help="Length of the conversation.")
@count_option("--rounds", "Turns of each bundle.", default=5)
@click.option(
    "--before",
    multiple=True,
    metavar="CHECKOUT",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A checkout of an earlier state, measured in the same run; repeatable.",
)
def main(
    bundles: tuple[Path, ...], out: Path, corpus: Path | None, seconds: float, rounds: int, before: tuple[Path, ...]
) -> None:
    """Measure the CPU time of listening with BUNDLES, in one run, relative to the first one or the first --before.

    \b
    Example:
      python -m benchmarks.lab.listening_cost before now --seconds 60 --rounds 2
    """
    began, moment = time.monotonic(), machine_moment()
    if len({path.name for path in bundles}) < len(bundles):
        raise WrongUseError("two bundles have one name; give directories with different names")
    for checkout in before:
        if not (checkout / "edge_runtime" / "__main__.py").is_file():
            raise WrongUseError(f"--before: {checkout} holds no edge_runtime")
    opened = {path.name: Model(load_bundle(path)) for path in bundles}
    for path in bundles:
        bundle = load_bundle(path)
        longest = min(bundle.manifest.window.seconds, 10.0)
        sparse = ListenSettings(decision=DecisionSettings(hop_seconds=longest))
        opened[f"{path.name}, hop {longest:g} s"] = Model(bundle, sparse)
    with tempfile.TemporaryDirectory(prefix="cost") as place:
        folder = Path(place)
        found = corpus_or_rendered(corpus, folder)
        paths = [item.path for item in found.utterances]
        playlist = Playlist(paths, 0, pauses_for(SHARES[CONVERSATION], paths[:50]))
        pcm = np.concatenate(list(playlist.audio(seconds)))
        systems: dict[str, Callable[[], tuple[float, int]]] = {
            **{f"process of {_commit(each)}": partial(_process, each, pcm, folder) for each in before},
            **({"process of this state": partial(_process, _ROOT, pcm, folder)} if before else {}),
            _VAD: partial(_detected, pcm),
            **{name: partial(_streamed, model, pcm) for name, model in opened.items()},
        }
        spent: dict[str, list[float]] = {name: [] for name in systems}
        decisions: dict[str, int] = {}
        for turn in range(-1, rounds):
            for name, run in systems.items():
                took, decisions[name] = run()
                if turn >= 0:
                    spent[name].append(took)
                    say(f"{name}, turn {turn + 1}: {took / len(pcm) * SAMPLE_RATE:.1%} of the time")
    speech = sum(end - start for start, end in playlist.spans)
    length = len(pcm) / SAMPLE_RATE
    figures: dict[str, Figures] = {
        name: {
            "cpu_ms_per_speech_second": 1000 * float(np.median(each)) / speech,
            "cpu_seconds_per_hour": 3600 * float(np.median(each)) / length,
            "decisions": float(decisions[name]),
            "speech_share": speech / length,
        }
        for name, each in spent.items()
    }
    baseline = figures[next(iter(systems)) if before else bundles[0].name]["cpu_ms_per_speech_second"]
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
