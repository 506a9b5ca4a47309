"""Views of results for documents: accuracy of systems, folds, classes, sweeps and languages."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench.results import Results, Row
from benchmarks.lab.views.table_cells import (
    LATENCY,
    NOT_YET,
    SIZE,
    Show,
    column,
    command_of,
    estimated,
    interval,
    lines_of,
    machine_of,
    made_by,
    markdown,
    number,
    points,
    row_name,
    summary,
    with_interval,
)
from distill.runs.cross_validation import FoldScore


def systems(results: Results) -> str:
    """Show the accuracy of each system, its latency and size where measured, and the command of the file."""
    lines = markdown(summary(results), _COLUMNS)
    seeds = f", seeds {', '.join(map(str, results.seeds))}" if any(row.seed is None for row in results.rows) else ""
    lines += ["", f"`{command_of(results)}`, {results.date[:10]}, {machine_of(results)}{seeds}."]
    return "\n".join(lines)


def details(results: Results) -> str:
    """Show each accuracy with its interval."""
    return "\n".join(markdown(summary(results), _DETAILS))


def run(results: Results) -> str:
    """List command, date, commit, seeds, machine and versions of the file."""
    packages = ("edgeemo", "torch", "transformers", "opensmile", "numpy")
    versions = ", ".join(f"{name} {results.environment[name]}" for name in packages if name in results.environment)
    facts = (
        f"`{command_of(results)}`",
        f"{results.date[:10]}, commit {results.commit or 'unknown'}, seeds {', '.join(map(str, results.seeds))}",
        f"{results.hours:.2f} hours of runs on {machine_of(results)}",
        versions,
    )
    return "\n".join(f"* {fact}" for fact in facts)


def folds(results: Results) -> str:
    """Show each fold of each system that pools several, and all tested utterances together."""
    rows = [row for row in summary(results) if row.fold_scores]
    if not rows:
        return "*One fold only.*"
    header = ["fold", "speakers"]
    for row in rows:
        header += [f"{row.system} UA", "WA"] + (["validation UA"] if _validated(row) else [])
    lines = []
    for same in zip(*(row.fold_scores or [] for row in rows), strict=True):
        cells = [str(same[0].fold), str(same[0].speakers)]
        for row, score in zip(rows, same, strict=True):
            cells += [f"{score.ua:.3f}", f"{score.wa:.3f}"]
            cells += [number(score.validation_ua, ".3f")] if _validated(row) else []
        lines.append(cells)
    cells = ["**all**", number(rows[0].speakers, "d")]
    for row in rows:
        cells += [with_interval("ua")(row), with_interval("wa")(row)] + ([""] if _validated(row) else [])
    return lines_of(header, [*lines, cells])


def _validated(row: Row) -> bool:
    scores: Sequence[FoldScore] = row.fold_scores or []
    return any(score.validation_ua is not None for score in scores)


def recall(results: Results) -> str:
    """Show the recall of each class with its interval."""
    rows = {row.system: row.recall for row in summary(results) if row.recall}
    if not rows:
        return NOT_YET
    labels = sorted({label for recall in rows.values() for label in recall})
    return lines_of(
        ["system", *labels],
        [[name, *(estimated(recall.get(label)) for label in labels)] for name, recall in rows.items()],
    )


def shares(results: Results) -> str:
    """Show the share of correct decisions by the values of the column that the grid names."""
    rows = [row for row in summary(results) if row.shares]
    values = list(dict.fromkeys(value for row in rows for value in row.shares or {}))
    if not rows:
        return NOT_YET
    body = [[row.system, *(number((row.shares or {}).get(value), ".3f") for value in values)] for row in rows]
    return lines_of(["system", *values], body)


def sweep(results: Results, name: str) -> str:
    """Show one sweep, a row per value."""
    rows = [row for row in results.rows if row.sweep == name]
    if not rows:
        return NOT_YET
    several = any(row.seed is None for row in rows)
    chosen = [row for row in rows if (row.seed is None) == several]
    key = next(iter(chosen[0].settings or {}))
    columns: dict[str, Show] = {key: lambda row: f"{(row.settings or {})[key]:g}"}
    kept = ("UA", "± over seeds", "95 % interval", "WA", "ECE")
    return "\n".join(markdown(chosen, columns | {title: _COLUMNS[title] for title in kept}))


def languages(results: Results) -> str:
    """Show unweighted and weighted recall of each language, and of all together, with differences in a second table."""
    rows = [row for row in summary(results) if row.languages]
    names = list(dict.fromkeys(name for row in rows for name in row.languages or {}))
    accuracy, differences = [], []
    for row in rows:
        found = row.languages or {}
        cells = [f"{found[name].ua.value:.3f} / {found[name].wa.value:.3f}" for name in names]
        accuracy.append([row.system, *cells, f"{row.ua or 0:.3f} / {row.wa or 0:.3f}"])
        if row.difference is not None:
            each = [found[name].difference for name in names]
            cells = ["" if one is None else points(one.ua) for one in each]
            differences.append([row.system, *cells, points(row.difference.ua)])
    against = next((row.difference.to for row in rows if row.difference), "")
    return "\n".join(
        [
            lines_of(["UA / WA", *names, "pooled"], accuracy),
            "",
            lines_of([f"UA less {against}'s, in points", *names, "pooled"], differences),
            "",
            made_by(results),
        ]
    )


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    return f"{row.difference.ua.show('+.3f')} to {row.difference.to}"


def _target(row: Row) -> str:
    if row.ua_target is None or row.ua is None:
        return ""
    return f"{row.ua_target:.2f}: {'reached' if row.ua >= row.ua_target else 'not reached'}"


_COLUMNS: dict[str, Show] = {
    "system": row_name,
    "UA": column("ua", ".3f"),
    "± over seeds": column("ua_spread", ".3f"),
    "95 % interval": interval,
    "paired difference in UA": _difference,
    "UA to reach": _target,
    "WA": column("wa", ".3f"),
    "ECE": column("ece", ".3f"),
    **LATENCY,
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value} x {row.ratio.to}",
    "size": SIZE,
}


_DETAILS: dict[str, Show] = {
    "system": row_name,
    "utterances": column("utterances", ".0f"),
    "speakers": column("speakers", ".0f"),
    "UA": with_interval("ua"),
    "WA": with_interval("wa"),
    "macro-F1": with_interval("macro_f1"),
    "ECE before temperature": with_interval("ece_before"),
    "ECE": with_interval("ece"),
}
