"""A corpus: utterances with speaker, emotion and transcript. `distill.corpora.read_corpus` makes one.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel

from edge_runtime.dimensions import Dimension
from edge_runtime.errors import EdgeemoError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64")
"""Files that count as audio. Copies in another format keep the stems of the original, and are read by them."""
_OWN_COLUMNS = ("speaker", "emotion", "language", "transcript")
SEVERAL_SPEAKERS = "several_speakers"
"""Column that is ``yes`` where the speaker is a group of people, each of whom may be a speaker too."""
_BY_AUDIO = "audio:"
CORPUS = "corpus"
"""Column with the name of the corpus, where several are pooled."""
UNLABELLED = -1
"""Class of an utterance without a label."""


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError("must be the lowest value, then a higher one")
    return ends


class CorpusFacts(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Facts of a corpus as a whole, as in ``corpus.json`` beside a manifest.

    Attributes:
        name: short name.
        kind: recorded people or rendered speech.
        licence: SPDX identifier where there is one.
        note: a caution for figures on it.
        language: ISO 639-1 code, where the corpus has one language.
        citation: the publication that describes it.
        dimension_ranges: lowest and highest value of arousal, valence and dominance on the corpus' own scale; 0 and 1
            for a dimension that is not there.
    """

    name: str
    kind: Literal["recorded", "rendered"] = "recorded"
    licence: str = "unknown"
    note: str = ""
    language: str = ""
    citation: str = ""
    dimension_ranges: dict[Dimension, Annotated[tuple[float, float], AfterValidator(_ascending)]] = {}


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance.

    Attributes:
        path: audio file.
        name: the file as the corpus names it, relative to it.
        speaker: speaker id, unique within the corpus.
        emotion: label as the corpus names it; empty of unlabelled speech.
        language: ISO 639-1 code, or empty.
        transcript: the words, or empty.
        seconds: duration by the file's header.
        size: bytes of the file.
        extra: further columns.
        sample_rate: samples per second by the file's header, 0 if not looked at.
        encoding: sample format by the file's header, as libsndfile names it (``PCM_16``), or empty.
        dimensions: targets of arousal, valence and dominance from 0 to 1, without those that are missing.
        content: digest of its audio (`AudioScan.identity`), set by `distill.checks.identity`; empty if not looked at.
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
    sample_rate: int = 0
    encoding: str = ""
    dimensions: Mapping[Dimension, float] = field(default_factory=dict)
    content: str = field(default="", compare=False)

    def column(self, name: str) -> str:
        """Return the column ``name``; ``utterance`` is the file itself.

        Raises:
            EdgeemoError: the corpus has no such column.
        """
        if name in _OWN_COLUMNS:
            return str(getattr(self, name))
        if name == "utterance":
            return self.name
        if name not in self.extra:
            known = ", ".join([*_OWN_COLUMNS, *self.extra])
            raise EdgeemoError(f"{self.name}: the corpus has no column '{name}' (it has {known})")
        return self.extra[name]


