"""Views of results for documents: what exports, peers, references, listening and growth cost and gain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.results import Results, Row
from benchmarks.views.growth_columns import COLUMNS as GROWTH
from benchmarks.views.growth_columns import said_under
from benchmarks.views.table_cells import (
    NOT_YET,
    lines_of,
    machine_of,
    made_by,
    markdown,
    number,
    points,
    row_name,
    with_interval,
)

_EXPORTS: dict[str, Callable[[Row], str]] = {
    "system": lambda row: row.system,
    "graph": lambda row: row.precision or "",
    "MACs of a window": lambda row: "" if row.macs is None else f"{row.macs / 1e6:.0f} M",
    "parameters": lambda row: "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
    "UA": with_interval("ua"),
    "difference in points": lambda row: "" if row.difference is None else points(row.difference.ua),
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value:.2f} x",
}


def _times_as_long(row: Row) -> str:
    """Return how many times as long it takes as the yardstick does, with its interval."""
    ratio = row.ratio
    if ratio is None:
        return ""
    ends = "" if ratio.low is None or ratio.high is None else f" ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
    return f"{1 / ratio.value:.2f}{ends}"


_PEERS: dict[str, Callable[[Row], str]] = {
    "system": row_name,
    "UA": with_interval("ua"),
    "difference in points": lambda row: "" if row.difference is None else points(row.difference.ua),
    "parameters": lambda row: "" if row.parameters is None else _many(row.parameters),
    "MACs of a window": lambda row: "" if row.macs is None else f"{row.macs / 1e6:.0f} M",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
}


def _many(count: int) -> str:
    return str(count) if count < 100_000 else f"{count / 1e6:.2f} M"


def exports(results: Results) -> str:
    """Show what each export of a student costs and gains, beside the float graph of the student as it was trained."""
    lines = markdown(results.rows, _EXPORTS)
    notes = dict.fromkeys(f"* {row.system}: {row.note}" for row in results.rows if row.note)
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.folds}; {first.utterances} utterances of {first.speakers} "
        f"speakers. `{results.command}`, {results.date[:10]}, {machine_of(results)}, one thread."
    )
    return "\n".join([*lines, "", *notes, "", made] if notes else [*lines, "", made])


def _of_figures(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: number((row.figures or {}).get(name), form)


_PROCESSORS: dict[str, Callable[[Row], str]] = {
    "processor": lambda row: row.processor or "",
    "corpus": lambda row: row.corpus,
    "clips": lambda row: number(row.utterances, "d"),
    "UA": with_interval("ua"),
    "difference to exact arithmetic, in points": lambda row: (
        "" if row.difference is None else points(row.difference.ua)
    ),
    "same decision": _of_figures("same_decision", ".1%"),
    "logit cosine": _of_figures("logit_cosine", ".5f"),
}
_FORMS: dict[str, Callable[[Row], str]] = {
    "processor": lambda row: row.processor or "",
    "form": lambda row: row.system,
    "logit cosine": _of_figures("logit_cosine", ".5f"),
    "same decision": _of_figures("same_decision", ".1%"),
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.1f} ms",
    "speed, FP32 = 1": lambda row: "" if row.ratio is None else f"{row.ratio.value:.2f} x",
}


def processors(results: Results) -> str:
    """Show how close the INT8 decisions of each processor are to exact arithmetic, and the mean over corpora."""
    rows = [row for row in results.rows if row.sweep is None]
    lines = markdown(rows, _PROCESSORS)
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.difference:
            found.setdefault(row.processor or "", []).append(row.difference.ua.value * 100)
    means = ", ".join(f"{kind} {sum(each) / len(each):+.2f}" for kind, each in found.items())
    return "\n".join([*lines, "", f"Mean difference over the corpora, in points: {means}.", "", made_by(results)])


def forms(results: Results) -> str:
    """Show other forms of the INT8 graph on each processor, and their time on the one that ran natively."""
    return "\n".join(markdown([row for row in results.rows if row.sweep == "forms"], _FORMS))


def peers(results: Results) -> str:
    """Show students beside other systems: accuracy, sizes, latency, and time beside the yardstick's."""
    rows = results.rows
    yardstick = next((row.ratio.to for row in rows if row.ratio), "")
    compared = next((row.difference.to for row in rows if row.difference), "")
    columns = {
        {"difference in points": f"less {compared}'s, in points"}.get(title, title): show
        for title, show in _PEERS.items()
    } | {f"time, {yardstick} = 1": _times_as_long}
    energy = results.energy
    if energy is not None and energy.systems:
        spent = {each.system: each.per_window_mj for each in energy.systems}
        columns["energy of a window"] = lambda row: f"{spent[row_name(row)]:.1f} mJ" if row_name(row) in spent else ""
    notes = [f"* {row_name(row)}: {row.note}{_parts(row)}." for row in rows if row.note]
    first = next((row for row in rows if row.folds), rows[0])
    tested = f"{first.corpus}, {first.classes} classes" + (f", {first.folds}" if first.folds else "")
    calls = results.timings[0].calls if results.timings else 0
    made = (
        f"{tested}. Latency of windows of 3 s, {calls} of each system in turns, one thread on one core. "
        f"{f'Energy {energy.not_measured}. ' if energy is not None and energy.not_measured else ''}{made_by(results)}"
    )
    return "\n".join([*markdown(rows, columns), "", *notes, "", made])


def _parts(row: Row) -> str:
    """Return what a system's parts take on their own."""
    return "".join(f"; {name.removesuffix(' ms')} alone {value:.2f} ms" for name, value in (row.figures or {}).items())


def figures(results: Results) -> str:
    """Show the measured numbers that have no column of their own, one a line."""
    rows = [row for row in results.rows if row.figures]
    names = list(dict.fromkeys(name for row in rows for name in row.figures or {}))
    body = [[name, *(number((row.figures or {}).get(name), ".6g") for row in rows)] for name in names]
    header = ["", *(f"{row.system} on {row.corpus}" for row in rows)]
    return "\n".join([lines_of(header, body), "", *(row.note for row in rows if row.note), "", made_by(results)])


def references(results: Results) -> str:
    """Show what references of the tested speakers change, beside no reference."""
    columns: dict[str, Callable[[Row], str]] = {
        "reference": lambda row: row.system,
        "utterances": lambda row: number(row.reference_utterances, "d"),
        "UA": with_interval("ua"),
        "difference in points": lambda row: points(row.difference.ua) if row.difference else "",
    }
    for name in dict.fromkeys(name for row in results.rows for name in row.figures or {}):
        columns[name] = partial(_figure, name)
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.precision}, {first.folds}; {first.utterances} utterances of "
        f"{first.speakers} speakers, {first.note}. {made_by(results)}"
    )
    return "\n".join([*markdown(results.rows, columns), "", made])


def cost(results: Results, part: str) -> str:
    """Show one sweep of `benchmarks.growth`: what more data, larger students or more streams cost."""
    rows = [row for row in results.rows if row.sweep == part]
    if not rows:
        return NOT_YET
    return "\n".join([*markdown(rows, GROWTH[part]), "", f"{said_under(part, rows)} {made_by(results)}"])


def _figure(name: str, row: Row) -> str:
    return number((row.figures or {}).get(name), ".3g")
