"""Published corpora whose file names hold speaker and emotion: the codes of each, and `READERS`.

Files may lie in any folders, renamed, nested or behind links, and have any audio suffix in any case; names in any case.
Other audio files are not read, and reported. Two of these corpora in one directory are refused
(`distill.corpora.read`). Beside the files, CREMA-D's ``VideoDemographics.csv`` (``ActorID``, ``Sex``; UTF-8, UTF-16 or
Windows-1252) is read, and for the Korean corpus ``transcript/STEM.txt`` or ``script/STEM.txt``.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from pathlib import Path

from distill.corpora.contents import table_text
from distill.corpora.reader import Entry, UnknownCodeError, known, named_files_reader
from distill.corpus import CorpusFacts
from edge_runtime.errors import EdgeemoError

# RAVDESS: modality, vocal channel, emotion, intensity, statement, repetition, actor (Livingstone and Russo 2018).
_RAVDESS_NAMES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_RAVDESS = {f"{number:02d}": name for number, name in enumerate(_RAVDESS_NAMES, start=1)}
_RAVDESS_INTENSITIES = {"01": "normal", "02": "strong"}
_RAVDESS_STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def _ravdess(match: re.Match[str], file: str, _root: Path) -> Entry | None:
    modality, channel, emotion, intensity, statement, repetition, actor = match.group().split("-")
    if (modality, channel) != ("03", "01"):  # audio only, speech
        return None
    return Entry(
        file,
        speaker=f"Actor_{actor}",
        emotion=known(_RAVDESS, emotion, "emotion"),
        transcript=known(_RAVDESS_STATEMENTS, statement, "statement"),
        extra={
            "sex": _odd_are_men(actor),
            "intensity": known(_RAVDESS_INTENSITIES, intensity, "intensity"),
            "statement": statement,
            "repetition": repetition,
        },
    )


def _odd_are_men(actor: str) -> str:
    return "male" if int(actor) % 2 else "female"


# EMO-DB: speaker, sentence, first letter of the emotion's German name, version.
_EMODB = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
_EMODB_SENTENCES = {
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
_EMODB_MEN = ("03", "10", "11", "12", "15")


def _emodb(match: re.Match[str], file: str, _root: Path) -> Entry:
    speaker, sentence = match["speaker"], match["sentence"].lower()
    return Entry(
        file,
        speaker=speaker,
        emotion=known(_EMODB, match["emotion"].upper(), "emotion"),
        transcript=known(_EMODB_SENTENCES, sentence, "sentence"),
        extra={"sex": "male" if speaker in _EMODB_MEN else "female", "sentence": sentence},
    )


# EMOVO: emotion, actor, sentence.
_EMOVO = {
    "dis": "disgust",
    "gio": "joy",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
_EMOVO_SENTENCES = {
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


def _emovo(match: re.Match[str], file: str, _root: Path) -> Entry:
    emotion, speaker, sentence = match.group().lower().split("-")
    return Entry(
        file,
        speaker=speaker,
        emotion=known(_EMOVO, emotion, "emotion"),
        transcript=known(_EMOVO_SENTENCES, sentence, "sentence"),
        extra={"sex": "female" if speaker.startswith("f") else "male", "sentence": sentence},
    )


# CREMA-D: actor, sentence, emotion, level; one file of the release is named X instead of XX.
_CREMAD = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_CREMAD_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
_CREMAD_TABLE = "VideoDemographics.csv"
_CREMAD_SENTENCES = {
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


def _cremad(match: re.Match[str], file: str, root: Path) -> Entry:
    actor, sentence, emotion, level = match.group().upper().split("_")
    return Entry(
        file,
        speaker=actor,
        emotion=known(_CREMAD, emotion, "emotion"),
        transcript=known(_CREMAD_SENTENCES, sentence, "sentence"),
        extra={
            "sex": _cremad_sexes(root).get(actor, ""),
            "sentence": sentence,
            "intensity": known(_CREMAD_LEVELS, level, "level"),
        },
    )


@functools.lru_cache(maxsize=4)
def _cremad_sexes(root: Path) -> dict[str, str]:
    """Return each actor's sex by ``VideoDemographics.csv`` in the corpus directory or above it, where it is there."""
    path = next((each for each in (root / _CREMAD_TABLE, root.parent / _CREMAD_TABLE) if each.is_file()), None)
    if path is None:
        return {}
    rows = csv.DictReader(io.StringIO(table_text(path, fallback="cp1252"), newline=""))
    columns = {name.strip().lower(): name for name in rows.fieldnames or () if name}
    if not {"actorid", "sex"} <= set(columns):
        there = ", ".join(columns.values()) or "none"
        raise EdgeemoError(
            f"{path}: lacks the columns ActorID and Sex, separated by commas (it has: {there}); copy it anew, or "
            "remove it to read the corpus without the sexes of speakers"
        )
    return {(row[columns["actorid"]] or "").strip(): (row[columns["sex"]] or "").strip().lower() for row in rows}


