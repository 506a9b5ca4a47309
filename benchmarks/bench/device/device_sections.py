"""Sections of a results file that are measured on the device, a pydantic model each.

A section is an optional field of `benchmarks.bench.results.Results`, a pair of templates and a name in
`benchmarks.bench.report.pages.SECTIONS`; a results file without it is valid. A section that could not be measured gives
the reason in ``not_measured`` and has no figures: nothing is estimated in its place.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Section(BaseModel, extra="forbid"):
    """Base of all sections and of what they are made of: unknown fields are errors."""


class Timing(Section):
    """Latency of one system on windows of one length, in ms. A percentile without enough samples is None.

    Attributes:
        system: what was timed, as ``student int8-cpu``.
        way: ``back to back``, or ``paced``: one call a hop, sleeping in between.
        window_seconds: length of the window.
        hop_seconds: from one call to the next, where they were paced.
        threads: of the engine; None for a system that has no such setting.
        calls: how many were timed.
        warm_up_calls: before them, not counted.
        warm_up_first_ms: the first of those.
        warm_up_ms: their median.
        p50_ms: median.
        p90_ms: 90th percentile, from 64 calls on.
        p95_ms: 95th percentile, from 130 calls on.
        p99_ms: 99th percentile, from 662 calls on.
        max_ms: the longest.
        real_time_factor: median over the length of the window.
        late: paced calls that began late because the previous call had not returned.
        samples_ms: every timed call, in order.
    """

    system: str
    way: Literal["back to back", "paced"]
    window_seconds: float
    hop_seconds: float | None = None
    threads: int | None = None
    calls: int
    warm_up_calls: int
    warm_up_first_ms: float | None = None
    warm_up_ms: float | None = None
    p50_ms: float
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float
    real_time_factor: float
    late: int | None = None
    samples_ms: list[float] | None = None


class SweepPoint(Section):
    """Median latency of one graph at one length of window and one number of threads."""

    precision: str
    window_seconds: float
    threads: int
    p50_ms: float
    max_ms: float
    real_time_factor: float


class Sweep(Section):
    """Latency over lengths of the window and threads.

    Attributes:
        calls: how many were timed for each point, back to back.
        points: what was measured.
        too_long: lengths in seconds that the graphs cannot process: an encoder with learned positions has only those of
            the window that it was trained with.
    """

    calls: int
    points: list[SweepPoint]
    too_long: list[float] = []


class ColdStart(Section):
    """Time from the start of a process to its first scored window, and memory of the process.

    Every time is the median over ``starts`` processes; the bundle is in the page cache from the second one on, and the
    median of three hides the first.

    Attributes:
        precision: of the graph.
        threads: of the engine.
        starts: processes that were started.
        interpreter_ms: from the start of the process to the first line of our Python code.
        imports_ms: importing the runtime.
        bundle_ms: reading and verifying the bundle.
        load_ms: creating the engine, which loads the model.
        first_window_ms: scoring the first window.
        total_ms: from the start of the process to the scored window.
        resident_before_mb: memory before the bundle is read, the runtime imported (MB of a million bytes).
        resident_loaded_mb: with the engine created and one window scored.
        resident_scoring_mb: at most while windows are scored.
        process_threads: threads of the process while it scores, all libraries' included.
    """

    precision: str
    threads: int
    starts: int
    interpreter_ms: float
    imports_ms: float
    bundle_ms: float
    load_ms: float
    first_window_ms: float
    total_ms: float
    resident_before_mb: float
    resident_loaded_mb: float
    resident_scoring_mb: float
    process_threads: int | None = None


class EngineBuild(Section):
    """Time that TensorRT needs to build an engine, once per device; the build runs in a separate process."""

    precision: str | None = None
    library: str | None = None
    seconds: float | None = None
    not_measured: str = ""


class Stage(Section):
    """One stage of the runtime on its own.

    Attributes:
        stage: its name.
        unit: what one call of it handles.
        calls: how many were timed; 0 for a time that the design gives.
        calls_per_hop: how often it runs for one hop of audio.
        p50_ms: median of a call.
        p90_ms: 90th percentile, from 64 calls on.
        max_ms: the longest call.
        per_hop_ms: median times calls per hop; None where it is a wait and no work.
    """

    stage: str
    unit: str
    calls: int
    calls_per_hop: float
    p50_ms: float
    p90_ms: float | None = None
    max_ms: float | None = None
    per_hop_ms: float | None = None


class OperatorTime(Section):
    """Time of all nodes of one kind in one window; ``share`` is of the time in all nodes."""

    name: str
    nodes: int
    ms: float
    share: float


class OperatorProfile(Section):
    """Time spent inside a graph, by ONNX Runtime's profiler, which slows every node down.

    Attributes:
        precision: of the graph.
        windows: how many were profiled, after warm-up.
        window_seconds: their length.
        nodes_ms: time in all nodes for a window: the sum of each node's median.
        run_ms: median time of a whole run under the profiler; the rest is overhead of profiler and runtime.
        by_type: by operator type, most first.
        by_module: by module of the student, most first.
    """

    precision: str
    windows: int
    window_seconds: float
    nodes_ms: float
    run_ms: float
    by_type: list[OperatorTime]
    by_module: list[OperatorTime]


class MatrixProduct(Section):
    """The best rate of one generated matrix product ``[m, k] x [k, n]``, in 10^9 multiply-accumulates a second."""

    kind: Literal["fp32", "int8"]
    operator: str
    m: int
    k: int
    n: int
    best_ms: float
    gmacs_per_second: float


class GraphRate(Section):
    """Rate of a graph relative to the machine's limit.

    Attributes:
        precision: of the graph.
        macs: multiply-accumulates of one window, as the bundle counts them.
        window_seconds: the window.
        p50_ms: median time of one window in the same run.
        gmacs_per_second: ``macs`` over ``p50_ms``.
        limit: the kind of matrix product that it is compared with.
        share: of that limit.
        best_ms: the fastest window. The limit is that of the fastest products, which other processes do not slow down;
            they do slow the median.
        best_share: of the limit, by ``best_ms``.
    """

    precision: str
    macs: int
    window_seconds: float
    p50_ms: float
    gmacs_per_second: float
    limit: Literal["fp32", "int8"]
    share: float
    best_ms: float
    best_share: float


class MachineLimit(Section):
    """The best matrix products of the same library with as many threads in the same run, and the graphs' share."""

    threads: int | None = None
    best_fp32_gmacs: float | None = None
    best_int8_gmacs: float | None = None
    products: list[MatrixProduct] = []
    graphs: list[GraphRate] = []
    not_measured: str = ""


