"""Read a recipe from TOML, with what the command line changes in it. Imports no torch."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.recipe import Recipe, TeacherTable
from distill.teachers.registry import entry_of
from edge_runtime.errors import WrongUseError
from edge_runtime.settings_errors import wrong_settings

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


def built_in_recipes() -> list[str]:
    """Return the names of the recipes that ship with edgeemo."""
    folder = resources.files("distill").joinpath("recipes")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_recipe(
    name: str, *, settings: tuple[str, ...] = (), without: tuple[str, ...] = (), encoder: str | None = None
) -> Recipe:
    """Read a recipe and apply what the command line changed.

    Args:
        name: path of a TOML file, or the name of a built-in recipe.
        settings: ``table.key=value`` with a TOML value; ``teachers.NAME.key=value`` for a teacher.
        without: names of teachers to leave out.
        encoder: the student's encoder, instead of the recipe's, pretrained or random.

    Raises:
        WrongUseError: no such recipe, not TOML, an unknown key or kind of teacher, a value out of range, or a teacher
            that the recipe lacks.
        EdgeemoError: a plug-in teacher cannot be loaded.
    """
    try:
        content = tomllib.loads(_text_of(name))
    except tomllib.TOMLDecodeError as error:
        raise WrongUseError(f"recipe {name}: is not valid TOML ({error})") from error
    for setting in settings:
        _apply(content, setting, name)
    for teacher in without:
        content["teachers"].remove(_teacher(content, teacher, f"--without {teacher}: recipe {name}"))
    student = content.get("student")
    if encoder is not None and isinstance(student, dict):
        student["encoder"] = encoder
        student.pop("random", None)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise wrong_settings(error, f"recipe {name}", Recipe) from error
    # With all settings of their kinds, so that a run's record has the defaults too.
    whole = [entry_of(table, f"recipe {name}").settings.model_dump(mode="json") for table in recipe.teachers]
    return recipe.model_copy(update={"teachers": tuple(TeacherTable(**table) for table in whole)})


def _teacher(content: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return the table of the teacher of this name in a recipe's content."""
    tables = content.get("teachers", [])
    named = {}
    if isinstance(tables, list):
        named = {each.get("name", each.get("kind")): each for each in tables if isinstance(each, dict)}
    if name not in named:
        raise WrongUseError(f"{where} has no such teacher (it has {', '.join(map(str, named)) or 'none'})")
    found: dict[str, Any] = named[name]
    return found


def _text_of(name: str) -> str:
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise WrongUseError(f"{path}: there is no such recipe")
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise WrongUseError(f"{path}: is not UTF-8 text ({error.reason})") from error
    if name in built_in_recipes():
        return resources.files("distill").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    raise WrongUseError(
        f"there is no recipe '{name}': give the path of a TOML file or one of {', '.join(built_in_recipes())}"
    )


def _apply(content: dict[str, Any], setting: str, recipe: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise WrongUseError(f"--set {setting}: must read table.key=value")
    *tables, last = key.strip().split(".")
    if tables[:1] == ["teachers"]:
        content = _teacher(content, tables[1] if len(tables) > 1 else last, f"--set {setting}: recipe {recipe}")
        del tables[:2]
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise WrongUseError(f"--set {setting}: '{table}' is not a table of the recipe")
    try:
        content[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise WrongUseError(
            f"--set {setting}: the value is not valid TOML; a text needs quotes of its own, as --set '{key}=\"text\"'"
        ) from error
