"""CaFE, Canadian French: ``Colère/Fort/01-C-2-1.wav``, ``Neutre/01-N-1-1.wav``.

Actor (odd: man, even: woman), first letter of the emotion's French name, intensity, sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_EMOTIONS = {
    "C": "anger",
    "D": "disgust",
    "J": "happiness",
    "N": "neutral",
    "P": "fear",
    "S": "surprise",
    "T": "sadness",
}
_INTENSITIES = {"1": "low", "2": "high"}
_SENTENCES = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}


def _entry(match: re.Match[str], file: str, _root: Path) -> Entry:
    actor, emotion, intensity, sentence = match.group().upper().split("-")
    return Entry(
        file,
        speaker=actor,
        emotion=known(_EMOTIONS, emotion, "emotion"),
        transcript=known(_SENTENCES, sentence, "sentence"),
        extra={
            "sex": "male" if int(actor) % 2 else "female",
            "intensity": known(_INTENSITIES, intensity, "intensity"),
            "sentence": sentence,
        },
    )


READER = named_files_reader(
    CorpusFacts(
        name="cafe",
        licence="CC-BY-NC-SA-4.0",
        language="fr",
        note="Acted; six sentences whose words carry no emotion.",
        citation="Gournay, Lahaie and Lefebvre: A Canadian French Emotional Speech Dataset, "
        "ACM Multimedia Systems Conference 2018",
    ),
    "Colère/Fort/01-C-2-1.wav",
    r"\d\d-[A-Z]-\d-\d",
    _entry,
    published=936,
)
