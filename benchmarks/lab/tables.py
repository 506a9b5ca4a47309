"""Write the tables of a document from results files: `python -m benchmarks.lab.tables README.md distill/RESULTS.md`.

A block stands between ``<!-- results: NAME [VIEW [ARGUMENT]] -->`` and ``<!-- end -->``; NAME is a file under
``benchmarks/results``. Views: none for the systems and the command, those of `VIEWS`, ``figure`` for the plot of the
same name, and ``choices`` for how many choices were made with test figures visible, which ``run`` shows too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.bench.results import Results
from benchmarks.lab.choices import choices_with_test_figures
from benchmarks.lab.options import RESULTS
from benchmarks.lab.views import accuracy_tables, cost_tables, unseen_tables
from benchmarks.lab.views.table_cells import NOT_YET
from edge_runtime.errors import Tool, WrongUseError
from edge_runtime.files import write_text

FIGURE, CHOICES, RUN = "figure", "choices", "run"
_BLOCK = re.compile(r"(<!-- results: ([\w-]+)((?: [\w-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, folder: Path | None = None) -> str:
    """Return a document with the content of every block.

    Args:
        text: the document.
        folder: of the document, for links to figures; None for the root of this repository.

    Raises:
        WrongUseError: a block names an unknown view.
    """
    place = folder or Path(__file__).resolve().parents[2]

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}{table(found[2], *found[3].split(), folder=place)}\n{found[4]}"

    return _BLOCK.sub(block, text)


def table(name: str, view: str = "", *arguments: str, folder: Path = Path()) -> str:
    """Return one view of a results file as Markdown.

    Args:
        name: of the file; a missing one yields `NOT_YET`.
        view: a key of `VIEWS`, `FIGURE`, `CHOICES`, or empty for the systems and the command.
        arguments: of the view.
        folder: of the document.

    Raises:
        WrongUseError: there is no such view.
    """
    if view not in (*VIEWS, FIGURE, CHOICES):
        known = ", ".join(filter(None, [*VIEWS, FIGURE, CHOICES]))
        raise WrongUseError(f"results: {name} {view}: there is no such view; there are {known}")
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return NOT_YET
    if view == FIGURE:
        figure = RESULTS / f"{'-'.join([name, *arguments])}.svg"
        if not figure.is_file():
            return NOT_YET
        return f"![{' '.join([name, *arguments])}]({Path(os.path.relpath(figure, folder)).as_posix()})"
    choices = f"Choices made with test figures visible: {choices_with_test_figures(name)}."
    if view == CHOICES:
        return choices
    found = VIEWS[view](Results.read(path), *arguments)
    return f"{found}\n* {choices}" if view == RUN else found


VIEWS: dict[str, Callable[..., str]] = {
    "": accuracy_tables.systems,
    "details": accuracy_tables.details,
    "folds": accuracy_tables.folds,
    "recall": accuracy_tables.recall,
    "shares": accuracy_tables.shares,
    "sweep": accuracy_tables.sweep,
    RUN: accuracy_tables.run,
    "exports": cost_tables.exports,
    "forms": cost_tables.forms,
    "processors": cost_tables.processors,
    "figures": cost_tables.figures,
    "references": cost_tables.references,
    "languages": accuracy_tables.languages,
    "peers": cost_tables.peers,
    "cost": cost_tables.cost,
    "unseen": unseen_tables.unseen,
    "adaptation": unseen_tables.adaptation,
    "taught": unseen_tables.taught,
    "new-emotions": unseen_tables.new_emotions,
    "conditions": unseen_tables.conditions,
}
"""Views by the second word of a block."""


@click.command("tables", cls=Tool)
@click.argument("documents", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--check", is_flag=True, help="Only check that they are up to date (exit code 1 if not).")
def main(documents: tuple[Path, ...], check: bool) -> None:
    """Write the tables of DOCUMENTS from the results files.

    \b
    Examples:
      python -m benchmarks.lab.tables README.md
      python -m benchmarks.lab.tables README.md --check
    """
    stale = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        fresh = render(text, document.resolve().parent)
        if fresh != text:
            stale.append(str(document))
            if not check:
                write_text(document, fresh)
    if check and stale:
        raise click.ClickException(f"{', '.join(stale)}: run python -m benchmarks.lab.tables {' '.join(stale)}")


if __name__ == "__main__":
    main()
