"""More speech for training: auxiliary corpora, whose labels get the names of the tested corpus, and unlabelled speech.

Utterances of emotions that are no class of the student are unlabelled speech too: an encoder can be distilled on them.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distill.corpus import CORPUS, Corpus, Utterance
from distill.folds import Fold
from distill.recipe import Recipe
from edge_runtime.errors import EdgeemoError, WrongUseError

_NAMES = {
    "angry": ("anger",),
    "bored": ("boredom",),
    "disgusted": ("disgust",),
    "fearful": ("fear", "anxiety"),
    "happy": ("happiness", "joy"),
    "neutral": ("neutrality",),
    "sad": ("sadness",),
    "surprised": ("surprise",),
}
"""What corpora call the same emotion."""

_MEANING = {name: emotion for emotion, names in _NAMES.items() for name in (emotion, *names)}


def meaning(label: str) -> str:
    """Return one name for what corpora call differently; a label that is not known means itself.

    >>> meaning("joy") == meaning("happiness")
    True
    """
    return _MEANING.get(label.lower(), label.lower())


def names_for(corpus: Corpus, other: Corpus, labels: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the labels of ``other`` are called in ``corpus``; those of emotions that it lacks are left out.

    Args:
        corpus: the corpus that is tested.
        other: another corpus, as it was read.
        labels: a recipe's ``labels``, which rename both before anything else.

    Raises:
        EdgeemoError: they have fewer than two emotions in common.
    """
    return names_among(corpus.labels, corpus.root, other, labels)


def names_among(
    classes: Sequence[str], where: Path, other: Corpus, labels: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return what the labels of ``other`` are called among the classes of ``where``, as `names_for`."""
    known = {meaning(label): label for label in classes}
    first = {label: label for label in other.labels} if labels is None else labels
    names = {
        label: known[meaning(first[label])]
        for label in other.labels
        if label in first and meaning(first[label]) in known
    }
    if len(set(names.values())) < 2:
        raise EdgeemoError(
            f"{other.root}: of its labels {', '.join(other.labels)} fewer than two mean what labels of {where} "
            "mean, so it cannot help; rename them by the recipe's 'labels' or leave this corpus out"
        )
    return names


def with_auxiliary(fold: Fold, others: Iterable[Corpus]) -> Fold:
    """Return the fold with all utterances of other corpora in its training part.

    Speakers and files of other corpora are other ones, whatever their names: both get the name of their corpus.
    """
    more = [of_corpus(item, other.facts.name) for other in others for item in other.utterances]
    return dataclasses.replace(fold, train=(*fold.train, *more))


def with_unlabelled(fold: Fold, others: Iterable[Corpus]) -> Fold:
    """Return the fold with the unlabelled speech of other corpora; names as in `with_auxiliary`."""
    more = (of_corpus(item, other.facts.name) for other in others for item in other.utterances)
    return dataclasses.replace(fold, unlabelled=tuple(more))


def other_emotions(corpus: Corpus, labels: Mapping[str, str] | None) -> list[Corpus]:
    """Return the utterances of emotions that are no class, without their emotions; a corpus for each that has some.

    Args:
        corpus: as it was read, or pooled from several.
        labels: a recipe's, from the corpus' labels to the classes.
    """
    parts = [(each.corpus, each.final_labels(labels)) for each in corpus.parts]
    if not parts and labels is not None:
        parts = [(corpus, dict(labels))]
    found = []
    for part, chosen in parts:
        items = [item for item in part.utterances if item.emotion not in chosen]
        if corpus.parts:
            items = [of_corpus(item, part.facts.name) for item in items]
        if items:
            plain = (dataclasses.replace(item, emotion="", dimensions={}) for item in items)
            facts = part.facts.model_copy(update={"name": f"{part.facts.name}, other emotions"})
            found.append(dataclasses.replace(part, facts=facts, utterances=tuple(plain), published=None))
    return found


def trained_on_too(
    others: Iterable[Corpus], trained: Sequence[Utterance], apart: Sequence[Utterance], columns: Iterable[str]
) -> list[Corpus]:
    """Return what of `other_emotions` a fold trains on: utterances of training speakers.

    Args:
        others: the utterances of other emotions.
        trained: labelled utterances that are trained on.
        apart: labelled utterances that are not.
        columns: those that the folds are cut by; an utterance with a value of ``apart`` is not trained on either.
    """
    columns = list(columns)
    speakers = {item.speaker for item in trained} - {item.speaker for item in apart}
    held = {(name, item.column(name)) for name in columns for item in apart}
    found = []
    for each in others:
        items = tuple(
            item
            for item in each.utterances
            if item.speaker in speakers and not any((name, item.column(name)) in held for name in columns)
        )
        if items:
            found.append(dataclasses.replace(each, utterances=items))
    return found


def refuse_unused_or_missing(recipe: Recipe, *, given: bool) -> None:
    """Refuse unlabelled speech for a recipe that has no use for it, and a recipe that needs it without it.

    Args:
        recipe: the recipe.
        given: whether there is unlabelled speech.

    Raises:
        WrongUseError: it is one of these.
    """
    if given and not recipe.uses_unlabelled:
        raise WrongUseError(
            f"--unlabelled: the recipe {recipe.name} has no use for it; take one with [[teachers]] or with "
            "[student.pruning.distillation], or leave the option out"
        )
    if not given and recipe.distils_on_unlabelled_alone:
        raise WrongUseError(
            f"the recipe {recipe.name} distils its encoder on unlabelled speech alone; name some by --unlabelled "
            "NAME=PATH, or set student.pruning.distillation.speech to 'all'"
        )


def of_corpus(item: Utterance, corpus: str) -> Utterance:
    """Return the utterance with the name of its corpus before those of its file and its speaker."""
    return dataclasses.replace(
        item,
        name=f"{corpus}/{item.name}",
        speaker=f"{corpus}/{item.speaker}",
        extra={**item.extra, CORPUS: corpus},
    )
