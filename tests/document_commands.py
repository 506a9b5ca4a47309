"""The commands that documents show: in boxes with a shell, in sessions with a prompt, and in passing."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("distill", "export", "edge_runtime", "benchmarks")
DOCUMENTS = tuple(path for folder in (ROOT, *(ROOT / room for room in ROOMS)) for path in sorted(folder.glob("*.md")))
# Programs by whose names commands begin.
_PROGRAMS = (
    "edgeemo|make|pip|python3?|pytest|sudo|apt-get|torchrun|git|cd|ln|mv|scp|ssh|rsync|systemctl|"
    "mosquitto_sub|mosquitto_passwd"
)
_COMMAND = re.compile(rf"(?:/opt/edgeemo/bin/)?(?:{_PROGRAMS})(?: |$)")
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What a command wrote there names its call of that time.
_GENERATED = re.compile(r"<!-- results: .*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command, and where it is shown."""

    document: Path
    line: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.line}"


def blocks(document: Path, language: str) -> list[str]:
    """Return what stands in a document's boxes of one language."""
    return [found[2] for found in _FENCED.finditer(document.read_text(encoding="utf-8")) if found[1] == language]


def shell_commands(document: Path) -> Iterator[Shown]:
    """Yield the commands of a document's boxes with a shell, in order and without their comments."""
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s{2,}#|^#", line)[0].split(" && "):
                if part.strip():
                    yield Shown(document, part.strip())


def mentioned_commands(document: Path) -> Iterator[Shown]:
    """Yield the commands that a document mentions in sentences or shows as they were typed."""
    text = _GENERATED.sub("", document.read_text(encoding="utf-8"))
    for found in _FENCED.finditer(text):
        if found[1] != "sh":
            yield from (Shown(document, line[2:]) for line in found[2].splitlines() if line.startswith("$ "))
    for found in re.finditer(r"`([^`]+)`", _FENCED.sub("", text)):
        line = " ".join(found[1].split())
        if _COMMAND.match(line):
            yield Shown(document, line)


def commands_in_other_places(document: Path) -> list[str]:
    """Return commands that stand where no test finds them: indented, or in boxes that are no shell's."""
    text = document.read_text(encoding="utf-8")
    others = "\n".join(found[2] for found in _FENCED.finditer(text) if found[1] != "sh")
    indented = re.findall(r"^(?:    |\t)(.*)", _FENCED.sub("", text), re.MULTILINE)
    return [line for line in (*others.splitlines(), *indented) if _COMMAND.match(line)]


def check_words(line: str) -> None:
    """Have a command's own parser read its words, without running it.

    Raises:
        click.UsageError: there is no such command or option.
        AssertionError: it is a command that nothing here can read.
    """
    words = [word for word in shlex.split(line) if word != "…"]
    if words[0].endswith("edgeemo"):
        from edge_runtime.cli import main

        _parse(main, words[1:])
    elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        _parse(importlib.import_module(words[2]).main, words[3:])
    elif words[0] == "torchrun":
        check_words(shlex.join(["edgeemo", *words[words.index("edge_runtime") + 1 :]]))
    else:
        raise AssertionError(f"nothing here reads: {line}")


def _parse(command: click.Command, words: list[str]) -> None:
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"there is no command {words[0]}")
        command, words, context = found, words[1:], click.Context(found)
    try:
        # Raises where an option is unknown; whether paths are there is not looked at.
        command.make_parser(context).parse_args(list(words))
    except click.BadOptionUsage as error:
        # An option that is told by its name alone.
        if words[-1] != error.option_name:
            raise
