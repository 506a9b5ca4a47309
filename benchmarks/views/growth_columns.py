"""The tables of `benchmarks.growth`: what each of its parts shows, and what is to be said under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.results import Row

DATA, STUDENTS, STREAMS = "data", "students", "streams"
"""The parts; a row names its own as its sweep."""

Show = Callable[[Row], str]


def _figure(name: str, unit: str = "", factor: float = 1.0) -> Show:
    """Return the function that shows a figure with three digits, and nothing where there is none."""

    def show(row: Row) -> str:
        value = (row.figures or {}).get(name)
        return "" if value is None else f"{float(f'{value * factor:.3g}'):g}{unit}"

    return show


def _setting(name: str, unit: str = "") -> Show:
    return lambda row: f"{(row.settings or {})[name]}{unit}"


COLUMNS: dict[str, dict[str, Show]] = {
    DATA: {
        "data": _setting("times", "x"),
        "utterances": lambda row: f"{row.utterances}",
        "speech": _figure("hours_of_speech", " h"),
        "time": _figure("seconds", " s"),
        "of the smallest": _figure("times_seconds", "x"),
        "processor time": _figure("cpu_seconds", " s"),
        "peak memory": _figure("peak_mb", " MB"),
        "of the smallest's": _figure("times_peak_mb", "x"),
    },
    STUDENTS: {
        "parameters": lambda row: f"{(row.parameters or 0) / 1e6:.2f} M",
        "MACs of a window": lambda row: f"{(row.macs or 0) / 1e6:.0f} M",
        "INT8 graph": lambda row: f"{(row.size_bytes or 0) / 1e6:.2f} MB",
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
"""By the sweep that a row is a point of: titles, and how a cell is shown."""


def said_under(part: str, rows: Sequence[Row]) -> str:
    """Return the sentences under a table."""
    note = f"{rows[0].corpus}; {rows[0].note}."
    if part != STREAMS:
        return note
    figures = rows[0].figures or {}
    tried = max(int((row.settings or {})["streams"]) for row in rows)
    most = most_streams(rows)
    more = ", the most that were tried" if most == tried else ""
    return (
        f"Streams on one core up to which 99 % of decisions are less than a hop ({figures['hop_seconds']:g} s) late: "
        f"**{most}**{more}. Where decisions are too few for a 99th percentile, the latest one counts. {note} "
        f"Somebody speaks {figures['speech_share']:.0%} of the time."
    )


def keeps_up(figures: Mapping[str, float]) -> bool:
    """Return whether every stream was served: p99 of lateness under a hop, and no stream without any decision.

    Where there are too few decisions for a 99th percentile, the latest of all must be under a hop.
    """
    lateness = figures.get("lateness_p99_ms", figures["lateness_max_ms"])
    return not figures["silent_streams"] and lateness < 1000 * figures["hop_seconds"]


def most_streams(rows: Sequence[Row]) -> int:
    """Return the largest number of streams up to which every number that was tried keeps up; 0 for none."""
    most = 0
    for row in sorted(rows, key=lambda row: int((row.settings or {})["streams"])):
        if not keeps_up(row.figures or {}):
            break
        most = int((row.settings or {})["streams"])
    return most
