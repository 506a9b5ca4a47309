"""RAVDESS, speech: ``Actor_01/03-01-05-02-01-01-01.wav``.

Seven numbers: modality, vocal channel, emotion, intensity, statement, repetition, actor (Livingstone and Russo 2018).
"""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_AUDIO_ONLY, _SPEECH = "03", "01"
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
_INTENSITIES = {"01": "normal", "02": "strong"}
_STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def _entry(match: re.Match[str], file: str, _root: Path) -> Entry | None:
    modality, channel, emotion, intensity, statement, repetition, actor = match.group().split("-")
    if (modality, channel) != (_AUDIO_ONLY, _SPEECH):
        return None
    return Entry(
        file,
        speaker=f"Actor_{actor}",
        emotion=known(_EMOTIONS, emotion, "emotion"),
        transcript=known(_STATEMENTS, statement, "statement"),
        extra={
            "sex": "male" if int(actor) % 2 else "female",
            "intensity": known(_INTENSITIES, intensity, "intensity"),
            "statement": statement,
            "repetition": repetition,
        },
    )


READER = named_files_reader(
    CorpusFacts(
        name="ravdess",
        licence="CC-BY-NC-SA-4.0",
        language="en",
        note="Acted; two statements whose words carry no emotion.",
        citation="Livingstone and Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song, "
        "PLoS ONE 13(5), 2018",
    ),
    "Actor_01/03-01-05-02-01-01-01.wav",
    r"\d\d(-\d\d){6}",
    _entry,
    published=1440,
)
