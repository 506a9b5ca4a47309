"""Option types and queries that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

Option = Callable[[Any], Any]
"""A decorator of a command."""


class Number(click.FloatRange):
    """A finite number within a range; click's own type accepts NaN, since comparisons with it are false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def given(context: click.Context) -> dict[str, str]:
    """Return the options and arguments on the command line, as they are written, by the names of their parameters."""
    return {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    }


def path_option(name: str, text: str, *, exists: bool = False, **more: Any) -> Option:
    """Return an option for a path, with a help text and further arguments of `click.option`."""
    return click.option(name, type=click.Path(path_type=Path, exists=exists), help=text, **more)


def count_option(name: str, text: str, *, least: int = 1, most: int | None = None, **more: Any) -> Option:
    """Return an option for a whole number from ``least`` on, with a help text and arguments of `click.option`."""
    more = {"show_default": "default" in more} | more
    return click.option(name, type=click.IntRange(least, most), metavar="N", help=text, **more)
