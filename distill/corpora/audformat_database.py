"""A database in audformat (``db.yaml`` with tables): schemes ``emotion`` and ``speaker``, by the audformat library.

Schemes ``transcription`` (or ``transcript``), ``language`` and ``gender`` (or ``sex``) are taken where they are there.
Schemes ``arousal``, ``valence`` and ``dominance`` are targets, on the scale of the scheme's minimum and maximum (0 and
1 without them): the mean over all columns with the scheme, which are raters, of the chosen table if it has any.
All tables of files count together. Where two give a file different emotions, one is chosen by its file
(``edgeemo corpus DIR/db.TABLE.csv``). Several columns of one table with the scheme are raters: most votes win, and a
file with a tie is an error or left out. Files without an emotion are left out. Tables with a split add a column
``split``.

Tables of segments (start, end) are refused, unless each segment is a whole file. An utterance is a file everywhere
else: fingerprints, checks, caches of features and of teachers, copies in training and test are all found by its path
and the content of its file. So segments are cut into files first, by the audformat library; ``distill/TRAINING.md`` has
the lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.corpora.reader import Entry, Reader
from distill.corpus import CorpusFacts
from edge_runtime.dimensions import DIMENSIONS, Dimension
from edge_runtime.errors import EdgeemoError, missing_extra

_REQUIRED = ("emotion", "speaker")
_TRANSCRIPTS = ("transcription", "transcript", "text")
_SEXES = ("gender", "sex")
_TABLES = (".csv", ".parquet", ".pkl")
_TIE = "\x1f"


def _load(root: Path) -> Any:
    try:
        import audformat
    except ImportError as error:
        raise missing_extra("distill", "audformat") from error
    try:
        return audformat.Database.load(str(root))
    except Exception as error:  # the library passes on what YAML, pandas and the file system raise
        raise EdgeemoError(f"{root / 'db.yaml'}: cannot be read as an audformat database ({error})") from error


def facts_of(root: Path) -> CorpusFacts:
    """Return what the header of a database says of it."""
    database = _load(root)
    languages = [_iso_639_1(code) for code in database.languages]
    return CorpusFacts(
        name=str(database.name),
        licence=str(database.license or "unknown"),
        language=languages[0] if len(languages) == 1 else "",
        note=" ".join(str(database.description or "").split()),
        citation=str(database.author or ""),
        dimension_ranges=_ranges(database),
    )


def _ranges(database: Any) -> dict[Dimension, tuple[float, float]]:
    schemes = {name: database.schemes[name] for name in DIMENSIONS if name in database.schemes}
    return {
        name: (float(each.minimum), float(each.maximum))
        for name, each in schemes.items()
        if each.minimum is not None and each.maximum is not None
    }


def _iso_639_1(code: str) -> str:
    from iso639 import Lang  # comes with audformat, which keeps three-letter codes
    from iso639.exceptions import InvalidLanguageValue

    try:
        return str(Lang(code).pt1) or code
    except InvalidLanguageValue:
        return code


def is_table(path: Path) -> bool:
    """Return whether a file is a table of a database, as the library names them."""
    return path.name.startswith("db.") and path.suffix in _TABLES and (path.parent / "db.yaml").is_file()


def entries(root: Path, table: Path | None = None) -> Iterator[Entry]:
    """Yield the files that have an emotion.

    Args:
        root: directory of the database.
        table: file of the table that emotions are taken from; all tables if not given.

    Raises:
        EdgeemoError: a scheme is missing, tables contradict each other, or label segments of files.
    """
    database = _load(root)
    missing = [name for name in _REQUIRED if name not in database.schemes]
    if missing:
        held = ", ".join(database.schemes) or "none"
        raise EdgeemoError(f"{root / 'db.yaml'}: has no scheme '{missing[0]}' (its schemes: {held})")
    chosen = table.name.removeprefix("db.").removesuffix(table.suffix) if table is not None else None
    if chosen is not None and chosen not in database.tables:
        raise EdgeemoError(f"{table}: is no table of its database (it has: {', '.join(database.tables) or 'none'})")
    emotions = _by_file(root, database, "emotion", chosen)
    speakers = _by_file(root, database, "speaker")
    optional = {
        "transcript": next((name for name in _TRANSCRIPTS if name in database.schemes), None),
        "language": "language" if "language" in database.schemes else None,
        "sex": next((name for name in _SEXES if name in database.schemes), None),
    }
    more = {column: _by_file(root, database, name) for column, name in optional.items() if name}
    about = _labels(database, "speaker")
    texts = _labels(database, optional["transcript"]) if optional["transcript"] else {}
    splits = _splits(database)
    dimensions = {name: _means(root, database, name, chosen) for name in DIMENSIONS if name in database.schemes}
    for file, emotion in emotions.items():
        speaker = speakers.get(file, "")
        known = about.get(speaker, {})
        known = known if isinstance(known, dict) else {}
        words = more.get("transcript", {}).get(file, "")
        sex = more.get("sex", {}).get(file, "") or str(known.get("gender", known.get("sex", "")))
        language = more.get("language", {}).get(file, "") or str(known.get("language", ""))
        problem = "" if speaker else "the database names no speaker for it"
        if _TIE in emotion:
            problem = f"its raters disagree ({emotion.replace(_TIE, ', ')} have as many votes)"
        yield Entry(
            file,
            speaker=speaker,
            emotion=emotion,
            transcript=str(texts.get(words, words)),
            language=_iso_639_1(language) if language else "",
            extra={key: value for key, value in (("sex", sex), ("split", splits.get(file, ""))) if value},
            dimensions={name: means[file] for name, means in dimensions.items() if file in means},
            problem=problem,
        )


def _means(root: Path, database: Any, scheme: str, chosen: str | None) -> dict[str, float]:
    """Return the mean over raters by file: of the chosen table if it has the scheme, else of all tables."""
    columns = {
        name: [key for key, column in database[name].columns.items() if column.scheme_id == scheme]
        for name in database.tables
    }
    if chosen is not None and columns[chosen]:
        columns = {chosen: columns[chosen]}
    ratings: dict[str, list[float]] = {}
    for name, keys in columns.items():
        if not keys:
            continue
        _refuse_stretches(root, database[name], scheme)
        frame = database[name].df[keys]
        for file, values, given in zip(
            frame.index.get_level_values("file"), frame.to_numpy(), frame.notna().to_numpy(), strict=True
        ):
            try:
                numbers = [float(value) for value in values[given]]
            except (TypeError, ValueError) as error:
                raise EdgeemoError(
                    f"{root / 'db.yaml'}: the table '{name}' gives {file} the {scheme} {values[given][0]!r}, which is "
                    "not a number; give the scheme the type float"
                ) from error
            ratings.setdefault(Path(str(file)).as_posix(), []).extend(numbers)
    return {file: sum(numbers) / len(numbers) for file, numbers in ratings.items() if numbers}


def _splits(database: Any) -> dict[str, str]:
    """Return the type of the split (train, dev, test) of each file, where tables have one."""
    found: dict[str, str] = {}
    for name in database.tables:
        split = database[name].split_id
        if split is not None:
            kind = str(database.splits[split].type)
            found.update({Path(str(file)).as_posix(): kind for file in database[name].files})
    return found


def _labels(database: Any, scheme: str) -> dict[str, Any]:
    labels = database.schemes[scheme].labels
    if isinstance(labels, str):  # the name of a misc table
        table = database[labels].df
        return {str(key): dict(row) for key, row in table.to_dict(orient="index").items()}
    return {str(key): value for key, value in labels.items()} if isinstance(labels, dict) else {}


def _by_file(root: Path, database: Any, scheme: str, only: str | None = None) -> dict[str, str]:
    """Return the values of a scheme by file, empty ones left out; tied ones of raters are joined by `_TIE`."""
    found: dict[str, tuple[str, str]] = {}
    for name in database.tables if only is None else [only]:
        columns = [key for key, column in database[name].columns.items() if column.scheme_id == scheme]
        if not columns:
            continue
        _refuse_stretches(root, database[name], scheme)
        for file, value in _votes(database[name].df[columns]):
            table, before = found.setdefault(file, (name, value))
            if before != value:
                what = f"'{before.replace(_TIE, ' or ')}' and '{value.replace(_TIE, ' or ')}'"
                advice = "correct one"
                if scheme == _REQUIRED[0]:
                    advice = f"choose one by the path of its file, such as {_file_of(root, name)}"
                raise EdgeemoError(
                    f"{root / 'db.yaml'}: the tables '{table}' and '{name}' give {file} the {scheme} {what}; {advice}"
                )
    if only is not None and not found:
        raise EdgeemoError(f"{root / 'db.yaml'}: the table '{only}' gives no {scheme}")
    return {file: value for file, (_, value) in found.items()}


def _votes(columns: Any) -> Iterator[tuple[str, str]]:
    """Yield each file that has a value with the one that most columns give it, or a tie joined by `_TIE`."""
    rows = zip(columns.index.get_level_values("file"), columns.to_numpy(), columns.notna().to_numpy(), strict=True)
    for file, values, given in rows:
        votes = Counter(str(value).strip() for value in values[given])
        votes.pop("", None)
        most = max(votes.values(), default=0)
        if most:
            winners = sorted(value for value, count in votes.items() if count == most)
            yield Path(str(file)).as_posix(), _TIE.join(winners)


def _file_of(root: Path, table: str) -> str:
    return str(next((root / f"db.{table}{each}" for each in _TABLES if (root / f"db.{table}{each}").is_file()), table))


def _refuse_stretches(root: Path, table: Any, scheme: str) -> None:
    if not table.is_segmented:
        return
    if (table.starts.total_seconds() > 0).any() or table.ends.notna().any():
        raise EdgeemoError(
            f"{root / 'db.yaml'}: the {scheme} is given for segments of files; write them as files with a metadata.csv "
            "by audformat.utils.to_filewise_index ('Segments of an audformat database' in distill/TRAINING.md has the "
            "lines), and give the folder of these"
        )


READER = Reader(
    CorpusFacts(name="audformat"),
    "db.yaml",
    lambda root: (root / "db.yaml").is_file(),
    entries,
    facts_of=facts_of,
)
