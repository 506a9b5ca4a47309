"""Speaker-independent folds: who is learnt from, who every choice is made on, who is tested on.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from distill.corpus import Corpus, Utterance
from edge_runtime.errors import EdgeemoError


class FoldSpec(BaseModel):
    """How a corpus is cut: part ``k`` of ``count`` holds ``sorted(speakers)[k::count]``.

    Attributes:
        count: number of parts.
        hold_out: a metadata column whose values (sentences, say) are cut in the same way, so that neither the tested
            speakers nor the tested sentences are seen in training; utterances that mix parts are left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=5, ge=3)
    hold_out: str | None = None

    def describe(self, index: int) -> str:
        """Return in words what fold ``index`` holds out, for reports."""
        held = f" and {self.hold_out}s" if self.hold_out else ""
        return f"fold {index} of {self.count}, speakers{held} held out"


@dataclass(frozen=True)
class Fold:
    """Three speaker-disjoint parts of one corpus."""

    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    test: tuple[Utterance, ...]

    @property
    def everything(self) -> tuple[Utterance, ...]:
        """All utterances of the fold: train, validation, test, in this order."""
        return self.train + self.validation + self.test


def cut(values: Sequence[str], count: int) -> dict[str, int]:
    """Return the part ``0..count-1`` of every distinct value, by name: part ``k`` is ``sorted(values)[k::count]``.

    >>> cut(["b", "a", "c", "a"], 2)
    {'a': 0, 'b': 1, 'c': 0}
    """
    return {value: position % count for position, value in enumerate(sorted(set(values)))}


def make_fold(corpus: Corpus, spec: FoldSpec, index: int) -> Fold:
    """Return fold ``index``: its part is tested on, the next part validated on, the rest trained on.

    Raises:
        EdgeemoError: the index is out of range, there are fewer speakers than parts, a label is missing in the train
            part, or another part is empty.
    """
    if not 0 <= index < spec.count:
        raise EdgeemoError(f"fold {index} does not exist: the recipe cuts {spec.count} folds, 0 to {spec.count - 1}")
    if len(corpus.speakers) < spec.count:
        raise EdgeemoError(
            f"{corpus.root}: has {len(corpus.speakers)} speakers, fewer than the {spec.count} folds of the recipe; "
            "lower folds.count"
        )
    columns = ["speaker"] + ([spec.hold_out] if spec.hold_out else [])
    parts = [cut([item.column(name) for item in corpus.utterances], spec.count) for name in columns]
    test, validation = index, (index + 1) % spec.count
    chosen: dict[str, list[Utterance]] = {"train": [], "validation": [], "test": []}
    for item in corpus.utterances:
        roles = {_role(part[item.column(name)], test, validation) for name, part in zip(columns, parts, strict=True)}
        if len(roles) == 1:
            chosen[roles.pop()].append(item)
    # What is not learnt cannot be told; a label that no tested speaker shows only leaves a gap in the figures.
    absent = sorted(set(corpus.labels) - {item.emotion for item in chosen["train"]})
    if absent:
        raise EdgeemoError(
            f"{corpus.root}: the train part of fold {index} holds no '{absent[0]}'; use another folds.count"
        )
    for name in ("validation", "test"):
        if not chosen[name]:
            raise EdgeemoError(f"{corpus.root}: the {name} part of fold {index} is empty; use another folds.count")
    return Fold(*(tuple(chosen[name]) for name in ("train", "validation", "test")))


def _role(part: int, test: int, validation: int) -> str:
    return "test" if part == test else "validation" if part == validation else "train"
