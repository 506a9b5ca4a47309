r"""A manifest: one row an utterance, ``file,speaker,emotion,language,transcript`` and any further columns.

``arousal``, ``valence`` and ``dominance`` are targets from 0 to 1, or on the scale that ``corpus.json`` declares
(``dimension_ranges``); any of them may be left out, or empty in some rows.

``metadata.csv`` or ``metadata.jsonl`` in the corpus directory, or any ``.csv`` or ``.jsonl`` file that is given itself;
files are named relative to the folder of the manifest, with ``/`` or ``\``. ``corpus.json`` beside it may hold a
`CorpusFacts`. UTF-8, or UTF-16 with a byte order mark; lines end in LF or CRLF. Blanks around values do not count, and
what tables write for missing values (``nan``, ``<NA>``) is an empty one.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.corpora.contents import table_text
from distill.corpora.reader import Entry
from distill.corpus import CorpusFacts
from edge_runtime.dimensions import DIMENSIONS
from edge_runtime.errors import EdgeemoError
from edge_runtime.strict_json import shown

REQUIRED_COLUMNS = ("file", "speaker", "emotion")
OPTIONAL_COLUMNS = ("language", "transcript")
NAMES = ("metadata.csv", "metadata.jsonl")
SUFFIXES = (".csv", ".jsonl")

_MISSING_TEXTS = ("nan", "NaN", "NAN", "<NA>", "NaT")
# A transcript may consist of these words; a person or an emotion does not.
_MISSING_NAMES = (*_MISSING_TEXTS, "null", "NULL", "None", "N/A", "n/a")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def find_manifest(root: Path) -> Path | None:
    """Return the manifest of a directory, if it has one."""
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def read_manifest(path: Path, *, labelled: bool = True) -> Iterator[Entry]:
    """Yield the rows of a manifest.

    Args:
        path: the manifest.
        labelled: speakers and emotions are needed; of unlabelled speech only the column ``file`` is.

    Raises:
        EdgeemoError: it is no text in UTF-8 or UTF-16, lacks a column or has one twice, has an empty value or one too
            many, names a file on a Windows drive, or a line is not a JSON object.
    """
    text = table_text(path)
    required = REQUIRED_COLUMNS if labelled else REQUIRED_COLUMNS[:1]
    read = _json_rows if path.suffix.lower() == ".jsonl" else _csv_rows
    rows = read(path, text, required)
    for line, row in rows:
        where = f"{path.name}, line {line}"
        values = {str(key): _text(value).strip() for key, value in row.items() if key is not None}
        for name in required:
            value = values.get(name, "")
            if not value:
                raise EdgeemoError(f"{path}, line {line}: the column '{name}' is empty")
            if value in _MISSING_NAMES:
                raise EdgeemoError(
                    f"{path}, line {line}: the column '{name}' is '{value}', a missing value; give it or remove the row"
                )
        for key, value in values.items():
            if value in (_MISSING_NAMES if key in REQUIRED_COLUMNS else _MISSING_TEXTS):
                values[key] = ""
        yield Entry(
            file=_file(path, line, values.pop("file")),
            speaker=values.pop("speaker", ""),
            emotion=values.pop("emotion", ""),
            transcript=values.pop("transcript", ""),
            language=values.pop("language", ""),
            dimensions={name: values.pop(name) for name in DIMENSIONS if name in values},
            extra=values,
            where=where,
        )


def _file(manifest: Path, line: int, name: str) -> str:
    """Return a file's name with ``/``, once for ``./a.wav`` and ``a.wav``."""
    if _DRIVE.match(name):
        raise EdgeemoError(
            f"{manifest}, line {line}: '{name}' is a path on a Windows drive; name files relative to the folder of the "
            "manifest"
        )
    if "\\" in name and not (manifest.parent / name).exists():
        name = name.replace("\\", "/")
    return posixpath.normpath(name)


def read_facts(root: Path) -> CorpusFacts | None:
    """Return the content of ``corpus.json`` of a directory, if there is one.

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
        raise EdgeemoError(f"{path}: {f'{where}: ' if where else ''}{problem['msg']}") from error


def _csv_rows(path: Path, text: str, required: Sequence[str]) -> Iterator[tuple[int, dict[Any, Any]]]:
    # Strict, or one quote that is never closed would take all lines after it for one transcript.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        _refuse_missing(path, names, required)
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise EdgeemoError(f"{path}: has the column '{twice}' twice; remove or rename one")
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue  # a blank line; spreadsheets leave the commas
            if any(cells[len(names) :]):
                raise EdgeemoError(
                    f"{path}, line {reader.line_num}: has {len(cells)} values for {len(names)} columns; "
                    "put a text that holds a comma in double quotes"
                )
            yield reader.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise EdgeemoError(
            f"{path}, line {reader.line_num}: is not valid CSV ({error}); look for a double quote that is not closed"
        ) from error


def _json_rows(path: Path, text: str, required: Sequence[str]) -> Iterator[tuple[int, dict[Any, Any]]]:
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
        _refuse_missing(f"{path}, line {line}", row, required)
        yield line, row


def _refuse_missing(where: Path | str, names: Collection[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        there = ", ".join(shown(name, 40) for name in islice(names, 8)) or "none"
        raise EdgeemoError(
            f"{where}: lacks the column {', '.join(missing)} (it has: {there}); columns are separated by commas, and "
            f"those that are needed are called {','.join(required)}"
        )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
