"""Which problems of a corpus training refuses, and which of them a user has accepted. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from distill.checks.finding import Finding

ACCEPTABLE = ("duplicates", "giveaway", "labels", "length", "one-emotion", "short", "silence", "speakers")
"""Checks whose problems can be accepted; files that cannot be decoded, and folds that cannot be cut, cannot."""

LEFT_OUT_BY_SKIPPING = ("broken", "length", "short", "silence")
"""Checks of single files, whose problems ``--skip-broken`` leaves out."""


class AcceptedChecks(click.ParamType[Any]):
    """Takes names of checks, separated by commas."""

    name = "CHECK,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the names, sorted, each once, as one text."""
        names = {name.strip() for name in str(value).split(",")}
        unknown = sorted(names - set(ACCEPTABLE))
        if unknown:
            self.fail(f"'{unknown[0]}' is no check to accept; they are {', '.join(ACCEPTABLE)}", param, ctx)
        return ",".join(sorted(names))


def names_of(values: Iterable[str]) -> tuple[str, ...]:
    """Return the names in all values of ``--accept``, sorted, each once."""
    return tuple(sorted({name for value in values for name in value.split(",")}))


def refusal(root: Path, findings: Sequence[Finding], accepted: Collection[str] = ()) -> str:
    """Return in one sentence why a corpus is refused; empty where no finding is a problem that is not accepted.

    Args:
        root: the corpus, for the sentence.
        findings: what was found.
        accepted: names of checks whose problems are accepted.
    """
    problems = [each for each in findings if each.level == "problem" and each.check not in accepted]
    if not problems:
        return ""
    names = list(dict.fromkeys(each.check for each in problems))
    counted = ", ".join(f"{name} ({_count([each for each in problems if each.check == name])})" for name in names)
    ways = ["repair it"]
    if set(names) <= set(LEFT_OUT_BY_SKIPPING):
        ways.append("leave such files out with --skip-broken")
    if set(names) <= set(ACCEPTABLE):
        ways.append(f"accept it with --accept {','.join(names)}")
    first = problems[0].message.rstrip(".")
    return f"{root}: is refused by the check{'s' * (len(names) > 1)} {counted}: {first}; {' or '.join(ways)}"


def _count(problems: Sequence[Finding]) -> str:
    files = {name for each in problems for name in each.files}
    number, what = (len(files), "file") if files else (len(problems), "finding")
    return f"{number} {what}{'s' * (number != 1)}"


def accepted_problems(findings: Iterable[Finding], accepted: Collection[str]) -> tuple[Finding, ...]:
    """Return the problems that were accepted."""
    return tuple(each for each in findings if each.level == "problem" and each.check in accepted)


def accepted_note(accepted: Sequence[str]) -> str:
    """Return the sentence of reports on what was accepted; empty where nothing was."""
    return f"Trained in spite of problems of the corpus, accepted by --accept {','.join(accepted)}." if accepted else ""
