"""Write the tables of a document from results files: `python -m benchmarks.tables README.md distill/RESULTS.md`.

A block stands between ``<!-- results: NAME [VIEW [ARGUMENT]] -->`` and ``<!-- end -->``; NAME is a file under
``benchmarks/results``. Views: none for the systems and what made the file, those of `VIEWS`, and
``figure`` for the plot of the same name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import click

from benchmarks.estimate import Estimate
from benchmarks.growth_columns import COLUMNS as GROWTH
from benchmarks.growth_columns import said_under
from benchmarks.results import Results, Row
from distill.cross_validation import FoldScore
from edge_runtime.errors import WrongUseError
from edge_runtime.files import write_text

RESULTS = Path(__file__).parent / "results"
FIGURE = "figure"
NOT_YET = "*Not measured yet.*"
_BLOCK = re.compile(r"(<!-- results: ([\w-]+)((?: [\w-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, folder: Path | None = None) -> str:
    """Return a document with every block made anew.

    Args:
        text: the document.
        folder: where the document lies, for links to figures; this repository's root if not given.

    Raises:
        WrongUseError: a block names an unknown view.
    """
    place = folder or Path(__file__).resolve().parents[1]

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}{table(found[2], *found[3].split(), folder=place)}\n{found[4]}"

    return _BLOCK.sub(block, text)


def table(name: str, view: str = "", *arguments: str, folder: Path = Path()) -> str:
    """Return one view of a results file as Markdown.

    Args:
        name: of the file; where there is none yet, that is what the result says.
        view: a key of `VIEWS`, `FIGURE`, or empty for the systems and what made the file.
        arguments: of the view.
        folder: where the document lies.

    Raises:
        WrongUseError: there is no such view.
    """
    if view not in (*VIEWS, FIGURE):
        known = ", ".join(filter(None, [*VIEWS, FIGURE]))
        raise WrongUseError(f"results: {name} {view}: there is no such view; there are {known}")
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return NOT_YET
    if view == FIGURE:
        figure = RESULTS / f"{'-'.join([name, *arguments])}.svg"
        if not figure.is_file():
            return NOT_YET
        return f"![{' '.join([name, *arguments])}]({Path(os.path.relpath(figure, folder)).as_posix()})"
    return VIEWS[view](Results.read(path), *arguments)


def summary(rows: Iterable[Row]) -> list[Row]:
    """Return for each system the mean over its seeds, where it has one, and else its rows as they are."""
    rows = list(rows)
    averaged = {row.system for row in rows if row.seed is None}
    return [row for row in rows if row.seed is None or row.system not in averaged]


def _systems(results: Results) -> str:
    lines = _markdown(summary(row for row in results.rows if row.sweep is None), _COLUMNS)
    seeds = f", seeds {', '.join(map(str, results.seeds))}" if any(row.seed is None for row in results.rows) else ""
    lines += ["", f"`{results.command}`, {results.date[:10]}, {results.environment['processor']}{seeds}."]
    return "\n".join(lines)


def _details(results: Results) -> str:
    return "\n".join(_markdown(summary(row for row in results.rows if row.sweep is None), _DETAILS))


def _run(results: Results) -> str:
    """Say what made the file: everything that is needed to make it again."""
    packages = ("edgeemo", "torch", "transformers", "opensmile", "numpy")
    versions = ", ".join(f"{name} {results.environment[name]}" for name in packages if name in results.environment)
    facts = (
        f"`{results.command}`",
        f"{results.date[:10]}, commit {results.commit or 'unknown'}, seeds {', '.join(map(str, results.seeds))}",
        f"{results.hours:.2f} hours of runs on {results.environment['processor']}",
        versions,
    )
    return "\n".join(f"* {fact}" for fact in facts)


def _folds(results: Results) -> str:
    """Show each fold of each system that pools several, and under them all tested utterances together."""
    rows = [row for row in summary(row for row in results.rows if row.sweep is None) if row.fold_scores]
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
            cells += [_number(score.validation_ua, ".3f")] if _validated(row) else []
        lines.append(cells)
    cells = ["**all**", _number(rows[0].speakers, "d")]
    for row in rows:
        cells += [_interval("ua")(row), _interval("wa")(row)] + ([""] if _validated(row) else [])
    return _lines(header, [*lines, cells])


def _validated(row: Row) -> bool:
    scores: Sequence[FoldScore] = row.fold_scores or []
    return any(score.validation_ua is not None for score in scores)


def _recall(results: Results) -> str:
    """Show the recall of each class with its interval."""
    rows = {row.system: row.recall for row in summary(row for row in results.rows if row.sweep is None) if row.recall}
    if not rows:
        return NOT_YET
    labels = sorted({label for recall in rows.values() for label in recall})
    return _lines(
        ["system", *labels],
        [[name, *(_estimate(recall.get(label)) for label in labels)] for name, recall in rows.items()],
    )


def _confusion(results: Results, system: str) -> str:
    """Show how often each true class was decided as each; of several seeds, the first."""
    row = next((row for row in results.rows if row.system == system and row.confusion), None)
    if row is None or row.recall is None:
        return NOT_YET
    labels = sorted(row.recall)
    if len(labels) != len(row.confusion or []):
        return "*A class does not occur.*"
    body = [[label, *map(str, counts)] for label, counts in zip(labels, row.confusion or [], strict=True)]
    return _lines([f"{system}: true, decided as", *labels], body)


def _shares(results: Results) -> str:
    """Show the share of right decisions by the values of the column that the grid names."""
    rows = [row for row in summary(row for row in results.rows if row.sweep is None) if row.shares]
    values = list(dict.fromkeys(value for row in rows for value in row.shares or {}))
    if not rows:
        return NOT_YET
    body = [[row.system, *(_number((row.shares or {}).get(value), ".3f") for value in values)] for row in rows]
    return _lines(["system", *values], body)


def _sweep(results: Results, name: str) -> str:
    """Show one sweep, a row a value."""
    rows = [row for row in results.rows if row.sweep == name]
    if not rows:
        return NOT_YET
    several = any(row.seed is None for row in rows)
    chosen = [row for row in rows if (row.seed is None) == several]
    key = next(iter(chosen[0].settings or {}))
    columns: dict[str, Callable[[Row], str]] = {key: lambda row: f"{(row.settings or {})[key]:g}"}
    kept = ("UA", "± over seeds", "95 % interval", "WA", "ECE")
    return "\n".join(_markdown(chosen, columns | {title: _COLUMNS[title] for title in kept}))


def _markdown(rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> list[str]:
    shown = [(title, show) for title, show in columns.items() if any(show(row) for row in rows)]
    return _lines([title for title, _ in shown], [[show(row) for _, show in shown] for row in rows]).splitlines()


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def row_name(row: Row) -> str:
    """Return the system, with its precision where a table may hold several of one."""
    return row.system if row.ua_spread is not None or row.precision is None else f"{row.system} {row.precision}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(name: str) -> Callable[[Row], str]:
    """Return the function that shows a figure with its interval."""

    def show(row: Row) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        return _number(value, ".3f") + ("" if low is None else f" ({low:.3f} to {high:.3f})")

    return show


def _estimate(found: Estimate | None) -> str:
    return "" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _difference(row: Row) -> str:
    if row.difference is None:
        return ""
    ua = row.difference.ua
    return f"{ua.value:+.3f} ({ua.low:+.3f} to {ua.high:+.3f}) to {row.difference.to}"


def _target(row: Row) -> str:
    if row.ua_target is None or row.ua is None:
        return ""
    return f"{row.ua_target:.2f}: {'reached' if row.ua >= row.ua_target else 'not reached'}"


_COLUMNS: dict[str, Callable[[Row], str]] = {
    "system": row_name,
    "UA": lambda row: _number(row.ua, ".3f"),
    "± over seeds": lambda row: _number(row.ua_spread, ".3f"),
    "95 % interval": lambda row: "" if row.ua_low is None else f"{row.ua_low:.3f} to {row.ua_high:.3f}",
    "paired difference in UA": _difference,
    "UA to reach": _target,
    "WA": lambda row: _number(row.wa, ".3f"),
    "ECE": lambda row: _number(row.ece, ".3f"),
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value} x {row.ratio.to}",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
}

_DETAILS: dict[str, Callable[[Row], str]] = {
    "system": row_name,
    "utterances": lambda row: _number(row.utterances, "d"),
    "speakers": lambda row: _number(row.speakers, "d"),
    "UA": _interval("ua"),
    "WA": _interval("wa"),
    "macro-F1": _interval("macro_f1"),
    "ECE before temperature": _interval("ece_before"),
    "ECE": _interval("ece"),
}

_EXPORTS: dict[str, Callable[[Row], str]] = {
    "system": lambda row: row.system,
    "graph": lambda row: row.precision or "",
    "MACs of a window": lambda row: "" if row.macs is None else f"{row.macs / 1e6:.0f} M",
    "parameters": lambda row: "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
    "UA": _interval("ua"),
    "difference in points": lambda row: "" if row.difference is None else _points(row.difference.ua),
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
    "speed": lambda row: "" if row.ratio is None else f"{row.ratio.value:.2f} x",
}


def _gains(row: Row) -> str:
    """Return how many times as fast the yardstick is, with its interval."""
    ratio = row.ratio
    if ratio is None:
        return ""
    ends = "" if ratio.low is None or ratio.high is None else f" ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
    return f"{1 / ratio.value:.2f}{ends}"


_PEERS: dict[str, Callable[[Row], str]] = {
    "system": row_name,
    "UA": _interval("ua"),
    "difference in points": lambda row: "" if row.difference is None else _points(row.difference.ua),
    "parameters": lambda row: "" if row.parameters is None else _many(row.parameters),
    "MACs of a window": lambda row: "" if row.macs is None else f"{row.macs / 1e6:.0f} M",
    "size": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
    "p50": lambda row: "" if row.p50_ms is None else f"{row.p50_ms:.2f} ms",
    "p90": lambda row: "" if row.p90_ms is None else f"{row.p90_ms:.2f} ms",
}


def _many(count: int) -> str:
    return str(count) if count < 100_000 else f"{count / 1e6:.2f} M"


def _points(found: Estimate) -> str:
    return f"{found.value * 100:+.2f} ({found.low * 100:+.2f} to {found.high * 100:+.2f})"


def _exports(results: Results) -> str:
    """Show what each export of a student costs and gains, beside the float graph of the student as it was trained."""
    lines = _markdown(results.rows, _EXPORTS)
    notes = dict.fromkeys(f"* {row.system}: {row.note}" for row in results.rows if row.note)
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.folds}; {first.utterances} utterances of {first.speakers} "
        f"speakers. `{results.command}`, {results.date[:10]}, {results.environment['processor']} "
        f"({results.environment['instruction_sets'] or 'no INT8 instructions'}), one thread."
    )
    return "\n".join([*lines, "", *notes, "", made] if notes else [*lines, "", made])


def _peers(results: Results) -> str:
    """Show students beside other systems: accuracy, sizes, latency, and how many times as fast the yardstick is."""
    rows = results.rows
    yardstick = next((row.ratio.to for row in rows if row.ratio), "")
    compared = next((row.difference.to for row in rows if row.difference), "")
    columns = {
        {"difference in points": f"less {compared}'s, in points"}.get(title, title): show
        for title, show in _PEERS.items()
    } | {f"{yardstick} is faster by": _gains}
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
        f"{f'Energy {energy.not_measured}. ' if energy is not None and energy.not_measured else ''}{_made_by(results)}"
    )
    return "\n".join([*_markdown(rows, columns), "", *notes, "", made])


def _parts(row: Row) -> str:
    """Return what a system's parts take on their own."""
    return "".join(f"; {name.removesuffix(' ms')} alone {value:.2f} ms" for name, value in (row.figures or {}).items())


