"""A plug-in teacher: openSMILE's eGeMAPS functionals of the whole utterance, and a logistic regression.

    pip install distill/examples/plugin
    edgeemo distill distill/examples/plugin/functionals.toml --corpus rendered --out run

The entry point in the pyproject.toml beside this file gives it the name that functionals.toml has as ``kind``. A
teacher may use any library, and any information that the corpus has on an utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import opensmile
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats, Ints, unweighted_accuracy
from distill.teachers.interface import Context, Teacher, TeacherSettings


class FunctionalsSettings(TeacherSettings):
    """Its table in a recipe.

    Attributes:
        strength: inverse of the regularisation of the logistic regression (scikit-learn's ``C``).
    """

    strength: float = Field(default=0.01, gt=0)


class FunctionalsTeacher(Teacher):
    """A classifier on hand-made features, which take too long on a device."""

    Settings = FunctionalsSettings

    def __init__(self, settings: FunctionalsSettings, context: Context) -> None:
        super().__init__(settings, context)
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
        self._functionals = cache(lambda path: smile.process_file(str(path)).to_numpy()[0])
        self._scale = StandardScaler()
        self._decide = LogisticRegression(C=settings.strength, max_iter=1000)

    def fit(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Fit scale and regression to the training speakers, and report the UA on validation speakers."""
        self._decide.fit(self._scale.fit_transform(self._features(train)), self._numbers(train))
        decided = self.predict(validation)[0].argmax(axis=1)
        return [{"validation_ua": unweighted_accuracy(self._numbers(validation), decided)}]

    def predict(self, utterances: Sequence[Utterance]) -> tuple[Floats, Floats]:
        """Return log-probabilities as logits, and the 88 standardised functionals as embedding."""
        embedding = self._scale.transform(self._features(utterances))
        return self._decide.predict_log_proba(embedding), embedding

    def _features(self, utterances: Sequence[Utterance]) -> Floats:
        return np.stack([self._functionals(item.path) for item in utterances])

    def _numbers(self, utterances: Sequence[Utterance]) -> Ints:
        return np.array([self.context.labels.index(item.emotion) for item in utterances])
