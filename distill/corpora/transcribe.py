"""Words for utterances that have none, by faster-whisper; written as a manifest of its own.

The linguistic teacher needs words. Where a corpus has none published, those of a recogniser are used, and the column
``transcribed_by`` names its model. Imports no torch.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from distill.corpora.dimensions import UNIT
from distill.corpora.manifest import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, read_facts, read_manifest
from distill.corpus import Corpus, CorpusFacts, Utterance
from edge_runtime.dimensions import DIMENSIONS, Dimension
from edge_runtime.errors import EdgeemoError, missing_extra
from edge_runtime.files import locked, replacing
from edge_runtime.sources.audio import Pcm, read_audio

MANIFEST = "transcribed.csv"
"""Name of the manifest beside the corpus' own."""

COLUMN = "transcribed_by"


class Recogniser(Protocol):
    """Turns speech into words."""

    @property
    def name(self) -> str:
        """What made the words, for the manifest."""

    def __call__(self, pcm: Pcm, language: str) -> str:
        """Return the words of a waveform ``[samples]``; ``language`` is an ISO 639-1 code, or empty to find out."""


class FasterWhisper:
    """Whisper by CTranslate2.

    Args:
        model: a size (``base``, ``large-v3``), a Hugging Face name, or the path of a converted model.

    Raises:
        MissingPartError: the package ``faster-whisper`` is not installed.
        EdgeemoError: there is no such model.
    """

    def __init__(self, model: str) -> None:
        try:
            import faster_whisper
        except ImportError as error:
            raise missing_extra("transcribe", "faster_whisper") from error
        self._name = f"whisper {Path(model).name}"
        try:
            self._model: Any = faster_whisper.WhisperModel(model, device="auto", compute_type="default")
        # Hub, file system and CTranslate2 each raise their own.
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise EdgeemoError(
                f"--transcribe {model}: is neither a directory with a model for faster-whisper nor one that the hub "
                f"gives ({reason})"
            ) from error

    @property
    def name(self) -> str:
        """``whisper`` and the model."""
        return self._name

    def __call__(self, pcm: Pcm, language: str) -> str:
        """Return the words of a waveform."""
        # Every utterance stands for itself: the words of the one before would be carried over otherwise.
        segments, _ = self._model.transcribe(pcm, language=language or None, condition_on_previous_text=False)
        return "".join(segment.text for segment in segments).strip()


def transcribe_corpus(
    corpus: Corpus, recogniser: Recogniser, out: Path, *, progress: Callable[[], None] = lambda: None
) -> int:
    """Write a manifest of the corpus in which no transcript is missing that speech can give.

    What is done is kept as it is made, so that a stopped call goes on where it was; published transcripts stay as they
    are.

    Args:
        corpus: the corpus.
        recogniser: makes the words.
        out: the manifest to write, a ``.csv`` file. Files are named relative to its folder where they lie under it, and
            by absolute path otherwise.
        progress: called after each utterance that had none.

    Returns:
        How many utterances were given words.

    Raises:
        EdgeemoError: an audio file cannot be read, or the place is taken by something that this did not write.
    """
    if out.suffix != ".csv":
        raise EdgeemoError(f"{out}: must end with .csv, since it becomes a manifest")
    if out.is_file() and not _is_ours(out):
        raise EdgeemoError(f"{out}: is there already and was not written by --transcribe; give another --manifest")
    journal = out.with_name(f".{out.name}.jsonl")
    made = 0
    with locked(out.with_name(f".{out.name}.lock")):
        known = _made_before(out, recogniser.name) | _read_journal(journal, recogniser.name)
        with journal.open("a", encoding="utf-8") as stream:
            for item in corpus.utterances:
                if item.transcript or _relative(item, out.parent) in known:
                    continue
                file = _relative(item, out.parent)
                known[file] = recogniser(read_audio(item.path), item.language)
                made += 1
                row = {"file": file, "by": recogniser.name, "transcript": known[file]}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                stream.flush()
                progress()
        _write(corpus, known, recogniser.name, out)
        journal.unlink()
    out.with_name(f".{out.name}.lock").unlink(missing_ok=True)
    return made


def missing_transcripts(corpus: Corpus) -> int:
    """Return how many utterances have no transcript."""
    return sum(not item.transcript for item in corpus.utterances)


def _is_ours(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        return COLUMN in next(csv.reader(stream), [])


def _made_before(out: Path, name: str) -> dict[str, str]:
    """Return what an earlier call made with the same model, by the manifest's names of the files."""
    if not out.is_file():
        return {}
    rows = read_manifest(out)
    return {row.file: row.transcript for row in rows if row.extra.get(COLUMN) == name}


def _read_journal(path: Path, name: str) -> dict[str, str]:
    """Return what an interrupted call made with the same model; a line that was cut short is made again."""
    if not path.is_file():
        return {}
    known = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["by"] == name:
            known[row["file"]] = row["transcript"]
    return known


def _write(corpus: Corpus, known: dict[str, str], name: str, out: Path) -> None:
    extra = list(dict.fromkeys(key for item in corpus.utterances for key in item.extra if key != COLUMN))
    dimensions = [name for name in DIMENSIONS if any(name in item.dimensions for item in corpus.utterances)]
    columns = [*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *dimensions, *extra, COLUMN]
    facts = read_facts(out.parent)
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        for item in corpus.utterances:
            file = _relative(item, out.parent)
            words = known.get(file, "")
            writer.writerow(
                {key: item.extra.get(key, "") for key in extra}
                | {name: _on_scale_of(facts, item, name) for name in dimensions}
                | {
                    "file": file,
                    "speaker": item.speaker,
                    "emotion": item.emotion,
                    "language": item.language,
                    "transcript": item.transcript or words,
                    COLUMN: name if words and not item.transcript else item.extra.get(COLUMN, ""),
                }
            )


def _on_scale_of(facts: CorpusFacts | None, item: Utterance, name: Dimension) -> str:
    """Return a target on the scale that ``corpus.json`` beside the manifest declares, if there is one; else on 0..1."""
    if name not in item.dimensions:
        return ""
    low, high = UNIT if facts is None else facts.dimension_ranges.get(name, UNIT)
    return f"{low + item.dimensions[name] * (high - low):.6g}"


def _relative(item: Utterance, folder: Path) -> str:
    path = item.path.resolve()
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else str(path)
