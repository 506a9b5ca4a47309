"""The reference pages: ``python -m tests.reference_page`` writes them anew.

Events, bundles and recipes come from their schemas, commands from their help.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from distill import recipe
from distill.folds import FoldSpec
from distill.speech.augmentation import Augmentation
from distill.teachers.registry import BUILT_IN, find_kind
from edge_runtime import cli, events
from edge_runtime.bundles import manifest
from edge_runtime.windows import WindowPolicy
from tests.command_contexts import with_subcommands

PAGE = Path(events.__file__).with_name("REFERENCE.md")
COMMANDS_PAGE = Path(events.__file__).with_name("COMMANDS.md")
RECIPES_PAGE = Path(recipe.__file__).with_name("RECIPES.md")
MODELS: dict[str, tuple[type[BaseModel], ...]] = {
    "Events": (events.EmotionEvent, events.StatusEvent),
    "Bundles": (
        manifest.Manifest,
        manifest.WindowEntry,
        manifest.EncoderEntry,
        manifest.SpeakerEntry,
        manifest.SpeakerProjectionEntry,
        manifest.CorpusEntry,
        manifest.FoldEntry,
        manifest.TeacherEntry,
        manifest.AccuracyEntry,
        manifest.DimensionsEntry,
        manifest.ConcordanceEntry,
        manifest.KnownAnswersEntry,
        manifest.StretchEntry,
        manifest.FileEntry,
    ),
}
HEAD = f"""# Reference of events and bundles

Made from the schemas by `python -m tests.reference_page`; a test compares.

`edgeemo listen --json` writes an event a line, of `schema_version` {events.SCHEMA_VERSION}: a reader of yours may count
on the fields of its major version, and must let new ones pass. A bundle is a directory with `bundle.json`, of
`schema_version` {manifest.SCHEMA_VERSION}, the graphs and whatever else `files` lists; a reader refuses another major
version, and files that differ from what is listed.

Graphs of a bundle ({", ".join(f"`{name}`" for name in manifest.GRAPHS)})
take and give float32:

| name | shape | holds |
|---|---|---|
| `pcm`, input | `[1, samples]` | 16 kHz mono sound, -1 to 1, at least 0.25 s, at most `window.seconds`, or a chunk |
| `reference`, input | `[1, statistics_size]` | mean that the logits are relative to: `reference` of `bundle.json` |
| `past`, input | `[1, P]` | only with `window.chunk_seconds`: `next` of the chunk before, zeros for the first one |
| `logits`, output | `[1, labels]` | one for each label; probabilities: softmax(logits / `temperature`) |
| `statistics`, output | `[1, statistics_size]` | mean and deviation over time of hidden states |
| `next`, output | `[1, P]` | only with `window.chunk_seconds`: what the following chunk depends on |
| `dimensions`, output | `[1, dimensions.names]` | arousal, valence, dominance, 0 to 1; only with `dimensions` |

With `window.chunk_seconds` (schema 3.2; edgeemo of earlier versions refuses the graph) `pcm` is a chunk of
`edgeemo.chunk_samples` (metadata of the graph) and the 240 samples before it, zeros at the beginning. The logits are
those of all chunks so far. A rest of less than 800 samples is left out.

