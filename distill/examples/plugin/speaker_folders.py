"""A corpus reader as a plug-in: recordings in folders, ``SPEAKER/EMOTION/ANY_NAME.wav``.

    pip install distill/examples/plugin && edgeemo corpus recordings

The entry point in the pyproject.toml beside this file is all that makes it one; its name is that of the corpus. Where
file names are enough, `distill.corpora.reader.named_files_reader` makes a reader of one regular expression.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from distill.corpora.reader import Entry, Reader, UnknownCodeError, audio_files, known
from distill.corpus import CorpusFacts

EMOTIONS = {"anger": "angry", "joy": "happy", "sadness": "sad", "calm": "neutral"}
"""What the folders are called, and what the emotions are called here."""


def _recognises(root: Path) -> bool:
    """Return quickly whether this is such a corpus; every reader is tried on every directory."""
    parts = [PurePosixPath(name).parts for name in islice(audio_files(root), 20)]
    return 2 * sum(len(each) == 3 and each[1] in EMOTIONS for each in parts) > len(parts)


def _entries(root: Path) -> Iterator[Entry]:
    for name in audio_files(root):
        parts = PurePosixPath(name).parts
        if len(parts) != 3:
            continue
        try:
            yield Entry(name, speaker=parts[0], emotion=known(EMOTIONS, parts[1], "emotion"))
        except UnknownCodeError as error:
            yield Entry(name, problem=error.message)  # reported with the file's name; --skip-broken leaves it out


READER = Reader(
    CorpusFacts(name="speaker-folders", licence="unknown", language="en", note="Recorded at home."),
    layout="SPEAKER/EMOTION/ANY_NAME.wav",
    recognises=_recognises,
    entries=_entries,
)
