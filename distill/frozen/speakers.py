"""What each speaker sounds like whatever the emotion: the mean that training takes off their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from distill.evaluation.metrics import Floats

_ROUNDS = 8
"""Of the alternation; means of a corpus with all emotions of all speakers are exact after two."""


class Spoken(NamedTuple):
    """One utterance: its statistics ``[D]``, who speaks, and the class index of the emotion."""

    statistics: Floats
    speaker: str
    emotion: int


def usual_statistics(utterances: Iterable[Spoken], classes: int) -> Mapping[str, Floats]:
    """Return the usual statistics ``[D]`` of each speaker.

    Least squares of ``speaker + emotion``, so that a speaker of whom the corpus has mostly angry utterances is not
    taken for someone whose voice is angry. The emotions' part sums to nothing over the classes.

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
    usual: Floats = np.zeros(0)
    for _ in range(_ROUNDS):
        usual = (total.sum(axis=1) - count @ emotions) / per_speaker
        emotions = (total.sum(axis=0) - count.T @ usual) / per_class
        present = count.sum(axis=0) > 0
        emotions -= np.where(present[:, None], emotions[present].mean(axis=0), emotions)
    return dict(zip(speakers, usual.astype(np.float32), strict=True))
