"""Students compared with other systems: accuracy on the same folds, latency on one core in the same run.

``python -m benchmarks.lab.peers NAME --corpus PATH --bundle student=BUNDLE --folds SYSTEM=DIR ...`` writes
``benchmarks/results/NAME.json`` and ``NAME.svg``; the table is the view ``peers`` of `benchmarks.lab.tables`.

All systems take turns on one core, one call each per round, so that a temporary slowdown of the machine affects all of
them. Each turn begins with an untimed call, so that the contents of the caches do not depend on the previous system.
Accuracy is read from the given folds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.bench.compare.ratios import ratio_of_medians
from benchmarks.bench.device.device_sections import Energy
from benchmarks.bench.device.energy import MeterError, count, count_idle, find_meter, per_window
from benchmarks.bench.device.environment import describe_board
from benchmarks.bench.device.latency import Latency, time_in_turns
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.measure import equal_windows
from benchmarks.bench.results import Ratio, Row, new_results
from benchmarks.lab.options import out_option, publish, say
from benchmarks.lab.peer_accuracy import PeerAccuracy, read_accuracy
from benchmarks.lab.peer_systems import (
    WINDOW_SECONDS,
    Peer,
    bundle_peers,
    hubert_base,
    light_sernet,
    opensmile_logreg,
    probe,
    pytorch_student,
    tensorrt_peer,
)
from benchmarks.lab.plots import peers_plot
from distill.corpora import read_corpus
from distill.corpora.argument import CORPUS, NamedPath
from distill.corpus import Corpus
from distill.runs.cross_validation import CROSS_VALIDATION, STUDENT, read_cross_validation
from edge_runtime.backends import tensorrt_here
from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.extras import needs_extra
from edge_runtime.parameters import count_option, path_option
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

ROUNDS = 150
"""Enough for a 95th percentile."""
_WINDOWS = 16
_METER_SECONDS = 10.0


@contextmanager
def on_one_core() -> Iterator[int | None]:
    """Keep this process on the last core that it may use; yield None where the system does not support it."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    core = max(before)
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


def time_peers(peers: Sequence[Peer], windows: Sequence[Pcm], rounds: int) -> dict[str, Latency]:
    """Time all systems and their parts in turns, by name."""
    calls = {peer.name: peer.call for peer in peers} | {
        name: call for peer in peers for name, call in peer.parts.items()
    }
    return time_in_turns(calls, windows, rounds=rounds, settle=1)


def measure_energy(
    peers: Sequence[Peer],
    windows: Sequence[Pcm],
    latencies: Mapping[str, Latency],
) -> Energy:
    """Return each system's energy back to back minus that of the idle machine, where there is a meter."""
    try:
        meter = find_meter()
        idle, found = count_idle(meter, say)
        for peer in peers:
            calls = max(_WINDOWS, round(_METER_SECONDS * 1000 / latencies[peer.name].median))
            say(f"energy: {peer.name}, {calls} windows")

            def work(peer: Peer = peer, calls: int = calls) -> None:
                for number in range(calls):
                    peer.call(windows[number % len(windows)])

            found.systems.append(per_window(peer.name, calls, count(meter, work), idle))
    except MeterError as error:
        return Energy(not_measured=f"not available: {error}")
    return found


def make_rows(
    peers: Sequence[Peer], latencies: Mapping[str, Latency], known: PeerAccuracy, corpus: Corpus, yardstick: str
) -> list[Row]:
    """Return a row for each system.

    Args:
        peers: the timed systems.
        latencies: by name of the system or part.
        known: their accuracy.
        corpus: of the folds.
        yardstick: name of the system to which the latencies are compared.
    """
    base = np.array(latencies[yardstick].milliseconds)
    rows = []
    for peer in peers:
        own = latencies[peer.name]
        columns = known.columns(peer)
        if peer.name != yardstick:
            # The bootstrap draws the same rounds for both, since they took turns.
            value, low, high = ratio_of_medians([np.array(own.milliseconds)], [base])
            columns["ratio"] = Ratio(to=yardstick, value=round(value, 6), low=round(low, 6), high=round(high, 6))
        parts = {f"{name} ms": round(latencies[name].median, 3) for name in peer.parts}
        rows.append(
            Row(
                system=peer.system,
                corpus=corpus.facts.name,
                classes=len(corpus.labels),
                precision=peer.precision,
                parameters=peer.parameters,
                macs=peer.macs,
                size_bytes=peer.size_bytes,
                figures=parts or None,
                note=peer.note,
                **own.columns(),
                **columns,
            )
        )
    return rows


