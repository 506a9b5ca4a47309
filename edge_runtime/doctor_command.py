"""`edgeemo doctor`: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from edge_runtime.console import console
from edge_runtime.doctor.examine import Examination
from edge_runtime.doctor.finding import Finding, State
from edge_runtime.doctor.system import System

_COLOURS: dict[State, str] = {"ok": "green", "can be better": "yellow", "missing": "red", "unknown": "bright_black"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Check also what this configuration of listen names.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
def doctor_command(bundle: Path | None, config: Path | None, as_json: bool) -> None:
    """Tell what this machine can do, what is missing, and the command that mends it.

    With a BUNDLE (or one that the configuration names) it is verified, and one window is scored. Nothing is built,
    installed or changed. The exit code is 0 whatever the machine lacks; where the bundle or the configuration is
    refused, all of the table is shown, and the exit code is that of listen: 1 or 2.

    \b
    Examples:
      edgeemo doctor
      edgeemo doctor BUNDLE --json
      edgeemo doctor --config edge.toml
    """
    examination = Examination(System(), bundle, config)
    with console.status("looking at this machine"):
        findings = list(examination.findings())
    if as_json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        console.print(_table(findings))
    if examination.refused is not None:
        raise examination.refused


def _table(findings: list[Finding]) -> Table:
    table = Table("state", "what", "found", "to mend it")
    # Text, not markup: names of devices hold square brackets.
    for each in findings:
        table.add_row(Text(each.state, style=_COLOURS[each.state]), *map(Text, (each.what, each.found, each.remedy)))
    return table
