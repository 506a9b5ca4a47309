"""`make audit`: are there known vulnerabilities in what is installed? Needs pip-audit's database, and skips without it.

Where a mirror stands in for the database and is empty, pip-audit prints "No known vulnerabilities found" and ends
with 0. So a package of which vulnerabilities are known is asked about first, and what could not be looked up is told.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

COMMAND = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--timeout", "5", "--format", "json"]
KNOWN_BAD = "requests==2.20.0"
_PROBE_SECONDS, _WHOLE_SECONDS = 15, 600


def main() -> int:
    """Audit this environment; further arguments go to pip-audit. Return 1 if something is found."""
    options = sys.argv[1:]
    if importlib.util.find_spec("pip_audit") is None:
        click.echo('audit: pip-audit is not installed; run: pip install "edgeemo[dev]"')
        return 1
    if not _answers(options):
        click.echo("audit: skipped, since the database of vulnerabilities cannot be reached from here")
        return 0
    report = _report(["--skip-editable", *options], _WHOLE_SECONDS)
    if report is None:
        click.echo("audit: pip-audit failed half-way; run: python -m pip_audit --skip-editable")
        return 1
    known = [each for each in report["dependencies"] if "vulns" in each]
    found = [(each, vulnerability) for each in known for vulnerability in each["vulns"]]
    for each, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        click.echo(f"audit: {each['name']} {each['version']}: {vulnerability['id']}, fixed in {fixed}")
    unknown = sorted(each["name"] for each in report["dependencies"] if "vulns" not in each)
    click.echo(
        f"audit: {len(known)} packages looked up, {len(found)} known vulnerabilities"
        + (f"; the database does not know {', '.join(unknown)}" if unknown else "")
    )
    return 1 if found else 0


def _answers(options: list[str]) -> bool:
    """Ask about one package: quick where there is no database, and where a mirror stands in."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "one.txt"
        asked.write_text(f"{KNOWN_BAD}\n")
        report = _report(["--requirement", str(asked), "--no-deps", "--disable-pip", *options], _PROBE_SECONDS)
    return report is not None and any(each.get("vulns") for each in report["dependencies"])


def _report(options: list[str], seconds: int) -> dict[str, Any] | None:
    try:
        done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    # 0: nothing was found; 1: something was, or the database did not answer and there is no report.
    return json.loads(done.stdout) if done.stdout.startswith("{") else None


if __name__ == "__main__":
    sys.exit(main())
