"""Read a recipe from TOML, with what the command line changes in it."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.recipe import Recipe
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
        settings: ``table.key=value`` with a TOML value.
        without: teachers to leave out.
        encoder: the student's encoder, instead of the recipe's, be that a random one.

    Raises:
        WrongUseError: no such recipe, not TOML, an unknown key, a value out of range, or a teacher that it lacks.
    """
    try:
        content = tomllib.loads(_text_of(name))
    except tomllib.TOMLDecodeError as error:
        raise WrongUseError(f"recipe {name}: is not valid TOML ({error})") from error
    for setting in settings:
        _apply(content, setting)
    for teacher in without:
        if content.pop(teacher, None) is None:
            raise WrongUseError(f"--without {teacher}: recipe {name} has no such teacher")
    student = content.get("student")
    if encoder is not None and isinstance(student, dict):
        student["encoder"] = encoder
        student.pop("random", None)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise wrong_settings(error, f"recipe {name}", Recipe) from error


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


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise WrongUseError(f"--set {setting}: must read table.key=value")
    *tables, last = key.strip().split(".")
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
