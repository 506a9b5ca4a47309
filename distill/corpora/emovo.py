"""EMOVO, Italian: ``f1/dis-f1-b1.wav`` (emotion, actor, sentence)."""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, known, named_files_reader
from distill.corpus import CorpusFacts

_EMOTIONS = {
    "dis": "disgust",
    "gio": "joy",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
_SENTENCES = {
    "b1": "Gli operai si alzano presto.",
    "b2": "I vigili sono muniti di pistola.",
    "b3": "La cascata fa molto rumore.",
    "d1": "Sabato sera cosa farà?",
    "d2": "Porti con te quella cosa?",
    "l1": "L'autunno prossimo Tony partirà per la Spagna nella prima metà di ottobre.",
    "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
    "l3": "Un attimo dopo s'è incamminato ... ed è inciampato.",
    "l4": "Vorrei il numero telefonico del Signor Piatti.",
    "n1": "La casa forte vuole col pane.",
    "n2": "La forza trova il passo e l'aglio rosso.",
    "n3": "Il gatto sta scorrendo nella pera.",
    "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
    "n5": "Uno quarantatré dieci mille cinquantasette venti.",
}


def _entry(match: re.Match[str], file: str, _root: Path) -> Entry:
    emotion, speaker, sentence = match.group().lower().split("-")
    return Entry(
        file,
        speaker=speaker,
        emotion=known(_EMOTIONS, emotion, "emotion"),
        transcript=known(_SENTENCES, sentence, "sentence"),
        extra={"sex": "female" if speaker.startswith("f") else "male", "sentence": sentence},
    )


READER = named_files_reader(
    CorpusFacts(
        name="emovo",
        licence="research use only",
        language="it",
        note="Acted; fourteen sentences whose words carry no emotion.",
        citation="Costantini et al.: EMOVO Corpus: an Italian Emotional Speech Database, LREC 2014",
    ),
    "f1/dis-f1-b1.wav",
    r"[a-z]{3}-[fm]\d-[a-z]\d",
    _entry,
    published=588,
)
