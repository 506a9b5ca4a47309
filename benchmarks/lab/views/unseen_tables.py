"""Views of figures on unseen corpora: adaptation to speakers, teaching, acoustic conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bench.results import Results, Row
from benchmarks.lab.views.table_cells import NOT_YET, lines_of, made_by, number, with_interval

_MEAN = "mean"


def unseen(results: Results) -> str:
    """Show UA by stage of adaptation and corpus, and the mean over corpora with calibration."""
    return _table(
        results,
        "speaker",
        _stage,
        {
            "mean ECE": lambda row: number(row.ece, ".3f"),
            "ECE together": lambda row: number((row.figures or {}).get("ece_together"), ".3f"),
            "errors flagged": lambda row: _percent(row, "errors_flagged"),
            "correct flagged": lambda row: _percent(row, "correct_flagged"),
        },
    )


def taught(results: Results) -> str:
    """Show UA by what clips change, their number, and corpus."""
    rows = [row for row in results.rows if not row.system.startswith("new")]
    return _table(
        results.model_copy(update={"rows": rows}),
        "clips change",
        lambda row: f"{row.system}, {row.labelled_per_class}",
        {"mean ECE": lambda row: number(row.ece, ".3f")},
    )


def adaptation(results: Results) -> str:
    """Show UA by rule of adaptation, stage and corpus."""
    return _table(
        results,
        "rule",
        lambda row: f"{row.system}: {_stage(row)}",
        {"mean ECE": lambda row: number(row.ece, ".3f")},
    )


def new_emotions(results: Results) -> str:
    """Show each emotion that was taught anew: its recall, and the UA of the others."""
    rows = [row for row in results.rows if row.system.startswith("new")]
    if not rows:
        return NOT_YET
    names = list(dict.fromkeys(name for row in rows for name in row.figures or {}))
    body = [
        [row.corpus, row.system.removeprefix("new: "), str(row.labelled_per_class), with_interval("ua")(row)]
        + [number((row.figures or {}).get(name), ".3f") for name in names]
        for row in rows
    ]
    return lines_of(["corpus", "emotion", "clips of each", "UA", *names], body)


def conditions(results: Results) -> str:
    """Show UA by condition and corpus, and the mean loss against clean."""
    return _table(
        results,
        "condition",
        lambda row: row.condition or "",
        {"mean difference in points": lambda row: _points(row, "difference to clean")},
    )


def _table(results: Results, title: str, name: Callable[[Row], str], more: dict[str, Callable[[Row], str]]) -> str:
    """Return a table with a line for each name, a column for each corpus, and columns of the mean over corpora."""
    corpora = [corpus for corpus in dict.fromkeys(row.corpus for row in results.rows) if corpus != _MEAN]
    # Files of before a figure was measured have no column for it.
    means = [row for row in results.rows if row.corpus == _MEAN]
    more = {column: show for column, show in more.items() if any(show(row) for row in means)}
    lines = []
    for line in dict.fromkeys(name(row) for row in results.rows):
        rows = {row.corpus: row for row in results.rows if name(row) == line}
        mean = rows[_MEAN]
        cells = [number(rows[corpus].ua, ".3f") if corpus in rows else "" for corpus in corpora]
        lines.append([line, *cells, with_interval("ua")(mean), *(show(mean) for show in more.values())])
    header = [title, *corpora, "mean UA", *more]
    return "\n".join([lines_of(header, lines), "", _made(results.rows, results)])


def _made(rows: Sequence[Row], results: Results) -> str:
    return f"UA, {rows[0].precision}, processor: {rows[0].processor}. {made_by(results)}"


def _stage(row: Row) -> str:
    if row.order is not None:
        return f"stream, {row.order}"
    if row.labelled_per_class:
        return f"{row.labelled_per_class} labelled of each emotion"
    return f"{row.reference_utterances} unlabelled" if row.reference_utterances else "unknown"


def _percent(row: Row, name: str) -> str:
    return number((row.figures or {}).get(name), ".0%")


def _points(row: Row, name: str) -> str:
    value = (row.figures or {}).get(name)
    return "" if value is None else f"{100 * value:+.1f}"
