"""MELD: ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv`` and clips ``dia0_utt0``.

The release holds videos (``train_splits/dia0_utt0.mp4``, ``dev_splits_complete/``, ``output_repeated_splits_test/``),
which libsndfile cannot read: their sound is made beside them once, with ffmpeg. Tables lie in the directory or one
folder below it, clips in any folder whose path names its split. Rows without numbers, speaker or emotion are errors, or
left out. Speakers such as "All" or "Joey and Chandler" are groups: they get a column ``several_speakers``, and folds by
speaker leave them out. The division of the literature, whose parts share speakers, is
``folds = { by = "split", count = "published", speaker_mixed = true }``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.corpora.contents import table_text
from distill.corpora.reader import Entry, Reader, audio_files
from distill.corpus import SEVERAL_SPEAKERS, CorpusFacts
from edge_runtime.errors import EdgeemoError

_SPLITS = ("train", "dev", "test")
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
_GROUPS = (
    "all",
    "both",
    "everybody",
    "everyone",
    "others",
    "the guys",
    "the girls",
    "guys",
    "girls",
    "group",
    "crowd",
    "audience",
)
_SEVERAL = re.compile(r"\band\b|[,&/]", re.IGNORECASE)
_CLIP = re.compile(r"dia\d+_utt\d+")
# The tables hold typographic characters of Windows-1252 as control characters of Unicode.
_WINDOWS = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}


def _tables(root: Path) -> dict[str, Path]:
    found = {}
    for split in _SPLITS:
        name = f"{split}_sent_emo.csv"
        path = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None)
        if path is not None:
            found[split] = path
    return found


def _clips(root: Path) -> dict[tuple[str, str], str]:
    clips: dict[tuple[str, str], str] = {}
    for name in audio_files(root):
        path = Path(name)
        if _CLIP.fullmatch(path.stem):
            split = next((split for split in _SPLITS if any(split in part for part in path.parent.parts)), "")
            clips.setdefault((split, path.stem), name)
    return clips


def _entries(root: Path) -> Iterator[Entry]:
    clips = _clips(root)
    if not clips and next(root.rglob("dia*_utt*.mp4"), None) is not None:
        raise EdgeemoError(
            f"{root}: holds MELD's videos, whose sound must be made first; in each folder of them run: "
            'for f in *.mp4; do ffmpeg -i "$f" -ac 1 -ar 16000 "${f%.mp4}.wav"; done'
        )
    for split, table in _tables(root).items():
        rows = csv.DictReader(io.StringIO(table_text(table, fallback="cp1252"), newline=""))
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise EdgeemoError(f"{table}: lacks the column {', '.join(missing)}")
        for row in _rows(table, rows):
            where = f"{table.relative_to(root)}, line {rows.line_num}"
            values = {name: (row[name] or "").strip() for name in _COLUMNS}
            stem = f"dia{values['Dialogue_ID']}_utt{values['Utterance_ID']}"
            problem = _malformed(values, row)
            file = clips.get((split, stem), f"{split}/{stem}.wav")
            yield Entry(
                table.relative_to(root).as_posix() if problem else file,
                speaker=values["Speaker"],
                emotion=values["Emotion"].lower(),
                transcript=values["Utterance"].translate(_WINDOWS).strip(),
                extra={
                    "split": split,
                    "dialogue": f"{split}-{values['Dialogue_ID']}",
                    "sentiment": (row.get("Sentiment") or "").strip(),
                    **({SEVERAL_SPEAKERS: "yes"} if _is_group(values["Speaker"]) else {}),
                },
                problem=problem,
                where=where,
            )


def _rows(table: Path, rows: csv.DictReader[str]) -> Iterator[dict[str | None, Any]]:
    try:
        yield from rows
    except csv.Error as error:
        raise EdgeemoError(f"{table}, line {rows.line_num}: is not valid CSV ({error})") from error


def _malformed(values: dict[str, str], row: dict[str | None, Any]) -> str:
    """Return what is wrong with a row, or nothing."""
    if not (values["Dialogue_ID"].isdecimal() and values["Utterance_ID"].isdecimal()):
        found = f"{values['Dialogue_ID']!r} and {values['Utterance_ID']!r}"
        return f"has a row whose Dialogue_ID and Utterance_ID are no numbers but {found}"
    empty = next((name for name in ("Speaker", "Emotion") if not values[name]), None)
    if empty is not None:
        return f"has a row without {empty}"
    if any(row.get(None) or ()):
        return "has a row with more values than columns"
    return ""


def _is_group(speaker: str) -> bool:
    """Return whether a name in the tables stands for several people.

    >>> [_is_group(name) for name in ("All", "Joey and Chandler", "Monica, Rachel", "Alan", "Sandy")]
    [True, True, True, False, False]
    """
    return speaker.casefold() in _GROUPS or _SEVERAL.search(speaker) is not None


READER = Reader(
    CorpusFacts(
        name="meld",
        licence="GPL-3.0 (annotations); the sound is that of a television series",
        language="en",
        note="Television series with laughter and music; the official split shares its main speakers.",
        citation="Poria et al.: MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, "
        "ACL 2019",
    ),
    "train_sent_emo.csv and train_splits/dia0_utt0.wav",
    lambda root: bool(_tables(root)),
    _entries,
    published=13708,
)
