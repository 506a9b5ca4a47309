"""The interface of teachers, built-in and plug-in alike. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from distill.corpus import Utterance
from distill.recipe import PlainName, Recipe, TeacherSignal, TeacherTable
from edge_runtime.decision import Floats


class CommonSettings(TeacherTable, extra="forbid", frozen=True):
    """The settings of every teacher.

    Attributes:
        cross_fit: fit so many teachers, each without one part of the training speakers, whose speech it then labels;
            all other speech gets the mean of their outputs (`distill.teachers.cross_fit`). One teacher if not given,
            which labels the speech that it was fitted to.
    """

    cross_fit: int | None = Field(default=None, ge=2)


class TeacherSettings(CommonSettings, extra="forbid", frozen=True):
    """The table ``[[teachers]]`` of one kind; a kind with settings of its own derives a model with them.

    Attributes:
        branch: name of the student's branch that matches the teacher's embedding; the teacher's name if not given.
        signal: its terms in the student's loss.
    """

    branch: PlainName | None = None
    signal: TeacherSignal = TeacherSignal(temperature=4.0)


class LanguageSettings(CommonSettings, extra="forbid", frozen=True):
    """The table of a kind of which one teacher is fitted for each language; such teachers have no terms of their own.

    Attributes:
        languages: the languages that have a teacher; all training languages if not given.
    """

    languages: tuple[str, ...] | None = Field(default=None, min_length=1)


@dataclass(frozen=True)
class Context:
    """What a teacher is trained with, beside its own settings.

    Attributes:
        labels: class names in the order of the logits.
        seed: of the recipe; Python's, NumPy's and PyTorch's generators are seeded with it before the teacher is made.
        folder: for checkpoints, so that a stopped training resumes; removed when the outputs are in the cache.
        cache: directory of the cache, for features.
        utterances: all those whose outputs will be predicted, with blank ``emotion``.
        recipe: of the run.
        corpora: all utterances of each corpus of the run, with blank ``emotion``.
    """

    labels: tuple[str, ...]
    seed: int
    folder: Path
    cache: Path
    utterances: Sequence[Utterance]
    recipe: Recipe
    corpora: Sequence[Sequence[Utterance]]


class Teacher(ABC):
    """A model that recognises emotions in utterances, from any information that the corpus has.

    One instance is made for each fold (for each language of a fold, if `per_language`; for each part of the speakers
    with ``cross_fit``), fitted, and used for one pass of predictions. The outputs are cached under a key that holds
    `facts`, the corpora, fold, seed and library versions, and for a plug-in the version of its package and the file of
    its class. Whatever else changes the outputs must change one of these.

    Attributes:
        Settings: model of its table in a recipe: `TeacherSettings` or one derived from it, `LanguageSettings` or one
            derived from that if `per_language`.
        needs: columns that no utterance may lack: ``transcript``, ``language``.
        per_language: one is fitted on the speech of each language; together they enter the student's loss weighted by
            the recipe's ``[weighting]`` (`distill.distillation.weighting`).
        every_process: `fit` is called in every process of a ``torchrun`` start, else in the first one only. `predict`
            is always called in the first one only.

    Args:
        settings: its validated table, an instance of `Settings`.
        context: labels, seed and places.
    """

    Settings: ClassVar[type[TeacherTable]] = TeacherSettings
    needs: ClassVar[tuple[str, ...]] = ()
    per_language: ClassVar[bool] = False
    every_process: ClassVar[bool] = False

    settings: Any

    def __init__(self, settings: Any, context: Context) -> None:
        self.settings = settings
        self.context = context

    @classmethod
    def check(cls, settings: Any, labels: tuple[str, ...]) -> int:
        """Check, before anything is trained, that all parts of the teacher are available.

        Returns:
            Samples at 16 kHz of the shortest waveform that it takes; 0 for any length.

        Raises:
            EdgeemoError: a part is missing.
        """
        return 0

    @classmethod
    def facts(cls, settings: Any, recipe: Recipe) -> dict[str, Any]:
        """Return the settings that change the teacher's outputs, as JSON, for the key of the cache."""
        found: dict[str, Any] = settings.model_dump(mode="json", exclude={"name", "branch", "signal", "cross_fit"})
        return found

    @abstractmethod
    def fit(self, train: Sequence[Utterance], validation: Sequence[Utterance]) -> list[dict[str, float]]:
        """Fit the teacher to the training speakers; choices may be made on the validation speakers.

        Returns:
            Its history for the report: a dictionary for each epoch or step; may be empty.
        """

    @abstractmethod
    def predict(self, utterances: Sequence[Utterance]) -> tuple[Floats, Floats | None]:
        """Compute the outputs for utterances, whose ``emotion`` is blank.

        Returns:
            Logits ``[N, C]``, whose softmax is the teacher's distribution, and an embedding ``[N, E]``, which a branch
            of the student is trained to match, of the same size ``E`` in every call. No embedding from a teacher of
            which the student matches the distribution only.
        """

    def predict_dimensions(self, utterances: Sequence[Utterance]) -> Floats | None:
        """Predict the dimensions of the recipe (``student.dimensions.names``) for utterances, whose targets are blank.

        Returns:
            ``[N, K]`` from 0 to 1; None from a teacher that predicts none, and for a recipe without dimensions.
        """
        return None
