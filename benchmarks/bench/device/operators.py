"""Time inside a graph by operator type and by module, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from benchmarks.bench.device.device_sections import OperatorProfile, OperatorTime
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.engines.chunks import PAST, pieces
from edge_runtime.engines.engine import session_options
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

CONVERSIONS = "(between float and INT8)"
"""Module of the nodes that quantisation adds."""
FUSED = "(fused by ONNX Runtime)"
"""Module of fused nodes without a name."""
_WARM_UP = 3
_KERNEL = "_kernel_time"
_MODULE = re.compile(r"(?P<module>[\w.]+)/\w+")
"""Names of nodes as `export/graphs/float_graph.py` writes them: module, slash, operator and number."""


def profile_operators(
    bundle: Bundle, precision: Precision, windows: Sequence[Pcm], *, threads: int = 1, runs: int = 20
) -> OperatorProfile:
    """Profile a graph of a bundle on the CPU."""
    options = session_options(precision, threads)
    options.enable_profiling = True
    reference = bundle.reference()
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            bundle.read_graph(precision), options, providers=["CPUExecutionProvider"]
        )
        # Of a graph in chunks, one run is one chunk, the first one of a window.
        past = {each.name: np.zeros(each.shape, np.float32) for each in session.get_inputs() if each.name == PAST}
        chunk = bundle.manifest.window.chunk
        given = [next(pieces(pcm, chunk))[1] if chunk else pcm for pcm in windows]
        seconds = min(chunk or len(windows[0]), len(windows[0])) / SAMPLE_RATE
        for number in range(_WARM_UP + runs):
            session.run(["logits"], {"pcm": given[number % len(given)][np.newaxis], "reference": reference} | past)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return add_up(events, precision, runs, seconds)


def add_up(events: Sequence[dict[str, Any]], precision: str, runs: int, window_seconds: float) -> OperatorProfile:
    """Return the profile of the last ``runs`` runs in a profiler's events.

    Args:
        events: Chrome trace events of ONNX Runtime: ``cat`` ``Session`` (``model_run``) and ``Node`` (named
            ``..._kernel_time``), with ``ts`` and ``dur`` in microseconds.
        precision: of the graph.
        runs: number of runs that count; those before are warm-up.
        window_seconds: length of a window.

    Raises:
        ValueError: there are fewer runs.
    """
    spans = sorted((each["ts"], each["dur"]) for each in events if each.get("name") == "model_run")
    if len(spans) < runs:
        raise ValueError(f"the profile holds {len(spans)} runs, not {runs}")
    counted = spans[-runs:]
    nodes = [
        each
        for each in events
        if each.get("cat") == "Node" and each["name"].endswith(_KERNEL) and each["ts"] >= counted[0][0]
    ]
    spent = _medians(nodes, runs)
    total = sum(spent.values())
    return OperatorProfile(
        precision=precision,
        windows=runs,
        window_seconds=window_seconds,
        nodes_ms=round(total / 1000, 4),
        run_ms=round(statistics.median(duration for _, duration in counted) / 1000, 4),
        by_type=_grouped(spent, lambda node: node.operator),
        by_module=_grouped(spent, _module),
    )


class _Node(NamedTuple):
    """A node; fused nodes without a name differ in their number."""

    name: str
    operator: str
    number: str


def _medians(events: Sequence[dict[str, Any]], runs: int) -> dict[_Node, float]:
    """Return the time of each node in one run, in microseconds: the median, since other processes interrupt some."""
    times: dict[_Node, list[float]] = defaultdict(list)
    for each in events:
        facts = each["args"]
        node = _Node(each["name"], str(facts["op_name"]), str(facts.get("node_index", "")))
        times[node].append(each["dur"])
    # A node inside a loop runs several times a window.
    return {node: statistics.median(each) * len(each) / runs for node, each in times.items()}


def _module(node: _Node) -> str:
    if node.operator in ("QuantizeLinear", "DequantizeLinear"):
        return CONVERSIONS
    found = _MODULE.match(node.name)
    return found["module"] if found else FUSED


def _grouped(spent: dict[_Node, float], key: Callable[[_Node], str]) -> list[OperatorTime]:
    total = sum(spent.values())
    groups: dict[str, list[float]] = defaultdict(list)
    for node, microseconds in spent.items():
        groups[key(node)].append(microseconds)
    return [
        OperatorTime(
            name=name,
            nodes=len(times),
            ms=round(sum(times) / 1000, 4),
            share=round(sum(times) / total, 4) if total else 0.0,
        )
        for name, times in sorted(groups.items(), key=lambda item: -sum(item[1]))
    ]
