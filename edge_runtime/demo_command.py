"""`edgeemo demo`: the commands that a user would type, one after the other, on rendered speech."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click

from edge_runtime.console import console
from edge_runtime.errors import MissingPartError, StepError, WrongUseError
from edge_runtime.extras import DEMO_ENCODER, DEMO_ENCODER_REMEDY, needs_extra
from edge_runtime.files import write_text

DEMO_FOLD = 2
"""The fold of the published grid (`benchmarks/lab/grids/rendered-emodistill.toml`), so that figures can be compared."""
QUICK_SHARE = 6
"""A third of the published corpus: each speaker speaks one in so many sentences."""
QUICK_SETTINGS = (
    "teachers.linguistic.training.epochs=1",
    "teachers.linguistic.training.batch_size=16",
    "student.training.epochs=8",
    "student.training.batch_size=8",
)
"""Changes of the recipe for that corpus."""
MARK = "demo.json"
"""Says which demo a directory holds, so that no other is continued there."""


class Step(NamedTuple):
    """One command of the chain, its title, and the file that exists once it is done."""

    title: str
    arguments: list[str]
    done: Path | None


def steps(out: Path, recipe: str, settings: tuple[str, ...], *, full: bool = False) -> list[Step]:
    """Return the chain, with everything under ``out``; ``full`` is that of the published figures."""
    corpus, run, bundle, report = out / "corpus", out / "run", out / "bundle", out / "report"
    quick = QUICK_SETTINGS if recipe == "demo" and not full else ()
    changes = [part for setting in (*quick, *settings) for part in ("--set", setting)]
    share = ["--share", str(QUICK_SHARE)] if quick else []
    return [
        Step("Render a corpus", ["corpus", str(corpus), "--render", *share], corpus / "metadata.csv"),
        Step(
            "Train the teachers, distil the student",
            ["distill", recipe, "--corpus", str(corpus), "--out", str(run), "--fold", str(DEMO_FOLD), *changes],
            None,
        ),
        # Few speakers make the gate's interval wide, few epochs a poor student: here both are reported and do not end
        # the demo.
        Step(
            "Export to INT8",
            ["export", str(run), "--int8", "--allow-drop", "--allow-chance", "--out", str(bundle)],
            None,
        ),
        Step("Listen to held-out recordings", ["listen", str(bundle)], None),
        Step("Measure", ["bench", str(bundle), "--corpus", str(corpus), "--out", str(report)], None),
    ]


@click.command("demo")
@click.option(
    "--out",
    default=Path("edgeemo-demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where everything goes.",
)
@click.option(
    "--recipe", default="demo", show_default=True, metavar="RECIPE", help="Distillation recipe; see: edgeemo distill."
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."
)
@click.option("--full", is_flag=True, help="All of the corpus and all epochs of the recipe 'demo'.")
@needs_extra("demo")
def demo_command(out: Path, recipe: str, settings: tuple[str, ...], full: bool) -> None:
    """Run the whole chain on rendered speech: corpus, teachers, student, INT8 bundle, events, report.

    It needs no microphone and no download, and takes four minutes on two cores. Every step is a command that is shown
    before it runs. A demo that was stopped goes on where it was.

    \b
    Examples:
      edgeemo demo --out demo
      edgeemo demo --out full --full
    """
    if out.exists() and not out.is_dir():
        raise WrongUseError(f"{out}: is no directory; give another --out")
    if recipe == "demo" and importlib.util.find_spec(DEMO_ENCODER) is None:
        raise MissingPartError(f"'{DEMO_ENCODER}' is not installed; run: {DEMO_ENCODER_REMEDY}")
    # By name, as the table of commands does: a wrong recipe is an error before a minute of rendering.
    importlib.import_module("distill.load_recipe").load_recipe(recipe, settings=settings)
    _claim(out, {"recipe": recipe, "settings": list(settings), "full": full})
    began = time.monotonic()
    chain = steps(out, recipe, settings, full=full)
    for number, step in enumerate(chain, start=1):
        console.print(f"\n{number}/{len(chain)}  {step.title}", style="bold")
        if step.done is not None and step.done.is_file():
            console.print(f"  {step.done.parent}: is there already")
            continue
        if step.arguments[0] == "listen":
            for emotion, recording in _recordings(out):
                console.print(f"  labelled {emotion}:", style="bold")
                _run([*step.arguments, "--source", str(recording)])
        else:
            _run(step.arguments)
    console.print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Look at:", style="bold")
    for path, what in (
        (out / "report" / "report.html", "latency and accuracy, with plots"),
        (out / "bundle" / "README.md", "model card"),
        (out / "bundle" / "bundle.json", "what the device loads"),
        (out / "run" / "report.json", "teachers and student, every epoch"),
    ):
        console.print(f"  {path}  ({what})")
    console.print("Rendered speech shows that the chain works; it is no evidence of accuracy on people.")
    console.print(f"Next, with a microphone: {next_command()} listen {out / 'bundle'}")


def _claim(out: Path, chosen: dict[str, object]) -> None:
    """Make a directory for a demo, or go on with the same one.

    Raises:
        WrongUseError: it holds something else.
    """
    out.mkdir(parents=True, exist_ok=True)
    mark, content = out / MARK, json.dumps(chosen)
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != content:
            raise WrongUseError(f"{out}: holds a demo with other options; remove it, or give another --out")
    elif any(out.iterdir()):
        raise WrongUseError(f"{out}: is not empty and has no {MARK} of a demo; remove it, or give another --out")
    else:
        write_text(mark, content)


def next_command() -> str:
    """Return how a shell finds our command: by its name, or as `make` called it, whose environment is not active."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "edgeemo" and shutil.which("edgeemo") is None else "edgeemo"


def _run(arguments: list[str]) -> None:
    command = f"edgeemo {shlex.join(arguments)}"
    console.print(f"$ {command}", style="dim")
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    # A failed step has already printed the reason.
    code = subprocess.run([sys.executable, "-m", "edge_runtime", *arguments], env=environment, check=False).returncode
    if code != 0:
        raise StepError(f"the demo stopped at: {command}", code if code > 0 else 1)


def _recordings(out: Path) -> list[tuple[str, Path]]:
    """Return a recording of each emotion from the test part: a speaker and a sentence that training never saw."""
    with (out / "run" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        found: dict[str, Path] = {}
        for row in csv.DictReader(stream):
            found.setdefault(row["emotion"], out / "corpus" / row["file"])
    return sorted(found.items())
