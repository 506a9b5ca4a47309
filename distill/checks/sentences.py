"""Whether the words alone give the emotion: sentences that recur across speakers, each mostly in one emotion.

Folds by speaker test on sentences that other speakers said in training. Where a sentence goes with an emotion, a
student may recognise the sentence; figures then hold for these sentences only. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from distill.checks.finding import Finding
from distill.checks.giveaway import PERMUTATIONS, SUSPICIOUS, permuted_within
from distill.corpus import Corpus, Utterance

COLUMNS = ("sentence", "statement", "transcript")
"""Columns that name what is said; the first one that every utterance has is looked at."""

_FOLD_PARTS = 3

Numbers = npt.NDArray[np.intp]


def check_sentences(corpus: Corpus, hold_out: str | None = None, *, seed: int = 0) -> Iterator[Finding]:
    """Look for sentences that should be held out.

    The emotion of each utterance is predicted as the one that other speakers show most often with the same sentence; a
    sentence that no other speaker says predicts by chance. As in `distill.checks.giveaway` the unweighted accuracy must
    exceed that of all permutations of the emotions within each speaker, and a share of the way from chance to perfect.

    Args:
        corpus: the corpus; fewer than three sentences cannot be cut into parts, and are not looked at.
        hold_out: column that the recipe's folds hold out; nothing is found where it is one of `COLUMNS`.
        seed: of the permutations.
    """
    items = corpus.utterances
    column = next((name for name in COLUMNS if all(_said(item, name) for item in items)), None)
    if column is None or hold_out in COLUMNS or len(corpus.labels) < 2:
        return
    sentences = _codes([item.column(column) for item in items])
    if sentences.max() + 1 < _FOLD_PARTS:
        return
    speakers = np.array([item.speaker for item in items])
    emotions = _codes([item.emotion for item in items])
    spoken = _codes([f"{speaker}\x1f{sentence}" for speaker, sentence in zip(speakers, sentences, strict=True)])
    random = np.random.default_rng(seed)
    chance = 1 / len(corpus.labels)
    found = _accuracy(sentences, spoken, emotions)
    if (found - chance) / (1 - chance) < SUSPICIOUS:
        return
    permuted = (permuted_within(emotions, speakers, random) for _ in range(PERMUTATIONS))
    if found > max(_accuracy(sentences, spoken, labels) for labels in permuted):
        message = (
            f"The sentence alone (column '{column}') predicts the emotion of other speakers with a UA of {found:.2f} "
            f"(chance {chance:.2f}): a model may recognise the words; hold sentences out with "
            f"folds.hold_out = '{column}' in the recipe."
        )
        yield Finding(check="sentences", level="warning", message=message)


def _said(item: Utterance, column: str) -> str:
    return item.transcript if column == "transcript" else item.extra.get(column, "")


def _codes(values: list[str]) -> Numbers:
    return np.asarray(np.unique(values, return_inverse=True)[1], np.intp)


def _accuracy(sentences: Numbers, spoken: Numbers, emotions: Numbers) -> float:
    """Return the unweighted accuracy of the emotion that other speakers show most with a sentence; ties count in part.

    Args:
        sentences: ``[N]`` the sentence of each utterance.
        spoken: ``[N]`` its sentence and speaker together.
        emotions: ``[N]``.
    """
    count = int(emotions.max()) + 1
    every = np.zeros((int(sentences.max()) + 1, count))
    own = np.zeros((int(spoken.max()) + 1, count))
    np.add.at(every, (sentences, emotions), 1)
    np.add.at(own, (spoken, emotions), 1)
    others = every[sentences] - own[spoken]
    best = others == others.max(axis=1, keepdims=True)  # all of them, where no other speaker says the sentence
    right = best[np.arange(len(emotions)), emotions] / best.sum(axis=1)
    return float(np.mean([right[emotions == emotion].mean() for emotion in range(count)]))