@dataclass(frozen=True)
class Corpus:
    """Utterances of one corpus, in the order in which its reader names them.

    Attributes:
        root: the directory that file names are relative to.
        facts: what is known of the corpus as a whole.
        utterances: the utterances.
        skipped: why files were left out, a sentence each.
        reader: name of the reader that read it.
        source: what to give to `read_corpus` to read it again, where that is not ``root``: a manifest file.
        published: utterances that the complete corpus holds, where that is published.
        left_out: names of utterances that were left out after reading (`without`).
        parts: what this one is pooled from (`distill.corpora.pooled`); nothing for one that was read as it is.
        unread: audio files under ``root`` that are not named as the corpus names its own.
    """

    root: Path
    facts: CorpusFacts
    utterances: tuple[Utterance, ...]
    skipped: tuple[str, ...] = ()
    reader: str = ""
    source: Path | None = None
    published: int | None = None
    left_out: tuple[str, ...] = ()
    parts: tuple[PooledPart, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, sorted."""
        return tuple(sorted({utterance.emotion for utterance in self.utterances}))

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, sorted; an empty one where utterances have none."""
        return tuple(sorted({utterance.language for utterance in self.utterances}))

    @property
    def hours(self) -> float:
        """Hours of audio by the files' headers."""
        return sum(utterance.seconds for utterance in self.utterances) / 3600

    def fingerprint(self) -> str:
        """Return a digest that differs between two states of a corpus.

        It is ``audio:`` and a sha256 over all columns of the metadata and the content of every file, where
        `distill.checks.identity` looked at them; else, and in records of earlier versions, a sha256 over the metadata
        and every file's size and duration.
        """
        if all(item.content for item in self.utterances):
            return _BY_AUDIO + self._digest_with(lambda item: [item.content])
        return self._digest_with(_header)

    def is_state(self, fingerprint: str) -> bool:
        """Return whether the corpus is as it was at an earlier `fingerprint`, of either kind."""
        if fingerprint.startswith(_BY_AUDIO):
            return self.fingerprint() == fingerprint
        return self._digest_with(_header) == fingerprint

    def _digest_with(self, of_file: Callable[[Utterance], list[str]]) -> str:
        digest = hashlib.sha256()
        for item in self.utterances:
            row = [item.name, item.speaker, item.emotion, item.language, item.transcript]
            row += [f"{key}={value}" for key, value in sorted(item.extra.items())]
            row += [f"{key}={value:.6g}" for key, value in sorted(item.dimensions.items())]
            row += of_file(item)
            digest.update("\x1f".join(row).encode() + b"\n")
        return digest.hexdigest()

    def labelled(self, labels: Mapping[str, str] | None) -> Corpus:
        """Return the corpus as a recipe's ``labels`` table wants it: labels that it does not list are left out.

        Args:
            labels: old label to new label; None leaves the corpus as it is.

        Raises:
            EdgeemoError: fewer than two labels are left.
        """
        if labels is None:
            if len(self.labels) < 2:
                raise EdgeemoError(
                    f"{self.root}: every utterance has the emotion '{self.labels[0]}', so there is nothing to "
                    "classify; give a corpus with two emotions or more"
                )
            return self
        items = (item for item in self.utterances if item.emotion in labels)
        chosen = dataclasses.replace(
            self, utterances=tuple(dataclasses.replace(item, emotion=labels[item.emotion]) for item in items)
        )
        if len(chosen.labels) < 2:
            left = f"only '{chosen.labels[0]}'" if chosen.labels else "no label"
            raise EdgeemoError(
                f"{self.root}: of its labels {', '.join(self.labels)} the choice of labels leaves {left}; "
                "name at least two of them in the recipe's 'labels'"
            )
        return chosen

    def without(self, names: Collection[str], why: Collection[str] = ()) -> Corpus:
        """Return the corpus without the utterances of these names.

        Args:
            names: what to leave out.
            why: a sentence each, for `skipped`.
        """
        if not names:
            return self
        return dataclasses.replace(
            self,
            utterances=tuple(item for item in self.utterances if item.name not in names),
            skipped=(*self.skipped, *why),
            left_out=tuple(sorted({*self.left_out, *names})),
        )


@dataclass(frozen=True)
class PooledPart:
    """A corpus that was pooled with others.

    Attributes:
        corpus: as it was read.
        labels: its own label to that of the pooled corpus; others were left out.
    """

    corpus: Corpus
    labels: Mapping[str, str]

    def as_trained(self, left_out: Collection[str], labels: Mapping[str, str] | None) -> Corpus:
        """Return the corpus as it was trained on.

        Args:
            left_out: names in the pooled corpus of utterances that could not be used.
            labels: a recipe's, from the pooled corpus' labels to the classes.
        """
        prefix = f"{self.corpus.facts.name}/"
        own = [name.removeprefix(prefix) for name in left_out if name.startswith(prefix)]
        return self.corpus.without(own).labelled(self.final_labels(labels))

    def final_labels(self, labels: Mapping[str, str] | None) -> dict[str, str]:
        """Return its own labels with their classes, by a recipe's ``labels``."""
        if labels is None:
            return dict(self.labels)
        return {own: labels[pooled] for own, pooled in self.labels.items() if pooled in labels}


def _header(item: Utterance) -> list[str]:
    return [str(item.size), f"{item.seconds:.3f}"]


def classes_of(utterances: Iterable[Utterance], labels: Sequence[str]) -> list[int]:
    """Return the class of each utterance, `UNLABELLED` where it has no emotion."""
    return [labels.index(item.emotion) if item.emotion else UNLABELLED for item in utterances]


Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return up to ``most`` of some items, evenly spread, in their order."""
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[place] for place in places]


def corpus_of(item: Utterance) -> str:
    """Return the name of the corpus of an utterance; empty where only one is used."""
    return item.extra.get(CORPUS, "")