def _figures(results: Results) -> str:
    """Show the measured numbers that have no column of their own, one a line."""
    rows = [row for row in results.rows if row.figures]
    names = list(dict.fromkeys(name for row in rows for name in row.figures or {}))
    body = [[name, *(_number((row.figures or {}).get(name), ".6g") for row in rows)] for name in names]
    header = ["", *(f"{row.system} on {row.corpus}" for row in rows)]
    return "\n".join([_lines(header, body), "", *(row.note for row in rows if row.note), "", _made_by(results)])


def _references(results: Results) -> str:
    """Show what references of the tested speakers change, beside no reference."""
    columns: dict[str, Callable[[Row], str]] = {
        "reference": lambda row: row.system,
        "utterances": lambda row: _number(row.reference_utterances, "d"),
        "UA": _interval("ua"),
        "difference in points": lambda row: _points(row.difference.ua) if row.difference else "",
    }
    for name in dict.fromkeys(name for row in results.rows for name in row.figures or {}):
        columns[name] = partial(_figure, name)
    first = results.rows[0]
    made = (
        f"{first.corpus}, {first.classes} classes, {first.precision}, {first.folds}; {first.utterances} utterances of "
        f"{first.speakers} speakers, {first.note}. {_made_by(results)}"
    )
    return "\n".join([*_markdown(results.rows, columns), "", made])


