"""Monolingual teachers (MTKD): one for each language, trained as the student is, on its language alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.corpus import Utterance
from distill.folds import Fold
from distill.recipe import Recipe
from distill.teachers.interface import LanguageSettings, Teacher
from edge_runtime.decision import Floats

_BATCH = 32


class MonolingualTeacher(Teacher):
    """A student without teachers, trained on one language."""

    Settings = LanguageSettings
    needs = ("language",)
    per_language = True
    every_process = True
    settings: LanguageSettings

    @classmethod
    def facts(cls, settings: LanguageSettings, recipe: Recipe) -> dict[str, Any]:
        """Return what the student is made of, since the teacher is made in the same way."""
        return {**_alone(recipe).student.model_dump(mode="json"), "window": recipe.window.model_dump()}

    def fit(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Train a student on one language."""
        from distill.distillation.train_student import train_student

        context, recipe = self.context, _alone(self.context.recipe)
        fold = Fold(tuple(train), tuple(validation), ())
        self._trained = train_student(
            recipe, context.labels, fold, context.corpora, None, context.folder, context.cache
        )
        return self._trained.history

    def predict(self, utterances: Sequence[Utterance]) -> tuple[Floats, None]:
        """Return logits ``[N, C]``; languages share no embedding."""
        from distill.distillation.objective import Distillation
        from distill.training.loop import predict

        # Data sets want a class, which enters the loss only, and that is not used.
        labelled = [dataclasses.replace(item, emotion=self.context.labels[0]) for item in utterances]
        module = Distillation(self._trained.validated, self.context.recipe.student, {})
        items = self._trained.features.dataset(labelled, None, None)
        batches = predict(module, items, self._trained.features.collate, _BATCH)
        return np.concatenate([batch["logits"] for batch in batches]), None


def _alone(recipe: Recipe) -> Recipe:
    """Return the recipe of a student that has no teachers and is not refitted on the validation speakers."""
    student = recipe.student.model_copy(update={"refit": False, "train_on_all": False, "speaker": None})
    return recipe.model_copy(update={"student": student, "teachers": ()})
