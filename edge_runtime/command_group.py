"""Groups of commands: an unknown command is refused with the right one, and an option that would be ignored, too."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import click

from edge_runtime.errors import WrongUseError


class CommandGroup(click.Group):
    """A group of commands.

    Attributes:
        synonyms: names of other programs for a command, with its name here; they are suggested, not accepted.
    """

    synonyms: ClassVar[Mapping[str, str]] = {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split the arguments.

        Raises:
            UsageError: an option stands before the command that it is for.
        """
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            usage = f"{ctx.command_path} COMMAND {error.option_name}"
            ctx.fail(f"No such option '{error.option_name}'; options stand after their command: {usage}")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand.

        Raises:
            UsageError: there is none of that name; the message names a similar one, or all.
            WrongUseError: an option with one value is given more than once.
        """
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0].lower(), [*known, *self.synonyms], 1)
            meant = self.synonyms.get(near[0], near[0]) if near else ""
            hint = f"did you mean '{meant}'?" if meant else f"use one of {', '.join(known)}"
            ctx.fail(f"No such command '{args[0]}'; {hint}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_repeated(command, click.Context(command, ctx, name, resilient_parsing=True), rest)
        return name, command, rest


def refuse_repeated(command: click.Command, ctx: click.Context, args: list[str]) -> None:
    """Refuse an option with one value that is given more than once, of which click would use the last one only.

    Raises:
        WrongUseError: there is one.
    """
    _, _, order = command.make_parser(ctx).parse_args(list(args))
    for option, times in Counter(order).items():
        if times > 1 and isinstance(option, click.Option) and not (option.multiple or option.is_flag or option.count):
            raise WrongUseError(f"{option.opts[0]}: is given {times} times and takes one value; give it once")
