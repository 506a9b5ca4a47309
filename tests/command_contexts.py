"""Every command that can be typed, with the context of its help."""

from __future__ import annotations

from collections.abc import Iterator

import click

WIDTH = 80
"""Columns of a terminal that help must fit."""


def with_subcommands(
    called: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Yield a command and all commands below it, as they are called."""
    name = called if parent is None else called.rpartition(" ")[2]
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    # click keeps the option of the context that a command was first used in, which a test may have made without "-h".
    command._help_option = None
    yield called, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from with_subcommands(f"{called} {each}", found, context)
