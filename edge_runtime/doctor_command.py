"""`edgeemo doctor`: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from edge_runtime.console import console
from edge_runtime.doctor.examine import Examination
from edge_runtime.doctor.finding import Finding, State
from edge_runtime.doctor.system import System
from edge_runtime.errors import StepError

_COLOURS: dict[State, str] = {
    "ok": "green",
    "can be better": "yellow",
    "missing": "red",
    "optional": "bright_black",
    "unknown": "bright_black",
}


_WIDTH_IN_FILES = 160


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check also what this configuration of listen names.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
def doctor_command(bundle: Path | None, config: Path | None, as_json: bool) -> None:
    """Tell what this machine can do, what is missing, and the command that mends it.

    The BUNDLE, or the one that the configuration names, or else the default one, is verified, and one window is scored.
    Nothing is built, installed or changed, but the verdict on the
    engine that listen keeps in its cache. The exit code is 0 whatever the machine lacks; where what the BUNDLE or the
    configuration names cannot work here, all of the table is shown, and the exit code is that of listen: 1 or 2.

    --json writes {"ok": true or false, "findings": [...]}: ok is whether the exit code is 0, and a finding has what,
    state (ok, can be better, missing, optional, unknown), found, remedy, and the exit_code that listen would end with
    (0: none).

    \b
    Examples:
      edgeemo doctor
      edgeemo doctor BUNDLE --json
      edgeemo doctor --config edge.toml
    """
    examination = Examination(System(), bundle, config)
    with console.status("looking at this machine"):
        findings = list(examination.findings())
    refused = [each for each in findings if each.exit_code]
    if as_json:
        told = {"ok": not refused, "findings": [asdict(finding) for finding in findings]}
        json.dump(told, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(_table(findings))
    if refused:
        names = ", ".join(dict.fromkeys(each.what for each in refused))
        raise StepError(f"listen would not run with this; see what is said of {names}", refused[0].exit_code)


def _print(table: Table) -> None:
    """Print the table to standard output, since it is data; wide in a file, where nothing cuts long paths."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_IN_FILES
    Console(file=sys.stdout, highlight=False, markup=False, width=width).print(table)


def _table(findings: list[Finding]) -> Table:
    table = Table(
        Column("state", no_wrap=True),
        Column("what", overflow="fold", max_width=24),
        Column("found, and what mends it", overflow="fold"),
    )
    # Text, not markup: names of devices hold square brackets.
    for each in findings:
        purpose = "to have it" if each.state == "optional" else "to mend it"
        found = f"{each.found}\n{purpose}: {each.remedy}" if each.remedy else each.found
        table.add_row(Text(each.state, style=_COLOURS[each.state]), Text(each.what), Text(found))
    return table
