"""A database in audformat (``db.yaml`` with tables): schemes ``emotion`` and ``speaker``, by the audformat library.

Schemes ``transcription`` (or ``transcript``), ``language`` and ``gender`` (or ``sex``) are taken where they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.corpora.reader import Entry, Reader
from distill.corpus import CorpusFacts
from edge_runtime.errors import EdgeemoError, missing_extra

_REQUIRED = ("emotion", "speaker")
_TRANSCRIPTS = ("transcription", "transcript", "text")
_SEXES = ("gender", "sex")


def _load(root: Path) -> Any:
    try:
        import audformat
    except ImportError as error:
        raise missing_extra("distill", "audformat") from error
    try:
        return audformat.Database.load(str(root))
    except Exception as error:  # the library passes on what YAML, pandas and the file system raise
        raise EdgeemoError(f"{root / 'db.yaml'}: cannot be read as an audformat database ({error})") from error


def _facts(root: Path) -> CorpusFacts:
    database = _load(root)
    languages = [_iso_639_1(code) for code in database.languages]
    return CorpusFacts(
        name=str(database.name),
        licence=str(database.license or "unknown"),
        language=languages[0] if len(languages) == 1 else "",
        note=" ".join(str(database.description or "").split()),
        citation=str(database.author or ""),
    )


def _iso_639_1(code: str) -> str:
    from iso639 import Lang  # comes with audformat, which keeps three-letter codes
    from iso639.exceptions import InvalidLanguageValue

    try:
        return str(Lang(code).pt1) or code
    except InvalidLanguageValue:
        return code


def _entries(root: Path) -> Iterator[Entry]:
    database = _load(root)
    missing = [name for name in _REQUIRED if name not in database.schemes]
    if missing:
        held = ", ".join(database.schemes) or "none"
        raise EdgeemoError(f"{root / 'db.yaml'}: has no scheme '{missing[0]}' (its schemes: {held})")
    columns = {name: _by_file(root, database, name) for name in _REQUIRED}
    optional = {
        "transcript": next((name for name in _TRANSCRIPTS if name in database.schemes), None),
        "language": "language" if "language" in database.schemes else None,
        "sex": next((name for name in _SEXES if name in database.schemes), None),
    }
    more = {column: _by_file(root, database, name) for column, name in optional.items() if name}
    about = _labels(database, "speaker")
    texts = _labels(database, optional["transcript"]) if optional["transcript"] else {}
    for file, emotion in columns["emotion"].items():
        speaker = columns["speaker"].get(file, "")
        known = about.get(speaker, {})
        known = known if isinstance(known, dict) else {}
        words = more.get("transcript", {}).get(file, "")
        sex = more.get("sex", {}).get(file, "") or str(known.get("gender", known.get("sex", "")))
        language = more.get("language", {}).get(file, "") or str(known.get("language", ""))
        yield Entry(
            file,
            speaker=speaker,
            emotion=emotion,
            transcript=str(texts.get(words, words)),
            language=_iso_639_1(language) if language else "",
            extra={"sex": sex} if sex else {},
            problem="" if speaker else "the database names no speaker for it",
        )


def _labels(database: Any, scheme: str) -> dict[str, Any]:
    labels = database.schemes[scheme].labels
    if isinstance(labels, str):  # the name of a misc table
        table = database[labels].df
        return {str(key): dict(row) for key, row in table.to_dict(orient="index").items()}
    return {str(key): value for key, value in labels.items()} if isinstance(labels, dict) else {}


def _by_file(root: Path, database: Any, scheme: str) -> dict[str, str]:
    """Return the values of a scheme by file, empty ones left out."""
    import audformat

    found = database.get(scheme)
    if found.empty:
        return {}
    if audformat.index_type(found.index) == audformat.define.IndexType.SEGMENTED:
        starts = found.index.get_level_values("start")
        ends = found.index.get_level_values("end")
        if (starts.total_seconds() > 0).any() or ends.notna().any():
            raise EdgeemoError(
                f"{root / 'db.yaml'}: '{scheme}' is given for stretches of files; cut these into files of their own"
            )
        found = found.set_index(found.index.get_level_values("file"))
    values = found[scheme].dropna()
    return {Path(str(file)).as_posix(): str(value) for file, value in values.items()}


READER = Reader(
    CorpusFacts(name="audformat"),
    "db.yaml",
    lambda root: (root / "db.yaml").is_file(),
    _entries,
    facts_of=_facts,
)
