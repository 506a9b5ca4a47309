"""Speaker means of the training utterances, which are subtracted from their statistics for speaker normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from distill.evaluation.metrics import Floats

_ROUNDS = 8
"""Of the alternation; means of a corpus with all emotions of all speakers are exact after two."""


class SpeakerRow(NamedTuple):
    """One utterance: its statistics ``[D]``, its speaker, and the class index of its emotion."""

    statistics: Floats
    speaker: str
    emotion: int


def fit_speaker_means(utterances: Iterable[SpeakerRow], classes: int) -> Mapping[str, Floats]:
    """Return the speaker mean ``[D]`` of each speaker, corrected for the emotions of the speaker's utterances.

    Least squares of ``speaker + emotion``: the plain mean of a speaker with mostly angry utterances would contain the
    offset of anger. The offsets of the emotions have mean zero over the classes.

    Args:
        utterances: all of them, several copies of one included.
        classes: how many classes there are.
    """
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    for statistics, speaker, emotion in utterances:
        if speaker not in sums:
            sums[speaker] = np.zeros((classes, len(statistics)))
            counts[speaker] = np.zeros(classes)
        sums[speaker][emotion] += statistics
        counts[speaker][emotion] += 1
    if not sums:
        return {}
    speakers = list(sums)
    total = np.stack([sums[name] for name in speakers])
    count = np.stack([counts[name] for name in speakers])
    emotions = np.zeros(total.shape[1:])
    per_speaker, per_class = count.sum(axis=1)[:, None], np.maximum(count.sum(axis=0), 1)[:, None]
    means: Floats = np.zeros(0)
    for _ in range(_ROUNDS):
        means = (total.sum(axis=1) - count @ emotions) / per_speaker
        emotions = (total.sum(axis=0) - count.T @ means) / per_class
        present = count.sum(axis=0) > 0
        emotions -= np.where(present[:, None], emotions[present].mean(axis=0), emotions)
    return dict(zip(speakers, means.astype(np.float32), strict=True))


def plain_speaker_means(speakers: Sequence[str], rows: Floats) -> Floats:
    """Return for each row ``[D]`` of ``[N, D]`` the mean of all rows of the same speaker."""
    _, number = np.unique(speakers, return_inverse=True)
    sums = np.zeros((number.max() + 1, rows.shape[1]))
    np.add.at(sums, number, rows)
    return np.asarray((sums / np.bincount(number)[:, None])[number])
