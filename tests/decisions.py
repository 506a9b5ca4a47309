"""Evaluations with decisions and confidences as a test wants them."""

from pathlib import Path

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation

LABELS = ("angry", "happy", "sad")


def spoken(rows, **extra):
    """Return utterances of ``(speaker, emotion)``; ``extra`` gives a column's value by speaker."""
    return [
        Utterance(
            Path(f"{number}.wav"),
            f"{number}.wav",
            speaker,
            emotion,
            extra={column: by[speaker] for column, by in extra.items() if speaker in by},
        )
        for number, (speaker, emotion) in enumerate(rows)
    ]


def evaluation(utterances, decided, confidence=0.8):
    """Return an evaluation with these decisions, each as sure as ``confidence`` says."""
    sure = np.broadcast_to(confidence, len(utterances))
    probabilities = np.repeat((1 - sure)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(len(utterances)), [LABELS.index(each) for each in decided]] = sure
    return Evaluation(utterances, LABELS, probabilities)
