"""Folds: training, validation and test parts of a corpus.

They are speaker-independent, unless a recipe sets `FoldSpec.speaker_mixed`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from distill.corpus import CORPUS, SEVERAL_SPEAKERS, Corpus, Utterance
from edge_runtime.errors import EdgeemoError

ALL: Literal["all"] = "all"
PUBLISHED: Literal["published"] = "published"
"""`FoldSpec.count` for a division that a corpus publishes."""

_PUBLISHED_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What corpora call the parts of a published division."""


_MIXED = "; SPEAKER-MIXED: tested speakers were trained on"


class FoldSpec(BaseModel, extra="forbid", frozen=True):
    """How a corpus is cut: part ``k`` of ``count`` holds ``sorted(values)[k::count]`` of the column ``by``.

    Attributes:
        by: the column whose values are cut: ``speaker``, ``session``, or another one of the corpus; ``corpus``, where
            several are pooled, tests on corpora that were not trained on; ``utterance`` is every file for itself.
        count: number of parts, or ``all`` for one part a value (leave-one-speaker-out, leave-one-session-out), or
            ``published`` where the values are the parts: one fold, of train, dev (or validation) and test.
        hold_out: another column (sentences, say) that is cut in the same way, so that neither the tested speakers nor
            the tested sentences are seen in training; utterances that mix parts are left out.
        validation: how many parts after the tested one are validated on.
        speaker_mixed: allow folds in which a tested speaker is in the training part. Such figures do not hold for
            unseen speakers, and every report names them.
    """

    by: str = "speaker"
    count: int | Literal["all", "published"] = Field(default=5)
    hold_out: str | None = None
    validation: int = Field(default=1, ge=1)
    speaker_mixed: bool = False

    @model_validator(mode="after")
    def _parts_for_all_three(self) -> FoldSpec:
        if self.count == PUBLISHED:
            if self.by in ("speaker", "utterance", CORPUS) or self.hold_out or self.validation != 1:
                raise ValueError("count = 'published' goes with by = 'split' or such a column, and with nothing else")
            return self
        if self.count != ALL and self.count < 3:
            raise ValueError("count must be 3 or more, or 'all' or 'published'")
        if self.count != ALL and self.count < self.validation + 2:
            raise ValueError("count must be at least validation + 2, so that a part is left to train on")
        return self

    @classmethod
    def recorded(cls, entry: Mapping[str, Any]) -> FoldSpec:
        """Return the folds of a bundle's manifest, which holds the number of folds: 1 is a published division."""
        return cls(**{**entry, "count": PUBLISHED if entry["count"] == 1 else entry["count"]})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are cut."""
        return (self.by, self.hold_out) if self.hold_out else (self.by,)

    def fold_count(self, corpus: Corpus) -> int:
        """Return the number of folds that this cuts of a corpus.

        Raises:
            EdgeemoError: the corpus lacks the column, or has fewer values of it than parts are wanted.
        """
        if self.by == CORPUS and any(CORPUS not in item.extra for item in corpus.utterances):
            raise EdgeemoError(
                f'{corpus.root}: is a single corpus, and folds.by = "{CORPUS}" tests on one of several; give three or '
                'more, each by --corpus, or set folds.by = "speaker"'
            )
        if self.count == PUBLISHED:
            return 1
        values = len({item.column(self.by) for item in _without_groups(corpus, self)[0].utterances})
        wanted = self.validation + 2 if self.count == ALL else self.count
        if values < wanted:
            raise EdgeemoError(
                f"{corpus.root}: has {values} {_plural(self.by)}, fewer than the {wanted} "
                + ("parts that are needed" if self.count == ALL else "folds of the recipe; lower folds.count")
            )
        return values if self.count == ALL else self.count

    @property
    def held_out(self) -> str:
        """What every fold holds out, in words: ``speakers``, ``corpora``, ``speakers and sentences``."""
        return _plural(self.by) + (f" and {_plural(self.hold_out)}" if self.hold_out else "")

    def describe(self, index: int) -> str:
        """Return in words what fold ``index`` holds out, for reports."""
        if self.count == PUBLISHED:
            return f"published division by {self.by}" + (_MIXED if self.speaker_mixed else "")
        which = f"fold {index}, leave-one-{self.by}-out" if self.count == ALL else f"fold {index} of {self.count}"
        spare = f", {self.validation} parts for validation" if self.validation > 1 else ""
        return f"{which}, {self.held_out} held out{spare}{_MIXED if self.speaker_mixed else ''}"


def _plural(column: str) -> str:
    return "corpora" if column == CORPUS else f"{column}s"


@dataclass(frozen=True)
class Fold:
    """Three disjoint parts of one corpus, and unlabelled speech.

    Attributes:
        train: for training.
        validation: for every choice.
        test: for the report only.
        notes: cautions for figures on this fold, a sentence each.
        unlabelled: speech of other corpora for training, without emotions.
    """

    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    notes: tuple[str, ...] = ()
    unlabelled: tuple[Utterance, ...] = ()

    @property
    def everything(self) -> tuple[Utterance, ...]:
        """All labelled utterances of the fold: train, validation, test, in this order."""
        return self.train + self.validation + self.test

    def trained_in_the_end(self, refit: bool, train_on_all: bool) -> tuple[Utterance, ...]:
        """Return the labelled utterances that a student's last training is on, by the settings of these names."""
        validation = self.validation if refit or train_on_all else ()
        return self.train + validation + (self.test if train_on_all else ())

    def without(self, names: Collection[str]) -> Fold:
        """Return the fold without the utterances of these names; its test part stays as it is."""
        if not names:
            return self
        train, validation, unlabelled = (
            tuple(item for item in part if item.name not in names)
            for part in (self.train, self.validation, self.unlabelled)
        )
        return replace(self, train=train, validation=validation, unlabelled=unlabelled)

    def in_languages(self, languages: Collection[str] | None) -> Fold:
        """Return the fold with utterances in some languages only; as it is, if they are not named.

        Unlabelled utterances without a language stay.

        Raises:
            EdgeemoError: a part holds none.
        """
        if languages is None:
            return self
        parts = {
            name: tuple(item for item in getattr(self, name) if item.language in languages)
            for name in ("train", "validation", "test")
        }
        for name, items in parts.items():
            if not items:
                raise EdgeemoError(f"languages: the {name} part of this fold holds no {' or '.join(languages)}")
        unlabelled = tuple(item for item in self.unlabelled if not item.language or item.language in languages)
        return replace(self, **parts, unlabelled=unlabelled)


