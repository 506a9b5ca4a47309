"""The reference of bundles and events, from their schemas: ``python -m tests.reference_page`` writes it anew."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_runtime import events
from edge_runtime.bundles import manifest

PAGE = Path(events.__file__).with_name("REFERENCE.md")
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
| `pcm`, input | `[1, samples]` | mono sound, 16 kHz, -1 to 1, at least 0.25 s, at most `window.seconds` |
| `reference`, input | `[1, statistics_size]` | mean that the logits are relative to: `reference` of `bundle.json` |
| `logits`, output | `[1, labels]` | one for each label; probabilities: softmax(logits / `temperature`) |
| `statistics`, output | `[1, statistics_size]` | mean and deviation over time of hidden states |
| `dimensions`, output | `[1, dimensions.names]` | arousal, valence, dominance, 0 to 1; only with `dimensions` |

On x86 processors without VNNI, a program that opens `model.int8.cpu.onnx` by itself needs ONNX Runtime's session entry
`session.x64quantprecision` = `1`, or sums saturate. `edgeemo` sets it there, and there only: elsewhere it is slow
([measured](../export/RESULTS.md#the-same-decisions-on-every-processor)). `known_answers` holds sound and logits to test
an engine with.
"""


def page() -> str:
    """Return the whole page."""
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


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and of those that it extends state of each field."""
    found: dict[str, str] = {}
    for each in reversed([each for each in model.__mro__ if issubclass(each, BaseModel) and each is not BaseModel]):
        _, _, attributes = (inspect.cleandoc(each.__doc__ or "")).partition("Attributes:\n")
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
            found[name] = _code(" ".join(text.split()))
    return found


def _summary(model: type[BaseModel]) -> str:
    return _code(" ".join(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].split()))


def _code(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(mode="validation")
    meanings = descriptions(model)
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        rows.append(f"| `{name}` | {_type(field)} | {meanings[name]} |")
    return "\n".join(rows) + "\n"


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
    PAGE.write_text(page(), encoding="utf-8")
