"""`edgeemo doctor`: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass

import click
from rich.table import Table
from rich.text import Text

from edge_runtime import __version__
from edge_runtime.console import console
from edge_runtime.devices import input_devices
from edge_runtime.engine_cache import EngineError, cached_engines, engines_directory, only_ours
from edge_runtime.errors import MissingPartError
from edge_runtime.extras import DEMO_ENCODER, DEMO_ENCODER_REMEDY, EXTRAS, missing_modules


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at this machine."""
    findings = [
        Finding("edgeemo", True, f"{__version__} on Python {platform.python_version()}, {platform.machine()}"),
        Finding("ONNX Runtime", True, importlib.metadata.version("onnxruntime")),
        _microphone(),
    ]
    for extra in EXTRAS:
        missing = missing_modules(extra)
        findings.append(
            Finding(
                f"extra {extra}",
                not missing,
                f"lacks {', '.join(missing)}" if missing else "installed",
                f'pip install "edgeemo[{extra}]"' if missing else "",
            )
        )
    encoder = importlib.util.find_spec(DEMO_ENCODER) is not None
    found = "installed" if encoder else "missing"
    findings.append(Finding("demo's text encoder", encoder, found, "" if encoder else DEMO_ENCODER_REMEDY))
    findings.append(_engine_cache())
    return findings


def _microphone() -> Finding:
    try:
        devices = input_devices()
    except MissingPartError as error:
        what, _, remedy = error.message.partition("; run: ")
        return Finding("microphone", False, what, remedy)
    if not devices:
        return Finding("microphone", False, "none", "plug one in, or use --source FILE")
    return Finding("microphone", True, "; ".join(device.name for device in devices))


def _engine_cache() -> Finding:
    """Look at the engine cache without making it."""
    directory = engines_directory()
    place = next(folder for folder in (directory, *directory.parents) if folder.exists())
    engines = cached_engines()
    held = ", ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in engines) or "no engines yet"
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        if place == directory:
            only_ours(directory, directory.stat())
    except OSError as error:
        remedy = "export XDG_CACHE_HOME=DIRECTORY, one that you may write to"
        return Finding("engine cache", False, f"{directory}: cannot be written to ({error.strerror}); {held}", remedy)
    except EngineError:
        return Finding("engine cache", False, f"{directory}: others may write to it", f"chmod 700 {directory}")
    return Finding("engine cache", True, f"{directory}: writable; {held}")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON to standard output.")
def doctor_command(as_json: bool) -> None:
    r"""Tell what this machine can do, what is missing, and the command that mends it.

    \b
    Example:
      edgeemo doctor
    """
    findings = examine()
    if as_json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    table = Table("", "what", "found", "to mend it")
    for finding in findings:
        mark = Text("ok", style="green") if finding.good else Text("--", style="yellow")
        table.add_row(mark, finding.what, finding.found, finding.remedy)
    console.print(table)
