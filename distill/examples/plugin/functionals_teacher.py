"""A teacher of one's own: openSMILE's eGeMAPS functionals of the whole utterance, and a logistic regression.

    pip install distill/examples/plugin
    edgeemo distill distill/examples/plugin/functionals.toml --corpus rendered --out run

The entry point in the pyproject.toml beside this file gives it the name by which functionals.toml asks for it. Any
library will do: all that counts is what is said of each utterance, which may rest on whatever the corpus holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import opensmile
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy
from distill.teachers.own import Teacher


class FunctionalsTeacher(Teacher):
    """Hears hand-made features, which no device has the time for."""

    def __init__(self, labels: tuple[str, ...], settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(labels, settings, seed)
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
        self._functionals = cache(lambda path: smile.process_file(str(path)).to_numpy()[0])
        self._scale = StandardScaler()
        self._decide = LogisticRegression(C=float(settings.get("strength", 0.01)), max_iter=1000)

    def learn(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Fit scale and regression to the training speakers, and report how well they do on others."""
        self._decide.fit(self._scale.fit_transform(self._heard(train)), self._numbers(train))
        decided = self.say(validation)[0].argmax(axis=1)
        return [{"validation_ua": unweighted_accuracy(self._numbers(validation), decided)}]

    def say(self, utterances: Sequence[Utterance]) -> tuple[Floats, Floats]:
        """Return log-probabilities as logits, and the 88 standardised functionals as embedding."""
        embedding = self._scale.transform(self._heard(utterances))
        return self._decide.predict_log_proba(embedding), embedding

    def _heard(self, utterances: Sequence[Utterance]) -> Floats:
        return np.stack([self._functionals(item.path) for item in utterances])

    def _numbers(self, utterances: Sequence[Utterance]) -> Ints:
        return np.array([self.labels.index(item.emotion) for item in utterances])
