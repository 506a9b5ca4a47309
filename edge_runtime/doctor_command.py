"""`edgeemo doctor`: checks of this machine, a bundle and a configuration, each with a remedy."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Column, Table
from rich.text import Text

from edge_runtime.console import console, print_table
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


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Also check a configuration of listen.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
def doctor_command(bundle: Path | None, config: Path | None, as_json: bool) -> None:
    """Check this machine, and print a remedy for everything that is missing.

    The BUNDLE (else that of the configuration, else the default one) is verified, and one window is scored. Nothing is
    built, installed or changed, except the cached verdict on the engine. The exit code is 0 whatever the machine lacks.
    It is that of listen, 1 or 2, if listen would refuse the BUNDLE or the configuration, or the sound server hangs.

    Profiles of an older schema or for another bundle are reported too. If BUNDLE is a directory of several bundles,
    each of them is verified.

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
        print_table(_table(findings), _paragraphs(findings))
    if refused:
        names = ", ".join(dict.fromkeys(each.what for each in refused))
        raise StepError(f"listen would not run with this; see the table on {names}", refused[0].exit_code)


def _table(findings: list[Finding]) -> Table:
    table = Table(
        Column("state", no_wrap=True),
        Column("what", overflow="fold", max_width=24),
        Column("found, and remedy", overflow="fold"),
    )
    # Text, not markup: names of devices hold square brackets.
    for each in findings:
        table.add_row(Text(each.state, style=_COLOURS[each.state]), Text(each.what), Text(_found_and_remedy(each)))
    return table


def _paragraphs(findings: list[Finding]) -> Text:
    parts = [
        Text.assemble((each.state, _COLOURS[each.state]), f": {each.what}\n{_found_and_remedy(each)}\n")
        for each in findings
    ]
    return Text("\n").join(parts)


def _found_and_remedy(finding: Finding) -> str:
    purpose = "to install" if finding.state == "optional" else "remedy"
    return f"{finding.found}\n{purpose}: {finding.remedy}" if finding.remedy else finding.found