def cut(values: Sequence[str], count: int) -> dict[str, int]:
    """Return the part ``0..count-1`` of every distinct value, by name: part ``k`` is ``sorted(values)[k::count]``.

    >>> cut(["b", "a", "c", "a"], 2)
    {'a': 0, 'b': 1, 'c': 0}
    """
    return {value: position % count for position, value in enumerate(sorted(set(values)))}


def make_fold(corpus: Corpus, spec: FoldSpec, index: int) -> Fold:
    """Return fold ``index``: its part is tested on, the next `FoldSpec.validation` validated on, the rest trained on.

    A label may be missing in the validation or the test part (a speaker left out may not show all); `Fold.notes` then
    names it.

    Raises:
        EdgeemoError: the index is out of range, there are fewer values than parts, a part is empty, a label is missing
            in the training part, or a speaker falls into two parts and the recipe does not allow it.
    """
    count = spec.fold_count(corpus)
    if not 0 <= index < count:
        raise EdgeemoError(f"fold {index} does not exist: the recipe cuts {count} folds, 0 to {count - 1}")
    divided, groups = _without_groups(corpus, spec)
    parts = [_cut_column(divided, name, spec, count) for name in spec.columns]
    shared = _speakers_in_two_parts(divided, spec.by, parts[0])
    if shared and not spec.speaker_mixed:
        raise EdgeemoError(
            f"{corpus.root}: cut by {spec.by}, the speaker '{shared[0]}' falls into two parts, so that a tested "
            "speaker would be trained on; cut by speaker, or set folds.speaker_mixed = true, which marks all figures"
        )
    chosen: dict[str, list[Utterance]] = {"train": [], "validation": [], "test": []}
    for item in divided.utterances:
        roles = {
            _role((part[item.column(name)] - index) % max(count, 3), spec.validation)
            for name, part in zip(spec.columns, parts, strict=True)
        }
        if len(roles) == 1:
            chosen[roles.pop()].append(item)
    _refuse_gaps(corpus, chosen, index)
    train, validation, test = (tuple(chosen[name]) for name in ("train", "validation", "test"))
    return Fold(train, validation, test, (*_notes(corpus, chosen, spec), *groups))


