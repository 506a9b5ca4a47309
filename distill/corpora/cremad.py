"""CREMA-D: ``AudioWAV/1001_DFA_ANG_XX.wav`` (actor, sentence, emotion, level).

``VideoDemographics.csv`` beside the folder tells the actors' sex, where it is there.
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
# One file of the release is named X instead of XX.
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
_SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}


@functools.lru_cache(maxsize=4)
def _sexes(root: Path) -> dict[str, str]:
    for folder in (root, root.parent):
        path = folder / "VideoDemographics.csv"
        if path.is_file():
            with path.open(encoding="utf-8-sig", newline="") as stream:
                return {row["ActorID"]: row["Sex"].lower() for row in csv.DictReader(stream)}
    return {}


def _entry(match: re.Match[str], file: str, root: Path) -> Entry:
    actor, sentence, emotion, level = match.group().upper().split("_")
    return Entry(
        file,
        speaker=actor,
        emotion=known(_EMOTIONS, emotion, "emotion"),
        transcript=known(_SENTENCES, sentence, "sentence"),
        extra={
            "sex": _sexes(root).get(actor, ""),
            "sentence": sentence,
            "intensity": known(_LEVELS, level, "level"),
        },
    )


READER = named_files_reader(
    CorpusFacts(
        name="crema-d",
        licence="ODbL-1.0",
        language="en",
        note="Acted; twelve sentences whose words carry no emotion.",
        citation="Cao et al.: CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, "
        "IEEE Transactions on Affective Computing 5(4), 2014",
    ),
    "AudioWAV/1001_DFA_ANG_XX.wav",
    r"\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}",
    _entry,
    published=7442,
)
