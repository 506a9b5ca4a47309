"""pydantic's errors on settings as one sentence.

No value is repeated, since it may be a password.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge_runtime.errors import WrongUseError
from edge_runtime.strict_json import shown

MOST = 5
_WORDS = {
    "missing": "is needed",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("string_type", "path_type"), "must be a text, in quotes"),
    **dict.fromkeys(("model_type", "model_attributes_type"), "must be a table, begun with {table}"),
    "dict_type": 'must be a table, as {{ name = "value" }}',
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list, as [1, 2]"),
}
"""Texts of pydantic's types of errors; names in braces are from the error's context."""


def wrong_settings(
    error: ValidationError, where: str, settings: Any, options: Mapping[tuple[str, ...], str] | None = None
) -> WrongUseError:
    """Return one sentence with up to `MOST` errors.

    Args:
        error: of pydantic.
        where: origin of the settings, as the path of a file.
        settings: their type: a model, or a union of models with a ``kind``.
        options: command-line options by the keys of their settings, named instead of these.
    """
    problems = error.errors(include_input=False, include_url=False)
    places = {each["loc"][:-1] for each in problems}
    # A list whose only item is invalid is reported as empty too.
    problems = [each for each in problems if each["type"] != "too_short" or each["loc"] not in places]
    texts = [_problem(each, settings, options or {}) for each in problems[:MOST]]
    more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
    return WrongUseError(f"{where}: {'; '.join(texts + more)}")


class _Place(NamedTuple):
    """A position in the settings: keys, name (as "sinks 1.path"), the models around it and those that it may hold."""

    keys: tuple[str, ...]
    name: str
    models: list[type[BaseModel]]
    inner: list[type[BaseModel]]


def _problem(problem: ErrorDetails, settings: Any, options: Mapping[tuple[str, ...], str]) -> str:
    place = _place(problem["loc"], settings)
    if problem["type"].startswith("union_tag_"):
        place = place._replace(keys=(*place.keys, "kind"), name=f"{place.name}.kind".removeprefix("."))
    name = options.get(place.keys) or (f"'{shown(place.name, 200)}'" if place.name else "")
    what = _in_words(problem, place, settings)
    return f"{name}: {what}" if name else what


def _place(location: tuple[int | str, ...], settings: Any) -> _Place:
    """Return the place of an error, whose location also has the numbers and kinds of list items."""
    place, is_mapping = _Place((), "", [], list(_models(settings))), False
    for part in location:
        if isinstance(part, int):
            # Messages count from 1.
            place = place._replace(name=f"{place.name} {part + 1}")
            continue
        if is_mapping or part == "[key]" or (not place.inner and place.keys):
            # A key of a mapping; else the type of a plain setting with several types, or the mark of a wrong key.
            if is_mapping:
                place, is_mapping = place._replace(keys=(*place.keys, part), name=f"{place.name}.{part}"), False
            continue
        kinds = [each for each in place.inner if _kind(each) == part]
        fields = [each.model_fields[part] for each in place.inner if part in each.model_fields]
        if kinds and not fields:
            place = place._replace(inner=kinds)
            continue
        inner = [each for field in fields for each in _models(field.annotation)]
        is_mapping = any(get_origin(field.annotation) is dict for field in fields)
        place = _Place((*place.keys, part), f"{place.name}.{part}".removeprefix("."), place.inner, inner)
    return place


def _in_words(problem: ErrorDetails, place: _Place, settings: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"no such setting{_suggestion(place, settings)}"
    if kind.startswith("union_tag_"):
        known = [_kind(each) for each in place.inner]
        near = difflib.get_close_matches(str(context.get("tag", "")), known, 1)
        return f"must be one of {', '.join(known)}{_did_you_mean(near)}"
    if kind in ("tuple_type", "list_type") and place.inner:
        return f"must be a list of tables, each begun with [[{place.name}]]"
    if kind in _WORDS:
        of_list = place.name.rpartition(" ")[0]
        table = f"[[{of_list}]]" if of_list else f"[{place.name}]"
        return _WORDS[kind].format(table=table, **{key: _short(value) for key, value in context.items()})
    return shown(problem["msg"].removeprefix("Value error, "), 300)


def _short(value: Any) -> str:
    # Without the quotes in pydantic's lists, as in "'auto' or 'tensorrt'".
    return f"{value:g}" if isinstance(value, float) else str(value).replace("'", "")


def _suggestion(place: _Place, settings: Any) -> str:
    """Return a suggestion: a setting with a similar name, in this table or another one."""
    key = place.keys[-1]
    near = difflib.get_close_matches(key, [name for each in place.models for name in each.model_fields], 1)
    elsewhere = {places[-1]: ".".join(places) for places in _all_places(settings)}
    # Without its unit, as `hop` for `hop_seconds`, a name is not close by its letters.
    begun = [name for name in elsewhere if name.startswith(f"{key}_")]
    return _did_you_mean(near or [elsewhere[name] for name in difflib.get_close_matches(key, elsewhere, 1) or begun])


def _did_you_mean(meant: list[str]) -> str:
    return f"; did you mean '{meant[0]}'?" if meant else ""


def _all_places(settings: Any) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to each setting, without those in lists."""
    for model in _models(settings):
        for name, field in model.model_fields.items():
            yield (name,)
            if get_origin(field.annotation) is None:
                yield from ((name, *place) for place in _all_places(field.annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) is None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        return
    for each in get_args(annotation):
        yield from _models(each)


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return None if field is None else field.default
