"""The shape of a narrower encoder, before it holds weights."""

from __future__ import annotations

from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Units
from distill.recipe import Narrow
from distill.student import Student
from edge_runtime.errors import WrongUseError


def shape_narrow(student: Student, recipe: Narrow) -> None:
    """Give a student's encoder the shape that the recipe tells, with the first units of each group.

    Raises:
        WrongUseError: the encoder has fewer units than are to stay, or its frames cannot be left out.
    """
    encoder = student.encoder
    encoder.thin(recipe.every)
    encoder.keep({group.name: range(size) for group, size in wanted_sizes(encoder, recipe)})
    student.config.encoder = encoder.settings


def wanted_sizes(encoder: SpeechEncoder, recipe: Narrow) -> list[tuple[Units, int]]:
    """Return how many units of each group stay.

    Raises:
        WrongUseError: that are more than there are.
    """
    found = []
    for group in encoder.units():
        size = getattr(recipe, group.kind)
        if size is not None and size > group.count:
            raise WrongUseError(f"student.narrow.{group.kind}: {group.name} has {group.count}, not {size}")
        found.append((group, group.count if size is None else size))
    return found
