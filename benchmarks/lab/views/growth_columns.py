"""Tables of `benchmarks.lab.growth` and `benchmarks.lab.streams`: columns and captions of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.bench.results import Row
from benchmarks.lab.views.table_cells import MACS, SIZE, Show, column

DATA, STUDENTS, STREAMS = "data", "students", "streams"
"""The parts of the growth, which are the sweeps of their rows."""
COST = "listening"
"""What listening costs, by bundle."""
SPEECH, CONVERSATION = "speech", "conversation"
"""The same for streams in one process: speech all the time, and a part of the time."""


def _figure(name: str, unit: str = "", factor: float = 1.0) -> Show:
    """Return a function that formats a figure with three digits, empty where it is missing."""

    def show(row: Row) -> str:
        value = (row.figures or {}).get(name)
        return "" if value is None else f"{float(f'{value * factor:.3g}'):g}{unit}"

    return show


def _setting(name: str, unit: str = "") -> Show:
    return lambda row: f"{(row.settings or {})[name]}{unit}"


COLUMNS: dict[str, dict[str, Show]] = {
    DATA: {
        "data": _setting("times", "x"),
        "utterances": column("utterances", ".0f"),
        "speech": _figure("hours_of_speech", " h"),
        "time": _figure("seconds", " s"),
        "of the smallest": _figure("times_seconds", "x"),
        "processor time": _figure("cpu_seconds", " s"),
        "peak memory": _figure("peak_mb", " MB"),
        "of the smallest's": _figure("times_peak_mb", "x"),
    },
    STUDENTS: {
        "parameters": column("parameters", ".2f", " M", 1e-6),
        "MACs of a window": MACS,
        "INT8 graph": SIZE,
        "time": _figure("seconds", " s"),
        "processor time": _figure("cpu_seconds", " s"),
        "peak memory": _figure("peak_mb", " MB"),
    },
    STREAMS: {
        "streams": _setting("streams"),
        "share of one core": _figure("cpu_share", " %", 100),
        "of each": _figure("cpu_share_per_stream", " %", 100),
        "resident memory of each": _figure("resident_mb", " MB"),
        "of all, shared once": _figure("memory_mb", " MB"),
        "decisions": _figure("decisions"),
        "late, p50": _figure("lateness_p50_ms", " ms"),
        "late, p99": _figure("lateness_p99_ms", " ms"),
        "latest": _figure("lateness_max_ms", " ms"),
    },
}
COLUMNS[SPEECH] = COLUMNS[CONVERSATION] = {
    "streams": _setting("streams"),
    "share of one core": _figure("cpu_share", " %", 100),
    "of each": _figure("cpu_share_per_stream", " %", 100),
    "resident memory": _figure("resident_mb", " MB"),
    "decisions": _figure("decisions"),
    "streams with events left out": _figure("late_streams"),
    "late, p50": _figure("lateness_p50_ms", " ms"),
    "late, p99": _figure("lateness_p99_ms", " ms"),
    "latest": _figure("lateness_max_ms", " ms"),
    "p50 of the latest stream": _figure("lateness_p50_worst_ms", " ms"),
}
COLUMNS[COST] = {
    "listener": lambda row: row.system,
    "CPU time of a second of speech": _figure("cpu_ms_per_speech_second", " ms"),
    "of an hour of conversation": _figure("cpu_seconds_per_hour", " s"),
    "relative": _figure("ratio"),
    "decisions": _figure("decisions"),
}
"""Titles and cells by sweep."""


def caption(part: str, rows: Sequence[Row]) -> str:
    """Return the sentences under a table."""
    note = f"{rows[0].corpus}; {rows[0].note}."
    if part not in (STREAMS, SPEECH, CONVERSATION):
        return note
    figures = rows[0].figures or {}
    tried = max(int((row.settings or {})["streams"]) for row in rows)
    most = most_streams(rows)
    more = ", the most that were tried" if most == tried else ""
    return (
        f"Streams on one core up to which 99 % of decisions are less than a hop ({figures['hop_seconds']:g} s) late: "
        f"**{most}**{more}. Where decisions are too few for a 99th percentile, the latest one counts. {note} "
        f"Speech fills {figures['speech_share']:.0%} of the time."
    )


def keeps_up(figures: Mapping[str, float]) -> bool:
    """Return whether the 99th percentile of lateness is below a hop, and every stream has all decisions.

    With too few decisions for a 99th percentile, the maximum must be below a hop.
    """
    lateness = figures.get("lateness_p99_ms", figures["lateness_max_ms"])
    return not (figures["silent_streams"] or figures.get("late_streams")) and lateness < 1000 * figures["hop_seconds"]


def most_streams(rows: Sequence[Row]) -> int:
    """Return the largest number of streams up to which every measured number keeps up; 0 for none."""
    most = 0
    for row in sorted(rows, key=lambda row: int((row.settings or {})["streams"])):
        if not keeps_up(row.figures or {}):
            break
        most = int((row.settings or {})["streams"])
    return most
