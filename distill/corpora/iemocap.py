r"""IEMOCAP, the four classes of the literature: angry, happy (with excited), neutral, sad; 5531 utterances.

::

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt     [6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]
    Session1/dialog/transcriptions/Ses01F_impro01.txt    Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav

The three numbers are the annotators' means of valence, activation (arousal) and dominance, from 1 to 5; a value outside
is left out as a missing one.

Of the turns with one of the five labels ang (1103), hap (595), exc (1041), neu (1708), sad (1084), improvised and
scripted, none is left out. The letter before a turn's number is the speaker's sex; that of the dialogue's name is
of the speaker who wore the markers. The sessions may lie up to three folders deeper (``IEMOCAP_full_release``), as long
as there is one such folder; suffixes may be of any audio format, in capitals or not. A turn whose file is missing is an
error, or left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from distill.corpora.reader import Entry, Reader
from distill.corpus import AUDIO_SUFFIXES, CorpusFacts
from edge_runtime.dimensions import Dimension

_EMOTIONS = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
_TURN = re.compile(
    r"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(?P<turn>Ses\d\d[FM]_\S+)\s+(?P<emotion>[a-z]{3})\s+\[(?P<numbers>[^\]]*)"
)
_NUMBERS: tuple[Dimension, ...] = ("valence", "arousal", "dominance")
_RANGE = (1.0, 5.0)
_WORDS = re.compile(r"(?P<turn>Ses\d\d[FM]_\S+)\s+\[[^\]]*\]:\s*(?P<words>.*)")
_SPEAKER = re.compile(r"Ses(?P<session>\d\d)[FM]_(?P<kind>impro|script).*_(?P<sex>[FM])(XX)?\d+")


def _evaluations(session: Path) -> list[Path]:
    folder = session / "dialog" / "EmoEvaluation"
    return sorted(path for path in folder.glob("Ses*.txt") if path.is_file())


def _sessions(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("Session[1-5]") if path.is_dir())


def _entries(root: Path) -> Iterator[Entry]:
    for session in _sessions(root):
        for evaluation in _evaluations(session):
            words = _words(session / "dialog" / "transcriptions" / evaluation.name)
            for line in evaluation.read_text(encoding="utf-8", errors="replace").splitlines():
                turn = _TURN.match(line)
                if turn is None or turn["emotion"] not in _EMOTIONS:
                    continue
                yield _entry(root, session, evaluation.stem, turn, words)


def _entry(root: Path, session: Path, dialogue: str, line: re.Match[str], words: dict[str, str]) -> Entry:
    turn, emotion = line["turn"], line["emotion"]
    file = (session / "sentences" / "wav" / dialogue / turn).relative_to(root).as_posix()
    suffixes = (*AUDIO_SUFFIXES, *map(str.upper, AUDIO_SUFFIXES))
    suffix = next((each for each in suffixes if (root / f"{file}{each}").is_file()), ".wav")
    speaker = _SPEAKER.fullmatch(turn)
    if speaker is None:
        return Entry(f"{file}{suffix}", problem="its name holds no speaker")
    return Entry(
        f"{file}{suffix}",
        speaker=f"Ses{speaker['session']}{speaker['sex']}",
        emotion=_EMOTIONS[emotion],
        transcript=words.get(turn, ""),
        extra={
            "session": session.name,
            "sex": "female" if speaker["sex"] == "F" else "male",
            "scenario": "improvised" if speaker["kind"] == "impro" else "scripted",
            "dialogue": dialogue,
            "category": emotion,
        },
        dimensions=_dimensions(line["numbers"]),
    )


def _dimensions(numbers: str) -> dict[Dimension, float]:
    values = [float(each) for each in re.findall(r"[\d.]+", numbers)]
    if len(values) != len(_NUMBERS):
        return {}
    return {name: value for name, value in zip(_NUMBERS, values, strict=True) if _RANGE[0] <= value <= _RANGE[1]}


def _words(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {match["turn"]: match["words"].strip() for match in map(_WORDS.match, lines) if match}


READER = Reader(
    CorpusFacts(
        name="iemocap",
        licence="research use only (University of Southern California)",
        language="en",
        note="Four classes, excited counted as happy; labels by the vote of annotators.",
        citation="Busso et al.: IEMOCAP: Interactive emotional dyadic motion capture database, "
        "Language Resources and Evaluation 42, 2008",
        dimension_ranges=dict.fromkeys(_NUMBERS, _RANGE),
    ),
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    lambda root: any(_evaluations(session) for session in _sessions(root)),
    _entries,
    published=5531,
)
