"""EMO-DB, the Berlin Database of Emotional Speech: ``wav/03a01Fa.wav``.

Speaker (two digits), sentence (letter and two digits), emotion (first letter of its German name), version.
"""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_MEN = ("03", "10", "11", "12", "15")


def _entry(match: re.Match[str], file: str, _root: Path) -> Entry:
    speaker, sentence, emotion = match["speaker"], match["sentence"].lower(), match["emotion"].upper()
    return Entry(
        file,
        speaker=speaker,
        emotion=known(_EMOTIONS, emotion, "emotion"),
        transcript=known(_SENTENCES, sentence, "sentence"),
        extra={"sex": "male" if speaker in _MEN else "female", "sentence": sentence},
    )


READER = named_files_reader(
    CorpusFacts(
        name="emodb",
        licence="CC0-1.0",
        language="de",
        note="Acted; ten sentences whose words carry no emotion.",
        citation="Burkhardt et al.: A Database of German Emotional Speech, Interspeech 2005",
    ),
    "wav/03a01Fa.wav",
    r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z]?)",
    _entry,
    published=535,
)
