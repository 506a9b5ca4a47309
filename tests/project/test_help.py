"""Help: examples that the command takes, units and defaults, nothing wider than a terminal."""

from __future__ import annotations

import importlib
import itertools
import shlex
from collections.abc import Iterator

import click
import pytest

from edge_runtime.cli import COMMANDS, main
from tests.command_contexts import with_subcommands
from tests.conftest import invoke

TOOLS = (
    "baselines", "export_table", "grid", "growth", "peers", "processors", "publish", "results_schema", "soak",
    "speakers", "streams", "tables",
)  # fmt: skip
"""`python -m benchmarks.lab.NAME`."""


def contexts() -> Iterator[tuple[str, click.Context]]:
    """Yield every command that can be typed, with the context of its help."""
    yield from with_subcommands("edgeemo", main)
    for name in TOOLS:
        tool = importlib.import_module(f"benchmarks.lab.{name}").main
        yield from with_subcommands(f"python -m benchmarks.lab.{name}", tool)


EVERY = dict(contexts())


def examples(text: str) -> list[str]:
    """Return the lines of the examples in a help text."""
    lines = [line.strip() for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if line in ("Example:", "Examples:")]
    assert len(starts) == 1, "a help text has one block of examples"
    return list(itertools.takewhile(bool, lines[starts[0] + 1 :]))


def check(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Have a command, or a subcommand of it, take these words without running it.

    Raises:
        click.UsageError: it does not take them.
    """
    context = command.make_context(None, list(words), parent=parent)
    if isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        check(found, rest, context)


def test_all_commands_are_looked_at():
    assert {f"edgeemo {name}" for name in COMMANDS} <= set(EVERY)
    assert "edgeemo profile merge" in EVERY


@pytest.mark.parametrize("called", EVERY)
def test_examples_are_taken_by_the_command(called, monkeypatch):
    # Whether paths are there is not looked at.
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: value)
    lines = examples(EVERY[called].get_help())
    assert lines
    root = "edgeemo" if called.startswith("edgeemo") else called
    for line in lines:
        command = line.rpartition(" | ")[2]
        assert command.startswith(called), f"{line}: is of another command"
        assert command.count("edgeemo ") <= 1, f"{line}: two examples in a line"
        check(EVERY[root].command, shlex.split(command.removeprefix(root)))


def test_a_command_that_is_nearly_right_is_named():
    done = invoke("corups", "x")
    assert done.returncode == 2
    assert "did you mean 'corpus'?" in done.stderr
