"""Views of results for documents: exports, processors, other systems, speaker means, listening and growth."""

from __future__ import annotations

from benchmarks.bench.results import Results, Row
from benchmarks.lab.views.growth_columns import COLUMNS as GROWTH
from benchmarks.lab.views.growth_columns import caption
from benchmarks.lab.views.table_cells import (
    LATENCY,
    MACS,
    NOT_YET,
    SIZE,
    Show,
    column,
    command_of,
    difference,
    figure,
    lines_of,
    machine_of,
    made_by,
    markdown,
    number,
    row_name,
    with_interval,
)

_EXPORTS: dict[str, Show] = {
    "system": lambda row: row.system,
    "graph": lambda row: row.precision or "",
    "MACs of a window": MACS,
    "parameters": column("parameters", ".2f", " M", 1e-6),
    "size": SIZE,
    "UA": with_interval("ua"),
    "difference in points": difference,
    **LATENCY,
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value:.2f} x",
}


def _times_as_long(row: Row) -> str:
    """Return the latency relative to that of the yardstick, with its interval."""
    ratio = row.ratio
    if ratio is None:
        return ""
    ends = "" if ratio.low is None or ratio.high is None else f" ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
    return f"{1 / ratio.value:.2f}{ends}"


_PEERS: dict[str, Show] = {
    "system": row_name,
    "UA": with_interval("ua"),
    "difference in points": difference,
    "parameters": lambda row: "" if row.parameters is None else _many(row.parameters),
    "MACs of a window": MACS,
    "size": SIZE,
    **LATENCY,
}


def _many(count: int) -> str:
    return str(count) if count < 100_000 else f"{count / 1e6:.2f} M"


def exports(results: Results) -> str:
    """Show the exports of a student, with differences to the float graph of the student as it was trained."""
    lines = markdown(results.rows, _EXPORTS)
    notes = dict.fromkeys(f"* {row.system}: {row.note}" for row in results.rows if row.note)
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.folds}; {first.utterances} utterances of {first.speakers} "
        f"speakers. `{command_of(results)}`, {results.date[:10]}, {machine_of(results)}, one thread."
    )
    return "\n".join([*lines, "", *notes, "", made] if notes else [*lines, "", made])


_PROCESSORS: dict[str, Show] = {
    "processor": lambda row: row.processor or "",
    "corpus": lambda row: row.corpus,
    "clips": column("utterances", ".0f"),
    "UA": with_interval("ua"),
    "difference to exact arithmetic, in points": difference,
    "same decision": figure("same_decision", ".1%"),
    "logit cosine": figure("logit_cosine", ".5f"),
}
_FORMS: dict[str, Show] = {
    "processor": lambda row: row.processor or "",
    "form": lambda row: row.system,
    "logit cosine": figure("logit_cosine", ".5f"),
    "same decision": figure("same_decision", ".1%"),
    "p50": column("p50_ms", ".1f", " ms"),
    "speed, FP32 = 1": lambda row: "" if row.ratio is None else f"{row.ratio.value:.2f} x",
}


def processors(results: Results) -> str:
    """Show how close the INT8 decisions of each processor are to exact arithmetic, with means over corpora."""
    rows = [row for row in results.rows if row.sweep is None]
    lines = markdown(rows, _PROCESSORS)
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.difference:
            found.setdefault(row.processor or "", []).append(row.difference.ua.value * 100)
    means = ", ".join(f"{kind} {sum(each) / len(each):+.2f}" for kind, each in found.items())
    return "\n".join([*lines, "", f"Mean difference over the corpora, in points: {means}.", "", made_by(results)])


def forms(results: Results) -> str:
    """Show other forms of the INT8 graph on each processor, with their latency where nothing is emulated."""
    return "\n".join(markdown([row for row in results.rows if row.sweep == "forms"], _FORMS))


def peers(results: Results) -> str:
    """Show students and other systems: accuracy, sizes, latency, and latency relative to the yardstick."""
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
    """Return the latency of a system's parts."""
    return "".join(f"; {name.removesuffix(' ms')} alone {value:.2f} ms" for name, value in (row.figures or {}).items())


def figures(results: Results) -> str:
    """Show the measured numbers without a column, one per line."""
    rows = [row for row in results.rows if row.figures]
    names = list(dict.fromkeys(name for row in rows for name in row.figures or {}))
    body = [[name, *(number((row.figures or {}).get(name), ".6g") for row in rows)] for name in names]
    header = ["", *(f"{row.system} on {row.corpus}" for row in rows)]
    return "\n".join([lines_of(header, body), "", *(row.note for row in rows if row.note), "", made_by(results)])


def references(results: Results) -> str:
    """Show accuracy with speaker means of the tested speakers, and differences to the baseline."""
    columns: dict[str, Show] = {
        "reference": lambda row: row.system,
        "utterances": column("reference_utterances", ".0f"),
        "UA": with_interval("ua"),
        "difference in points": difference,
    }
    for name in dict.fromkeys(name for row in results.rows for name in row.figures or {}):
        columns[name] = figure(name, ".3g")
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.precision}, {first.folds}; {first.utterances} utterances of "
        f"{first.speakers} speakers, {first.note}. {made_by(results)}"
    )
    return "\n".join([*markdown(results.rows, columns), "", made])


def cost(results: Results, part: str) -> str:
    """Show one sweep of `benchmarks.lab.growth`: the cost of more data, larger students or more streams."""
    rows = [row for row in results.rows if row.sweep == part]
    if not rows:
        return NOT_YET
    return "\n".join([*markdown(rows, GROWTH[part]), "", f"{caption(part, rows)} {made_by(results)}"])