class GraphEnergy(Section):
    """Energy of paced windows of one system.

    Attributes:
        system: what ran.
        windows: how many it scored.
        seconds: how long that took, the sleep between windows included.
        joules: counted by the meter in that time.
        idle_joules: consumption of the idle machine in the same time.
        per_window_mj: ``(joules - idle_joules) / windows``, in millijoules. It is negative where other processes
            vary by more than the window costs.
    """

    system: str
    windows: int
    seconds: float
    joules: float
    idle_joules: float
    per_window_mj: float


class Energy(Section):
    """Energy by the machine's own meter.

    Attributes:
        source: the meter, and what of it was added up.
        idle_seconds: how long the idle machine was measured.
        idle_watts: its power.
        systems: energy of each.
        not_measured: why there is none.
    """

    source: str = ""
    idle_seconds: float | None = None
    idle_watts: float | None = None
    systems: list[GraphEnergy] = []
    not_measured: str = ""


class MachineMoment(Section):
    """State of the machine at one moment; what the system does not report is left out.

    Attributes:
        temperatures: °C by thermal zone.
        throttled: zones at or above their throttling temperature.
        load_average: over one minute, of all processes.
        clocks_mhz: of each group of cores, from cpufreq.
        throttle_events: counters of the system that grow when it throttles, by name.
        free_memory_mb: available to programs.
    """

    temperatures: dict[str, float] = {}
    throttled: list[str] = []
    load_average: float | None = None
    clocks_mhz: dict[str, float] = {}
    throttle_events: dict[str, int] = {}
    free_memory_mb: float | None = None


class MachineState(Section):
    """State of the machine before and after measuring, and a sentence on throttling in between."""

    before: MachineMoment
    after: MachineMoment
    throttling: str


class Decisions(Section):
    """Decisions of every graph on every tested utterance, for paired comparisons with another run.

    Attributes:
        corpus: name of the corpus.
        labels: class names; truth and decisions are indices into them.
        files: the utterances as the corpus names them.
        speakers: of each.
        truth: of each.
        decided: by precision.
    """

    corpus: str
    labels: list[str]
    files: list[str]
    speakers: list[str]
    truth: list[int]
    decided: dict[str, list[int]]
