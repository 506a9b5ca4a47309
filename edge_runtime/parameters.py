"""Option types and queries that several commands share."""

from __future__ import annotations

import math
from typing import Any

import click
from click.core import ParameterSource


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
