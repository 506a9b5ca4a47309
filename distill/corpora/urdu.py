"""URDU: ``Angry/SM1_F1_A01.wav`` (speaker with sex, file, emotion and number)."""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}


def _entry(match: re.Match[str], file: str, _root: Path) -> Entry:
    return Entry(
        file,
        speaker=match["speaker"].upper(),
        emotion=known(_EMOTIONS, match["emotion"].upper(), "emotion"),
        extra={"sex": "male" if match["sex"].upper() == "M" else "female"},
    )


READER = named_files_reader(
    CorpusFacts(
        name="urdu",
        licence="unknown",
        language="ur",
        note="From talk shows; most speakers show one or two of the four emotions only.",
        citation="Latif et al.: Cross Lingual Speech Emotion Recognition: Urdu vs. Western Languages, FIT 2018",
    ),
    "Angry/SM1_F1_A01.wav",
    r"(?P<speaker>S(?P<sex>[MF])\d+)_F\d+_(?P<emotion>[A-Z])\d+",
    _entry,
    published=400,
)