def open_peers(
    bundles: Mapping[str, Bundle],
    folds: Mapping[str, Path],
    pytorch: Path | None,
    classes: int,
) -> list[Peer]:
    """Return all systems: graphs, TensorRT where available, checkpoint, other systems.

    Args:
        bundles: by system; the INT8 graph of the first one is the yardstick.
        folds: of the other systems, by system.
        pytorch: run directory of the student to run in PyTorch.
        classes: number of emotions.

    Raises:
        EdgeemoError: something cannot be loaded.
    """
    peers = [peer for system, bundle in bundles.items() for peer in bundle_peers(system, bundle)]
    if tensorrt_here() is not None:
        system, bundle = next(iter(bundles.items()))
        peers.append(tensorrt_peer(system, bundle))
    if pytorch is not None:
        peers.append(pytorch_student(pytorch))
    if "light-sernet" in folds:
        first = read_cross_validation(folds["light-sernet"]).folds[0]
        peers.append(light_sernet(folds["light-sernet"], first, classes))
    peers += [opensmile_logreg(classes), probe(_probed_layers(folds.get("probe")), classes), hubert_base()]
    return peers


def _probed_layers(folder: Path | None) -> tuple[int, ...]:
    if folder is None or not (folder / CROSS_VALIDATION).is_file():
        return (3,)
    return tuple(read_cross_validation(folder).settings["layers"])


def yardstick_of(peers: Sequence[Peer]) -> str:
    """Return the name of the first bundle's INT8 graph, or of its first graph if it has none."""
    first = [peer for peer in peers if peer.system == peers[0].system]
    return next((peer.name for peer in first if peer.precision == "int8-cpu"), first[0].name)


def _by_name(what: str, given: Sequence[NamedPath], default: str | None = None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name = each.name or default
        if name is None:
            raise WrongUseError(f"{what} {each.path}: has no name of a system; give {what} SYSTEM={each.path}")
        if name in found:
            raise WrongUseError(f"{what} {name}: is given twice")
        found[name] = each.path
    return found


@click.command("peers", cls=Tool)
@click.argument("name")
@click.option("--corpus", required=True, type=CORPUS, help="Corpus of the folds; its speech is used for timing.")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    required=True,
    type=CORPUS,
    metavar="[SYSTEM=]PATH",
    help="A student's bundle, repeatable; the INT8 graph of the first one is the yardstick.",
)
@click.option(
    "--folds",
    multiple=True,
    type=CORPUS,
    metavar="SYSTEM=PATH",
    help="Accuracy of a system: folds of student, probe, opensmile-logreg, light-sernet (which is timed only with it).",
)
@click.option(
    "--exports",
    multiple=True,
    type=CORPUS,
    metavar="[SYSTEM=]FILE",
    help="Accuracy of graphs: results of python -m benchmarks.lab.export_table, repeatable; their student is "
    "SYSTEM here.",
)
@path_option("--pytorch", "Run directory of a student to run in PyTorch.", exists=True)
@count_option("--rounds", "Timed calls of each system.", least=3, default=ROUNDS)
@out_option
@needs_extra("export")
def main(
    name: str,
    corpus: NamedPath,
    bundles: tuple[NamedPath, ...],
    folds: tuple[NamedPath, ...],
    exports: tuple[NamedPath, ...],
    pytorch: Path | None,
    rounds: int,
    out: Path,
) -> None:
    """Compare students with other systems and write NAME.json and NAME.svg.

    \b
    Example:
      python -m benchmarks.lab.peers peers --corpus RAVDESS --bundle bundle
    """
    began = time.monotonic()
    speech = read_corpus(corpus.path, skip_broken=True, name=corpus.name)
    places = _by_name("--folds", folds)
    known = read_accuracy(places, exports, speech)
    loaded = {system: load_bundle(path) for system, path in _by_name("--bundle", bundles, STUDENT).items()}
    for system, bundle in loaded.items():
        if set(bundle.manifest.labels) != set(speech.labels):
            raise WrongUseError(f"--bundle {system}={bundle.root}: has other labels than {speech.root}")

    windows = equal_windows([item.path for item in speech.utterances], round(WINDOW_SECONDS * SAMPLE_RATE), _WINDOWS)
    before = machine_moment()
    with on_one_core() as core:
        peers = open_peers(loaded, places, pytorch, len(speech.labels))
        say(f"latency: {len(peers)} systems in turns, {rounds} rounds" + ("" if core is None else f", on core {core}"))
        latencies = time_peers(peers, windows, rounds)
        energy = measure_energy(peers, windows, latencies)
    rows = make_rows(peers, latencies, known, speech, yardstick_of(peers))
    results = new_results(rows, seconds=time.monotonic() - began, seeds=[]).model_copy(
        update={
            "timings": [each.timing(system, threads=1) for system, each in latencies.items()],
            "energy": energy,
            "machine": machine_state(before, machine_moment()),
        }
    )
    results.environment.update(describe_board())
    plot = peers_plot(rows, corpus=speech.facts.name) + "\n"
    publish(results, out / f"{name}.json", plots={f"{name}.svg": plot})


if __name__ == "__main__":
    main()