On x86 processors without VNNI, a program that opens `model.int8.cpu.onnx` by itself needs ONNX Runtime's session entry
`session.x64quantprecision` = `1`, or sums saturate. `edgeemo` sets it there, and there only: elsewhere it is slow
([measured](../export/RESULTS.md#the-same-decisions-on-every-processor)). `known_answers` holds sound and logits to test
an engine with.
"""

TABLES: tuple[type[BaseModel], ...] = (
    recipe.Recipe,
    FoldSpec,
    WindowPolicy,
    recipe.Student,
    recipe.LdaHead,
    recipe.Speaker,
    recipe.Dimensions,
    recipe.StructuredPruning,
    recipe.EncoderDistillation,
    recipe.RandomEncoder,
    Augmentation,
    recipe.Schedule,
    recipe.TeacherTable,
    recipe.TeacherSignal,
    recipe.Weighting,
    recipe.ChoicesWithTestFigures,
)
"""Tables of a recipe, but for those of the kinds of teachers."""
RECIPES_HEAD = """# Reference of recipes

Made from the schemas by `python -m tests.reference_page`; a test compares. A recipe is a TOML file; the shipped ones
are in `distill/recipes`, and [TRAINING.md](TRAINING.md#recipes-and-teachers) describes them. `--set KEY=VALUE` of
`edgeemo distill` changes one key, such as `--set student.copies=5`. Unknown keys are errors.
"""
COMMANDS_HEAD = """# Reference of commands

What `--help` of each command shows, made by `python -m tests.reference_page`; a test compares.
"""


def page() -> str:
    """Return the page of events and bundles."""
    parts = [HEAD]
    for title, models in MODELS.items():
        parts.append(f"## {title}\n")
        for model in models:
            parts.append(f"### {model.__name__}\n")
            parts.append(f"{_summary(model)}\n")
            parts.append(_table(model))
    parts.append("### Status\n")
    parts.append(_what_may_happen())
    return "\n".join(parts)


def recipes_page() -> str:
    """Return the page of recipes."""
    teachers = {kind: find_kind(kind).teacher for kind in BUILT_IN}
    sections = [
        *((model.__name__, model, model) for model in TABLES),
        *((f"Teacher `{kind}`", teacher, teacher.Settings) for kind, teacher in teachers.items()),
    ]
    parts = [f"## {title}\n\n{_summary(text)}\n\n{_table(model, defaults=True)}" for title, text, model in sections]
    return "\n".join([RECIPES_HEAD, *parts])


def commands_page() -> str:
    """Return the page of commands."""
    parts = [COMMANDS_HEAD]
    for called, context in with_subcommands("edgeemo", cli.main):
        parts.append(f"## {called}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


PAGES: dict[Path, Callable[[], str]] = {PAGE: page, COMMANDS_PAGE: commands_page, RECIPES_PAGE: recipes_page}


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and of those that it extends state of each field."""
    found: dict[str, str] = {}
    for each in reversed([each for each in model.__mro__ if issubclass(each, BaseModel) and each is not BaseModel]):
        _, _, attributes = (inspect.cleandoc(each.__doc__ or "")).partition("Attributes:\n")
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
            found[name] = _code(" ".join(text.split()))
    return found


def _summary(model: type) -> str:
    return _code(" ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split()))


def _code(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _table(model: type[BaseModel], defaults: bool = False) -> str:
    schema = model.model_json_schema(mode="validation")
    meanings = descriptions(model)
    head = ["field", "type", *(["default"] if defaults else []), "meaning"]
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, field in schema["properties"].items():
        kind = _type(field)
        cells = [f"`{name}`", kind, meanings[name]]
        if defaults:
            # TOML has no null: a key is left out.
            cells[1:2] = [kind.removesuffix(" or null"), _default(name, field, schema)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _default(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema.get("required", ()):
        return "must be given"
    default = field.get("default")
    # What stands for a table with the defaults of its own keys.
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return (
            "one of [Status](#status)" if "gap" in field["enum"] else ", ".join(f"`{each}`" for each in field["enum"])
        )
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type", "any")
    if kind == "array":
        return f"array of {_type(field.get('items', {}))}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, dict) else "object"
    low, high = field.get("minimum"), field.get("maximum")
    return kind if low is None or high is None else f"{kind}, {low:g} to {high:g}"


def _what_may_happen() -> str:
    source = inspect.getsource(events)
    return _code(re.search(r'"""Kinds of status events:\n\n(.*?)"""', source, re.DOTALL)[1])  # type: ignore[index]


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