# CaFE: actor, first letter of the emotion's French name, intensity, sentence.
_CAFE = {"C": "anger", "D": "disgust", "J": "happiness", "N": "neutral", "P": "fear", "S": "surprise", "T": "sadness"}
_CAFE_SENTENCES = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}


def _cafe(match: re.Match[str], file: str, _root: Path) -> Entry:
    actor, emotion, intensity, sentence = match.group().upper().split("-")
    return Entry(
        file,
        speaker=actor,
        emotion=known(_CAFE, emotion, "emotion"),
        transcript=known(_CAFE_SENTENCES, sentence, "sentence"),
        extra={
            "sex": _odd_are_men(actor),
            "intensity": known({"1": "low", "2": "high"}, intensity, "intensity"),
            "sentence": sentence,
        },
    )


# Korean Emotional TTS: each speaker's 400 numbers are four blocks of a hundred. The published README calls the third
# block angry and the fourth sad; words and voices differ from it, and are followed here. Words are in ``transcript/``
# (as spoken) or ``script/`` (as printed) beside ``wav/``. The open release is 5 % of the corpus.
_KOREAN_BLOCKS = ("neutral", "happy", "sad", "angry")
_KOREAN_WOMEN = ("ema", "emb", "nea", "neb", "nec", "ned", "nee")


def _korean(match: re.Match[str], file: str, root: Path) -> Entry:
    speaker, number = match["speaker"].lower(), int(match["number"])
    block = (number - 1) // 100
    if number < 1 or block >= len(_KOREAN_BLOCKS):
        raise UnknownCodeError(f"its name holds the number {number}, which belongs to no emotion")
    audio = root / file
    texts = [audio.parent.parent / folder / f"{audio.stem}.txt" for folder in ("transcript", "script")]
    words = next((path.read_text(encoding="utf-8-sig", errors="replace") for path in texts if path.is_file()), "")
    return Entry(
        file,
        speaker=speaker,
        emotion=_KOREAN_BLOCKS[block],
        transcript=words.strip(),
        extra={
            "sex": "female" if speaker in _KOREAN_WOMEN else "male",
            "script": "emotional" if speaker.startswith("ne") else "plain",
        },
    )


# URDU: speaker with sex, file, emotion and number.
_URDU = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}


def _urdu(match: re.Match[str], file: str, _root: Path) -> Entry:
    return Entry(
        file,
        speaker=match["speaker"].upper(),
        emotion=known(_URDU, match["emotion"].upper(), "emotion"),
        extra={"sex": "male" if match["sex"].upper() == "M" else "female"},
    )


READERS = (
    named_files_reader(
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
        _ravdess,
        published=1440,
    ),
    named_files_reader(
        CorpusFacts(
            name="emodb",
            licence="CC0-1.0",
            language="de",
            note="Acted; ten sentences whose words carry no emotion.",
            citation="Burkhardt et al.: A Database of German Emotional Speech, Interspeech 2005",
        ),
        "wav/03a01Fa.wav",
        r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z]?)",
        _emodb,
        published=535,
    ),
    named_files_reader(
        CorpusFacts(
            name="emovo",
            licence="research use only",
            language="it",
            note="Acted; fourteen sentences whose words carry no emotion.",
            citation="Costantini et al.: EMOVO Corpus: an Italian Emotional Speech Database, LREC 2014",
        ),
        "f1/dis-f1-b1.wav",
        r"[a-z]{3}-[fm]\d-[a-z]\d",
        _emovo,
        published=588,
    ),
    named_files_reader(
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
        _cremad,
        published=7442,
    ),
    named_files_reader(
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
        _cafe,
        published=936,
    ),
    named_files_reader(
        CorpusFacts(
            name="korean_emotiontts",
            licence="CC-BY-NC-SA-4.0",
            language="ko",
            note="Acted; the speakers ne* read scripts whose words carry the emotion. The published README swaps angry "
            "and sad; labels follow audio and words.",
            citation="Selvas AI and KAIST: emotiontts_open_db, 2019 to 2020 (Korean Ministry of Trade, No. 10080667)",
        ),
        "plain-to-emotional/ema/wav/ema00001.wav",
        r"(?P<speaker>(em|ne)[a-z])(?P<number>\d{5})",
        _korean,
    ),
    named_files_reader(
        CorpusFacts(
            name="urdu",
            licence="unknown",
            language="ur",
            note="From talk shows; most speakers show one or two of the four emotions only.",
            citation="Latif et al.: Cross Lingual Speech Emotion Recognition: Urdu vs. Western Languages, FIT 2018",
        ),
        "Angry/SM1_F1_A01.wav",
        r"(?P<speaker>S(?P<sex>[MF])\d+)_F\d+_(?P<emotion>[A-Z])\d+",
        _urdu,
        published=400,
    ),
)
"""In the order in which they are tried."""
