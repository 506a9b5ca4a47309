"""All measurements on the device: latency, stages, start, the machine's limit, energy.

They need windows of speech, no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.bench.device.cold_start import measure_cold_start, measure_engine_build
from benchmarks.bench.device.device_sections import (
    ColdStart,
    Energy,
    EngineBuild,
    MachineLimit,
    MachineState,
    OperatorProfile,
    Stage,
    Sweep,
    Timing,
)
from benchmarks.bench.device.energy import Meter, MeterError, count, count_idle, find_meter, per_window
from benchmarks.bench.device.latency import Latency, time_in_turns, time_paced
from benchmarks.bench.device.machine_limit import graph_rate, measure_limit
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.device.operators import profile_operators
from benchmarks.bench.device.stages import measure_stages
from benchmarks.bench.device.sweep import Speech, measure_sweep
from edge_runtime.backends import best_precision, open_engine, tensorrt_here
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.sources.audio import Pcm

_PACED_WARM_UP = 2

WINDOWS = 16
"""Number of different windows to time."""


@dataclass(frozen=True)
class DeviceOptions:
    """Extent of the measurements.

    Attributes:
        rounds: timed calls of each system, back to back.
        threads: of the engines.
        seconds: length of the timed windows; None for that of the bundle.
        full: also operators, lengths of the window by threads, and the build of an engine.
        paced: timed calls of each graph once a hop, with their energy; 0 for none.
        starts: processes whose cold start is measured.
    """

    rounds: int = 100
    threads: int = 1
    seconds: float | None = None
    full: bool = False
    paced: int = 0
    starts: int = 3


@dataclass(frozen=True)
class DeviceFigures:
    """Measurements as sections of a results file; those that were not requested are None.

    Attributes:
        latencies: back to back, by name of the system; the others are fields of `benchmarks.bench.results.Results`.
    """

    latencies: dict[str, Latency]
    timings: list[Timing]
    cold_starts: list[ColdStart]
    stages: list[Stage]
    machine_limit: MachineLimit
    machine: MachineState
    sweep: Sweep | None = None
    operators: list[OperatorProfile] | None = None
    engine_build: EngineBuild | None = None
    energy: Energy | None = None


def student(precision: str) -> str:
    """Return the name of a graph's timings."""
    return f"student {precision}"


def measure_device(
    bundle: Bundle,
    speech: Speech,
    precisions: tuple[Precision, ...],
    options: DeviceOptions,
    *,
    others: Mapping[str, Callable[[Pcm], object]] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> DeviceFigures:
    """Measure a bundle's graphs on this machine.

    Args:
        bundle: a verified bundle.
        speech: returns windows of speech.
        precisions: graphs for ONNX Runtime on the CPU; TensorRT is timed too where it is available.
        options: extent of the measurements.
        others: systems to time in turns with the graphs, by name.
        say: receives a line before each measurement.

    Raises:
        EdgeemoError: a graph does not run.
    """
    before = machine_moment()
    seconds = options.seconds or bundle.manifest.window.seconds
    windows = speech(seconds, WINDOWS)
    with ExitStack() as stack:
        systems: dict[str, Callable[[Pcm], object]] = {
            student(each): OnnxEngine.of(bundle, each, threads=options.threads).score for each in precisions
        }
        if tensorrt_here() is not None:
            engine = open_engine(bundle, "tensorrt", best_precision(bundle), say=say)
            stack.callback(engine.close)
            systems[f"student {engine.backend}"] = engine.score
        say(f"latency: {options.rounds} windows each, in turns")
        latencies = time_in_turns({**systems, **(others or {})}, windows, rounds=options.rounds)
        limit = _limit(bundle, latencies, precisions, options, seconds)
        say("stages, and the start of a fresh process")
        fastest = min(precisions, key=lambda each: latencies[student(each)].median)
        stages = measure_stages(bundle.manifest, windows, latencies[student(fastest)], fastest)
        starts = [measure_cold_start(bundle.root, each, options.threads, starts=options.starts) for each in precisions]
        paced, energy = _paced(bundle, systems, windows, options, say) if options.paced else ({}, None)
    timed = [
        each.timing(name, options.threads if name in systems else None)
        for found in (latencies, paced)
        for name, each in found.items()
    ]
    sweep: Sweep | None = None
    operators: list[OperatorProfile] | None = None
    build: EngineBuild | None = None
    if options.full:
        say("operators, and lengths of the window by threads")
        operators = [profile_operators(bundle, each, windows, threads=options.threads) for each in precisions]
        sweep = measure_sweep(bundle, speech, precisions)
        build = measure_engine_build(bundle)
    return DeviceFigures(
        latencies=latencies,
        timings=timed,
        cold_starts=starts,
        stages=stages,
        machine_limit=limit,
        machine=machine_state(before, machine_moment()),
        sweep=sweep,
        operators=operators,
        engine_build=build,
        energy=energy,
    )


def _limit(
    bundle: Bundle,
    latencies: Mapping[str, Latency],
    precisions: tuple[Precision, ...],
    options: DeviceOptions,
    seconds: float,
) -> MachineLimit:
    limit = measure_limit(options.threads)
    found = []
    for each in precisions:
        latency = latencies[student(each)]
        rate = graph_rate(limit, bundle.manifest, each, seconds, latency.median, min(latency.milliseconds))
        found += [rate] if rate is not None else []
    return limit.model_copy(update={"graphs": found})


def _paced(
    bundle: Bundle,
    systems: Mapping[str, Callable[[Pcm], object]],
    windows: list[Pcm],
    options: DeviceOptions,
    say: Callable[[str], None],
) -> tuple[dict[str, Latency], Energy]:
    """Time each system alone, once a hop, and measure its energy where there is a meter."""
    hop, warm_up = bundle.manifest.window.hop_seconds, _PACED_WARM_UP
    if bundle.manifest.window.chunk:
        # What a hop costs: of a window that grows, only its last chunk is encoded.
        windows = [pcm[: bundle.manifest.window.chunk] for pcm in windows]
    found: dict[str, Latency] = {}
    meter: Meter | None = None
    energy = Energy()
    try:
        meter = find_meter()
        idle, energy = count_idle(meter, say)
    except MeterError as error:
        meter, energy = None, Energy(not_measured=f"not available: {error}")
    for name, call in systems.items():
        say(f"paced: {name}, {options.paced} windows, one every {hop:g} s")

        def run(name: str = name, call: Callable[[Pcm], object] = call) -> None:
            found[name] = time_paced(call, windows, rounds=options.paced, hop_seconds=hop, warm_up=warm_up)

        if meter is None:
            run()
            continue
        try:
            spent = count(meter, run)
            energy.systems.append(per_window(name, options.paced + warm_up, spent, idle))
        except MeterError as error:
            energy = Energy(not_measured=f"not available: {error}")
            meter = None
    return found, energy
