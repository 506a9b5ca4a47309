"""Help: examples that the command takes, units and defaults, nothing wider than a terminal."""

from __future__ import annotations

import importlib
import itertools
import shlex
from collections.abc import Iterator

import click
import pytest

from edge_runtime.cli import COMMANDS, main
from tests.conftest import invoke

TOOLS = (
    "baselines", "export_table", "grid", "growth", "peers", "processors", "publish", "results_schema", "soak",
    "speakers", "tables",
)  # fmt: skip
"""`python -m benchmarks.lab.NAME`."""
WIDTH = 80


def contexts() -> Iterator[tuple[str, click.Context]]:
    """Yield every command that can be typed, with the context of its help."""
    yield from _with_subcommands("edgeemo", main, None)
    for name in TOOLS:
        yield from _with_subcommands(
            f"python -m benchmarks.lab.{name}", importlib.import_module(f"benchmarks.lab.{name}").main, None
        )


def _with_subcommands(
    called: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Context]]:
    name = called if parent is None else called.rpartition(" ")[2]
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    yield called, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from _with_subcommands(f"{called} {each}", found, context)


EVERY = dict(contexts())


def examples(text: str) -> list[str]:
    """Return the lines of the examples in a help text."""
    lines = [line.strip() for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if line in ("Example:", "Examples:")]
    assert len(starts) == 1, "a help text has one block of examples"
    return list(itertools.takewhile(bool, lines[starts[0] + 1 :]))


def refused(words: list[str], context: click.Context) -> str:
    """Return why the command of a context, or a subcommand of it, does not take these words; empty if it does.

    Paths are not looked at.
    """
    command = context.command
    try:
        values, rest, _ = command.make_parser(click.Context(command)).parse_args(list(words))
        if isinstance(command, click.Group):
            found = command.get_command(context, rest[0])
            if found is None:
                return f"there is no command {rest[0]}"
            return refused(rest[1:], click.Context(found, parent=context, info_name=rest[0]))
        for parameter in command.get_params(click.Context(command)):
            given = values.get(str(parameter.name))
            # Newer releases of click have an object of their own for what was not given.
            given = given if isinstance(given, str | list | tuple) and given else None
            if parameter.required and given is None:
                return f"{parameter.name} is missing"
            several = parameter.multiple or parameter.nargs != 1
            for value in [] if given is None else given if several else [given]:
                if isinstance(value, str) and not isinstance(parameter.type, click.Path):
                    parameter.type.convert(value, parameter, click.Context(command))
        return f"{rest} is too much" if rest else ""
    except click.UsageError as error:
        return error.format_message()


def test_all_commands_are_looked_at():
    assert {f"edgeemo {name}" for name in COMMANDS} <= set(EVERY)
    assert "edgeemo profile merge" in EVERY


@pytest.mark.parametrize("called", EVERY)
def test_examples_are_taken_by_the_command(called):
    lines = examples(EVERY[called].get_help())
    assert lines
    root = "edgeemo" if called.startswith("edgeemo") else called
    for line in lines:
        command = line.rpartition(" | ")[2]
        assert command.startswith(called), f"{line}: is of another command"
        assert command.count("edgeemo ") <= 1, f"{line}: two examples in a line"
        assert not refused(shlex.split(command.removeprefix(root)), EVERY[root]), line


def test_a_command_that_is_nearly_right_is_named():
    done = invoke("corups", "x")
    assert done.returncode == 2
    assert "did you mean 'corpus'?" in done.stderr