def _languages(results: Results) -> str:
    """Show unweighted and weighted recall of each language, and of all together, and the differences under them."""
    rows = [row for row in summary(row for row in results.rows if row.sweep is None) if row.languages]
    names = list(dict.fromkeys(name for row in rows for name in row.languages or {}))
    accuracy, differences = [], []
    for row in rows:
        found = row.languages or {}
        cells = [f"{found[name].ua.value:.3f} / {found[name].wa.value:.3f}" for name in names]
        accuracy.append([row.system, *cells, f"{row.ua or 0:.3f} / {row.wa or 0:.3f}"])
        if row.difference is not None:
            each = [found[name].difference for name in names]
            cells = ["" if one is None else _points(one.ua) for one in each]
            differences.append([row.system, *cells, _points(row.difference.ua)])
    against = next((row.difference.to for row in rows if row.difference), "")
    return "\n".join(
        [
            _lines(["UA / WA", *names, "pooled"], accuracy),
            "",
            _lines([f"UA less {against}'s, in points", *names, "pooled"], differences),
            "",
            _made_by(results),
        ]
    )


def _cost(results: Results, part: str) -> str:
    """Show one sweep of `benchmarks.growth`: what more data, larger students or more streams cost."""
    rows = [row for row in results.rows if row.sweep == part]
    if not rows:
        return NOT_YET
    return "\n".join([*_markdown(rows, GROWTH[part]), "", f"{said_under(part, rows)} {_made_by(results)}"])


def _figure(name: str, row: Row) -> str:
    return _number((row.figures or {}).get(name), ".3g")


def _made_by(results: Results) -> str:
    return f"`{results.command}`, {results.date[:10]}, {results.environment['processor']}."


VIEWS: dict[str, Callable[..., str]] = {
    "": _systems,
    "details": _details,
    "folds": _folds,
    "recall": _recall,
    "confusion": _confusion,
    "shares": _shares,
    "sweep": _sweep,
    "run": _run,
    "exports": _exports,
    "figures": _figures,
    "references": _references,
    "languages": _languages,
    "peers": _peers,
    "cost": _cost,
}
"""What a block may show, by its second word."""


@click.command("tables")
@click.argument("documents", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--check", is_flag=True, help="Only tell whether they are up to date (exit code 1 if not).")
def main(documents: tuple[Path, ...], check: bool) -> None:
    """Write the tables of DOCUMENTS from the results files."""
    stale = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        fresh = render(text, document.resolve().parent)
        if fresh != text:
            stale.append(str(document))
            if not check:
                write_text(document, fresh)
    if check and stale:
        raise click.ClickException(f"{', '.join(stale)}: run python -m benchmarks.tables {' '.join(stale)}")


if __name__ == "__main__":
    main()
