"""The registry of teachers: the built-in kinds, and those that installed packages add. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import ValidationError

from distill.plugins import blamed_on, described, find_plugin, load_plugin, plugin_names
from distill.recipe import Recipe, TeacherTable
from distill.teachers.interface import Teacher
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.settings_errors import wrong_settings

GROUP = "edgeemo.teachers"
"""Group of entry points; each one names a subclass of `Teacher`, and its own name is the kind."""
BUILT_IN = {
    "linguistic": "distill.teachers.linguistic:LinguisticTeacher",
    "prosodic": "distill.teachers.prosodic:ProsodicTeacher",
    "acoustic": "distill.teachers.acoustic:AcousticTeacher",
    "monolingual": "distill.teachers.monolingual:MonolingualTeacher",
}
"""Module and class of each kind, imported when a recipe names it. These modules import no torch at their beginning,
since reading a recipe imports them."""


@dataclass(frozen=True)
class Kind:
    """One kind of teacher.

    Attributes:
        name: in recipes.
        teacher: its class.
        plugin: the entry point that it comes from; None for a built-in kind.
    """

    name: str
    teacher: type[Teacher]
    plugin: EntryPoint | None = None

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn what a plug-in raises into one sentence that names it; ``what`` is what failed."""
        if self.plugin is None:
            yield
            return
        with blamed_on(self.plugin, what):
            yield


def find_kind(name: str) -> Kind:
    """Return a kind of teacher.

    Raises:
        WrongUseError: there is none of this name, neither built-in nor in an installed package.
        EdgeemoError: the plug-in cannot be loaded, or is no `Teacher`.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return Kind(name, getattr(import_module(module), attribute))
    plugins = plugin_names(GROUP)
    if name not in plugins:
        near = difflib.get_close_matches(name, [*BUILT_IN, *plugins], 1)
        raise WrongUseError(
            f"there is no kind of teacher '{name}': edgeemo has {', '.join(BUILT_IN)}, installed packages have "
            f"{', '.join(plugins) or 'none'} ({GROUP}); "
            + (f"did you mean '{near[0]}'?" if near else "install the package that has it")
        )
    entry = find_plugin(GROUP, name)
    found = load_plugin(entry)
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise EdgeemoError(
            f"{described(entry)} should be a subclass of distill.teachers.interface.Teacher, and is {found!r:.100}; "
            "repair or uninstall it"
        )
    return Kind(name, found, entry)


@dataclass(frozen=True)
class Entry:
    """A teacher of a recipe.

    Attributes:
        name: its name in the recipe.
        kind: its kind.
        settings: its table, validated by the model of the kind.
    """

    name: str
    kind: Kind
    settings: Any


def entry_of(table: TeacherTable, where: str) -> Entry:
    """Return a teacher of a recipe with its kind and validated settings.

    Raises:
        WrongUseError: a setting is unknown, missing or out of range, or there is no such kind.
        EdgeemoError: the plug-in that has the kind cannot be loaded.
    """
    kind = find_kind(table.kind)
    model = kind.teacher.Settings
    try:
        return Entry(table.name, kind, model.model_validate(table.model_dump()))
    except ValidationError as error:
        raise wrong_settings(error, f"{where}, teacher '{table.name}'", model) from error


def entries(recipe: Recipe) -> list[Entry]:
    """Return the teachers of a recipe; errors are those of `entry_of`."""
    return [entry_of(table, f"recipe {recipe.name}") for table in recipe.teachers]