def _cut_column(corpus: Corpus, column: str, spec: FoldSpec, count: int) -> dict[str, int]:
    """Return the part of every value of a column: of a published division 0 is tested on, 1 validated on."""
    values = [item.column(column) for item in corpus.utterances]
    if spec.count != PUBLISHED:
        return cut(values, count)
    unknown = sorted({value for value in values if value.lower() not in _PUBLISHED_ROLES})
    if unknown:
        raise EdgeemoError(
            f'{corpus.root}: folds.count = "published" takes the parts train, dev (or validation) and test from the '
            f"column '{column}', which also holds '{unknown[0]}'; rename it, or leave these utterances out"
        )
    order = ("test", "validation", "train")
    return {value: order.index(_PUBLISHED_ROLES[value.lower()]) for value in set(values)}


def _without_groups(corpus: Corpus, spec: FoldSpec) -> tuple[Corpus, list[str]]:
    """Return a corpus without groups of people, whose members may be in another part, and a note; whole if mixed."""
    groups = [item for item in corpus.utterances if item.extra.get(SEVERAL_SPEAKERS) == "yes"]
    if not groups or spec.speaker_mixed:
        return corpus, []
    names = sorted({item.speaker for item in groups})
    some = ", ".join(names[:3]) + (", ..." if names[3:] else "")
    note = f"{len(groups)} utterances of groups of speakers ({some}) are in no part."
    return replace(corpus, utterances=tuple(item for item in corpus.utterances if item.speaker not in names)), [note]


def _role(after_the_tested: int, validation: int) -> str:
    if after_the_tested == 0:
        return "test"
    return "validation" if after_the_tested <= validation else "train"


def _speakers_in_two_parts(corpus: Corpus, by: str, part: dict[str, int]) -> list[str]:
    found: dict[str, set[int]] = {}
    for item in corpus.utterances:
        found.setdefault(item.speaker, set()).add(part[item.column(by)])
    return sorted(speaker for speaker, parts in found.items() if len(parts) > 1)


def _refuse_gaps(corpus: Corpus, chosen: dict[str, list[Utterance]], index: int) -> None:
    for name, items in chosen.items():
        if not items:
            raise EdgeemoError(f"{corpus.root}: the {name} part of fold {index} is empty; use another folds.count")
    for label in _absent(corpus, chosen["train"]):
        speakers = {item.speaker for item in corpus.utterances if item.emotion == label}
        if len(speakers) == 1:
            raise EdgeemoError(
                f"{corpus.root}: only the speaker '{speakers.pop()}' shows the emotion '{label}', so it cannot be "
                "trained on one speaker and tested on another; add speakers, or drop it by the recipe's 'labels'"
            )
        raise EdgeemoError(
            f"{corpus.root}: the train part of fold {index} holds no '{label}', so it cannot be trained; use another "
            "folds.count, or drop the label by the recipe's 'labels'"
        )


def _notes(corpus: Corpus, chosen: dict[str, list[Utterance]], spec: FoldSpec) -> tuple[str, ...]:
    notes = []
    if spec.speaker_mixed:
        notes.append("Speaker-mixed folds: tested speakers were trained on, so the figures do not hold for new ones.")
    for name in ("validation", "test"):
        absent = _absent(corpus, chosen[name])
        if absent:
            notes.append(
                f"The {name} part holds no {', '.join(absent)}: no recall there, and UA is the mean over the others."
            )
    return tuple(notes)


def _absent(corpus: Corpus, items: Sequence[Utterance]) -> list[str]:
    return sorted(set(corpus.labels) - {item.emotion for item in items})
