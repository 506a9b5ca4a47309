"""A corpus on disk: utterances with speaker, emotion and transcript, read from a ``metadata.csv``.

Imports no torch.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import soundfile
from pydantic import BaseModel, ConfigDict, ValidationError

from edge_runtime.errors import EdgeemoError

REQUIRED_COLUMNS = ("file", "speaker", "emotion")


class CorpusFacts(BaseModel):
    """What ``corpus.json`` beside the metadata may say of a corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["recorded", "rendered"] = "recorded"
    licence: str = "unknown"
    note: str = ""


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance.

    Attributes:
        path: audio file.
        name: the file as the metadata names it, relative to the corpus.
        speaker: speaker id, unique within the corpus.
        emotion: label as the corpus names it.
        language: ISO 639-1 code, or empty.
        transcript: the words, or empty.
        seconds: duration by the file's header.
        size: bytes of the file.
        extra: further columns of the metadata.
    """

    path: Path
    name: str
    speaker: str
    emotion: str
    language: str = ""
    transcript: str = ""
    seconds: float = 0.0
    size: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """Return the metadata column ``name``.

        Raises:
            EdgeemoError: the corpus has no such column.
        """
        if name in ("speaker", "emotion", "language", "transcript"):
            return str(getattr(self, name))
        if name not in self.extra:
            known = ", ".join(["speaker", "emotion", "language", "transcript", *self.extra])
            raise EdgeemoError(f"{self.name}: the corpus has no column '{name}' (it has {known})")
        return self.extra[name]


@dataclass(frozen=True)
class Corpus:
    """Utterances of one corpus in the order of its metadata."""

    root: Path
    facts: CorpusFacts
    utterances: tuple[Utterance, ...]
    skipped: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, sorted."""
        return tuple(sorted({utterance.emotion for utterance in self.utterances}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def hours(self) -> float:
        """Hours of audio by the files' headers."""
        return sum(utterance.seconds for utterance in self.utterances) / 3600

    def fingerprint(self) -> str:
        """Return a sha256 over all columns of the metadata, and every file's size and duration.

        It tells two states of a corpus apart without reading the audio again.
        """
        digest = hashlib.sha256()
        for item in self.utterances:
            row = [item.name, item.speaker, item.emotion, item.language, item.transcript]
            row += [f"{key}={value}" for key, value in sorted(item.extra.items())]
            row += [str(item.size), f"{item.seconds:.3f}"]
            digest.update("\x1f".join(row).encode() + b"\n")
        return digest.hexdigest()


def read_corpus(root: Path, *, skip_broken: bool = False) -> Corpus:
    """Read a directory with a ``metadata.csv`` (``file,speaker,emotion,language,transcript``, and more columns).

    Args:
        root: the corpus directory.
        skip_broken: leave out files that are missing or are not audio, and name them in `Corpus.skipped`.

    Raises:
        EdgeemoError: no such directory, no or empty metadata, a missing column or value, a broken audio file, or an
            emotion that only one speaker shows.
    """
    if not root.is_dir():
        raise EdgeemoError(f"{root}: there is no such corpus directory")
    metadata = root / "metadata.csv"
    if not metadata.is_file():
        raise EdgeemoError(
            f"{root}: holds no metadata.csv with the columns {','.join(REQUIRED_COLUMNS)},language,transcript"
        )
    utterances: list[Utterance] = []
    skipped: list[str] = []
    try:
        # Spreadsheets put a byte order mark in front.
        text = metadata.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgeemoError(f"{metadata}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise EdgeemoError(f"{metadata}: lacks the column {', '.join(missing)}")
    for row in reader:
        utterance, problem = _read_row(root, row, f"{metadata}, line {reader.line_num}")
        if problem and not skip_broken:
            raise EdgeemoError(f"{problem}; mend or remove it, or leave such files out with --skip-broken")
        if problem:
            skipped.append(problem)
        else:
            utterances.append(utterance)
    if not utterances:
        raise EdgeemoError(f"{metadata}: names no utterance that can be used")
    corpus = Corpus(root, _read_facts(root), tuple(utterances), tuple(skipped))
    _refuse_one_speaker_labels(corpus.utterances, root)
    return corpus


def _read_row(root: Path, row: dict[str, str | None], where: str) -> tuple[Utterance, str]:
    for name in REQUIRED_COLUMNS:
        if not row[name]:
            raise EdgeemoError(f"{where}: the column '{name}' is empty")
    values = {key: value or "" for key, value in row.items() if key is not None}
    name = values.pop("file")
    path = root / name
    problem, seconds, size = "", 0.0, 0
    try:
        header = soundfile.info(path)
        seconds, size = header.frames / header.samplerate, path.stat().st_size
        if seconds == 0:
            problem = f"{path}: holds no samples"
    except (soundfile.LibsndfileError, RuntimeError) as error:
        problem = f"{path}: cannot be read as audio ({error})" if path.exists() else f"{path}: is missing"
    utterance = Utterance(
        path=path,
        name=name,
        speaker=values.pop("speaker"),
        emotion=values.pop("emotion"),
        language=values.pop("language", ""),
        transcript=values.pop("transcript", ""),
        seconds=seconds,
        size=size,
        extra=values,
    )
    return utterance, problem


def _read_facts(root: Path) -> CorpusFacts:
    path = root / "corpus.json"
    if not path.is_file():
        return CorpusFacts(name=root.resolve().name)
    try:
        return CorpusFacts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise EdgeemoError(f"{path}: {where}: {problem['msg']}") from error


def _refuse_one_speaker_labels(utterances: Iterable[Utterance], root: Path) -> None:
    pairs = {(utterance.emotion, utterance.speaker) for utterance in utterances}
    for emotion, speakers in sorted(Counter(emotion for emotion, _ in pairs).items()):
        if speakers < 2:
            (only,) = (speaker for label, speaker in pairs if label == emotion)
            raise EdgeemoError(
                f"{root}: only the speaker '{only}' shows the emotion '{emotion}', so it cannot be learnt from one "
                "speaker and tested on another; add speakers or remove its rows"
            )
