"""A cross-validation as a table for people."""

from __future__ import annotations

from statistics import mean

from rich.table import Table

from distill.runs.cross_validation import CrossValidation, PooledSystem, describe_folds


def fold_table(found: CrossValidation) -> Table:
    """Return the folds of the main system, and every system over all folds together."""
    title = f"{found.corpus.facts.name}, {describe_folds(found.spec, found.folds)}"
    table = Table("system", "fold", "speakers", "UA", "95 % interval", "WA", "validation UA", title=title)
    for score in found.systems[found.system].folds:
        validated = "" if score.validation_ua is None else f"{score.validation_ua:.3f}"
        row = (str(score.fold), str(score.speakers), f"{score.ua:.3f}", "", f"{score.wa:.3f}", validated)
        table.add_row(found.system, *row)
    table.add_section()
    for name, system in found.systems.items():
        test = system.test
        interval = f"{test.ua_low:.3f} - {test.ua_high:.3f}"
        row = ("pooled", str(test.speakers), f"{test.ua:.3f}", interval, f"{test.wa:.3f}", _validated(system))
        table.add_row(name, *row)
    return table


def _validated(system: PooledSystem) -> str:
    values = [score.validation_ua for score in system.folds if score.validation_ua is not None]
    return f"{mean(values):.3f}" if values else ""
