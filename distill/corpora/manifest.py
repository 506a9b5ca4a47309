"""A manifest: one row an utterance, ``file,speaker,emotion,language,transcript`` and any further columns.

``metadata.csv`` or ``metadata.jsonl`` in the corpus directory, or any ``.csv`` or ``.jsonl`` file that is given itself;
files are named relative to the folder of the manifest. ``corpus.json`` beside it may hold a `CorpusFacts`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.corpora.reader import Entry
from distill.corpus import CorpusFacts
from edge_runtime.errors import EdgeemoError

REQUIRED_COLUMNS = ("file", "speaker", "emotion")
OPTIONAL_COLUMNS = ("language", "transcript")
NAMES = ("metadata.csv", "metadata.jsonl")
SUFFIXES = (".csv", ".jsonl")


def find_manifest(root: Path) -> Path | None:
    """Return the manifest of a directory, if it has one."""
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def read_manifest(path: Path) -> Iterator[Entry]:
    """Yield the rows of a manifest.

    Raises:
        EdgeemoError: it is no UTF-8 text, lacks a column, has an empty value, or a line is not a JSON object.
    """
    try:
        # Spreadsheets put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgeemoError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    rows = _json_rows(path, text) if path.suffix == ".jsonl" else _csv_rows(path, text)
    for line, row in rows:
        values = {str(key): _text(value) for key, value in row.items() if key is not None}
        for name in REQUIRED_COLUMNS:
            if not values.get(name):
                raise EdgeemoError(f"{path}, line {line}: the column '{name}' is empty")
        yield Entry(
            file=values.pop("file"),
            speaker=values.pop("speaker"),
            emotion=values.pop("emotion"),
            transcript=values.pop("transcript", ""),
            language=values.pop("language", ""),
            extra=values,
        )


def read_facts(root: Path) -> CorpusFacts | None:
    """Return what ``corpus.json`` of a directory says, if there is one.

    Raises:
        EdgeemoError: it does not follow `CorpusFacts`.
    """
    path = root / "corpus.json"
    if not path.is_file():
        return None
    try:
        return CorpusFacts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EdgeemoError(f"{path}: {where}: {problem['msg']}") from error


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    _refuse_missing(path, reader.fieldnames or ())
    for row in reader:
        yield reader.line_num, row


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    # Not splitlines: a transcript may hold separators that only Unicode takes for line ends.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise EdgeemoError(f"{path}, line {line}: is not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise EdgeemoError(f'{path}, line {line}: is not a JSON object, such as {{"file": "a.wav", ...}}')
        _refuse_missing(f"{path}, line {line}", row)
        yield line, row


def _refuse_missing(where: Path | str, names: Iterable[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        raise EdgeemoError(f"{where}: lacks the column {', '.join(missing)}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
