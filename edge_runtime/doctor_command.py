"""`edgeemo doctor`: checks of this machine, a bundle and a configuration, each with a remedy."""

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
from edge_runtime.doctor.examine import examine
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
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Also check a configuration of listen.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
def doctor_command(bundle: Path | None, config: Path | None, as_json: bool) -> None:
    """Check this machine, and print a remedy for everything that is missing.

    The BUNDLE (else that of the configuration, else the default one) is verified, and one window is scored. Nothing is
    built, installed or changed, except the cached verdict on the engine. The exit code is 0 whatever the machine lacks.
    It is that of listen, 1 or 2, if listen would refuse the BUNDLE or the configuration, or the sound server hangs.

    --json writes {"ok": true or false, "findings": [...]}. A finding has what, state (ok, can be better, missing,
    optional, unknown), found, remedy, and the exit_code of listen (0: none); ok is true if all of these are 0.

    \b
    Examples:
      edgeemo doctor
      edgeemo doctor BUNDLE --json
      edgeemo doctor --config edge.toml
    """
    with console.status("checking this machine"):
        findings = list(examine(System(), bundle, config))
    refused = [each for each in findings if each.exit_code]
    if as_json:
        content = {"ok": not refused, "findings": [asdict(finding) for finding in findings]}
        json.dump(content, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        _print(_table(findings))
    if refused:
        names = ", ".join(dict.fromkeys(each.what for each in refused))
        raise StepError(f"listen would not run with this; see the table on {names}", refused[0].exit_code)


def _print(table: Table) -> None:
    """Print the table to standard output, since it is data; in a file it is wide, so that long paths are not folded."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_IN_FILES
    Console(file=sys.stdout, highlight=False, markup=False, width=width).print(table)


def _table(findings: list[Finding]) -> Table:
    table = Table(
        Column("state", no_wrap=True),
        Column("what", overflow="fold", max_width=24),
        Column("found, and remedy", overflow="fold"),
    )
    # Text, not markup: names of devices hold square brackets.
    for each in findings:
        purpose = "to install" if each.state == "optional" else "remedy"
        found = f"{each.found}\n{purpose}: {each.remedy}" if each.remedy else each.found
        table.add_row(Text(each.state, style=_COLOURS[each.state]), Text(each.what), Text(found))
    return table
