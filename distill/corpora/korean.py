"""Korean Emotional TTS (emotiontts_open_db): ``plain-to-emotional/ema/wav/ema00001.wav``.

Each speaker's 400 numbers are four blocks of a hundred: neutral, happy, sad, angry. The published README calls the
third block angry and the fourth sad; words and voices say otherwise, and are followed here.
Words are in ``transcript/`` (as spoken) or ``script/`` (as printed) beside ``wav/``. The open release is 5 % of it.
"""

from __future__ import annotations

import re
from pathlib import Path

from distill.corpora.reader import Entry, UnknownCodeError, named_files_reader
from distill.corpus import CorpusFacts

_BLOCKS = ("neutral", "happy", "sad", "angry")
_BLOCK = 100
_WOMEN = ("ema", "emb", "nea", "neb", "nec", "ned", "nee")


def _entry(match: re.Match[str], file: str, root: Path) -> Entry:
    speaker, number = match["speaker"].lower(), int(match["number"])
    block = (number - 1) // _BLOCK
    if number < 1 or block >= len(_BLOCKS):
        raise UnknownCodeError(f"its name holds the number {number}, which belongs to no emotion")
    return Entry(
        file,
        speaker=speaker,
        emotion=_BLOCKS[block],
        transcript=_words(root / file),
        extra={
            "sex": "female" if speaker in _WOMEN else "male",
            "script": "emotional" if speaker.startswith("ne") else "plain",
        },
    )


def _words(audio: Path) -> str:
    for folder in ("transcript", "script"):
        path = audio.parent.parent / folder / f"{audio.stem}.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8-sig", errors="replace").strip()
    return ""


READER = named_files_reader(
    CorpusFacts(
        name="korean_emotiontts",
        licence="CC-BY-NC-SA-4.0",
        language="ko",
        note="Acted; the speakers ne* read scripts whose words carry the emotion. The published README swaps angry and "
        "sad; labels follow audio and words.",
        citation="Selvas AI and KAIST: emotiontts_open_db, 2019 to 2020 (Korean Ministry of Trade, No. 10080667)",
    ),
    "plain-to-emotional/ema/wav/ema00001.wav",
    r"(?P<speaker>(em|ne)[a-z])(?P<number>\d{5})",
    _entry,
)
