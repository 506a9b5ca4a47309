"""MELD: ``train_sent_emo.csv``, ``dev_sent_emo.csv``, ``test_sent_emo.csv`` and clips ``dia0_utt0``.

The release holds videos (``train_splits/dia0_utt0.mp4``, ``dev_splits_complete/``, ``output_repeated_splits_test/``),
which libsndfile cannot read: their sound is made beside them once, with ffmpeg.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from distill.corpora.reader import Entry, Reader, audio_files
from distill.corpus import CorpusFacts
from edge_runtime.errors import EdgeemoError

_SPLITS = ("train", "dev", "test")
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
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
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise EdgeemoError(f"{table}: lacks the column {', '.join(missing)}")
            for row in rows:
                stem = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
                yield Entry(
                    clips.get((split, stem), f"{split}/{stem}.wav"),
                    speaker=row["Speaker"].strip(),
                    emotion=row["Emotion"].strip().lower(),
                    transcript=row["Utterance"].translate(_WINDOWS).strip(),
                    extra={
                        "split": split,
                        "dialogue": f"{split}-{row['Dialogue_ID']}",
                        "sentiment": row.get("Sentiment", "") or "",
                    },
                )


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
