"""The student and its loss as one module for the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from distill.corpus import UNLABELLED
from distill.distillation.weighting import teacher_weights, weighted_loss
from distill.heads.branches import SHARED
from distill.recipe import Student as StudentRecipe
from distill.recipe import TeacherSignal, Weighting
from distill.student import Student
from distill.training.losses import concordance_loss, distribution_loss, embedding_loss
from distill.training.outputs import DIMENSIONS, LANGUAGE_LOGITS, LANGUAGE_NUMBER


class Distillation(nn.Module):
    """Student and loss: of labels, of teachers with terms of their own (EmoDistill), of weighted teachers (MTKD).

    Where the student has one branch for all teachers, a linear map leads from it to each teacher's embedding. These
    maps are part of the loss: they are trained with the student and are no part of it.

    Args:
        student: the student to train.
        recipe: weights of the labels.
        signals: the terms of each teacher by name; may be empty.
        branches: the branch that matches each teacher's embedding; the one of the teacher's name if not given. A
            teacher without an embedding has none.
        weighting: of the teachers of one language each; None where there are none.
    """

    def __init__(
        self,
        student: Student,
        recipe: StudentRecipe,
        signals: Mapping[str, TeacherSignal],
        weighting: Weighting | None = None,
        branches: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self._recipe = recipe
        self._signals = dict(signals)
        self._branches = {name: name for name in signals} if branches is None else dict(branches)
        self._weighting = weighting
        sizes = student.config.branch_sizes()
        shared = student.config.shared_branch
        self.maps = nn.ModuleDict(
            {name: nn.Linear(sum(sizes.values()), sizes[branch]) for name, branch in self._branches.items()}
            if shared
            else {}
        )

    def forward(
        self,
        labels: Tensor,
        pcm: Tensor | None = None,
        lengths: Tensor | None = None,
        statistics: Tensor | None = None,
        targets: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch of waveforms, or of statistics where the encoder is frozen.

        Args:
            labels: ``[B]``; an utterance of class `UNLABELLED` has the teachers' terms of the loss only.
            pcm: ``[B, S]``.
            lengths: ``[B]``.
            statistics: ``[B, D]``, instead of waveforms.
            targets: ``TEACHER_logits`` ``[B, C]`` and ``TEACHER_embedding`` ``[B, E]``; of teachers of one language
                each `LANGUAGE_LOGITS` ``[B, M, C]`` and `LANGUAGE_NUMBER` ``[B]``, see `teacher_weights`; targets of
                dimensions `DIMENSIONS` ``[B, K]``.

        Returns:
            ``loss``, out of training the cross-entropy with the labels; ``logits`` ``[B, C]``; of a student with
            weighted teachers ``weights`` ``[B, M]`` and ``own`` ``[B]``.
        """
        output: Any = self.student(pcm, lengths) if statistics is None else self.student.decide(statistics)
        logits = output["logits"]
        # The mean over all utterances, so that processes which share a batch give what one gives.
        loss = functional.cross_entropy(logits, labels, reduction="none", ignore_index=UNLABELLED).mean()
        weighted = {}
        if self._weighting is not None and targets:
            teachers, own = targets[LANGUAGE_LOGITS], targets[LANGUAGE_NUMBER].long()
            weighted = {"weights": teacher_weights(logits, teachers, own, self._weighting), "own": own}
        if targets and self.training:
            loss = loss * self._recipe.label_weight
            if self._weighting is not None:
                share = self._weighting.share
                theirs = weighted_loss(logits, teachers, weighted["weights"], self._weighting)
                loss = (1 - share) * loss + share * theirs
            for teacher, signal in self._signals.items():
                loss = loss + signal.logit_weight * distribution_loss(
                    logits, targets[f"{teacher}_logits"], signal.temperature
                )
                if teacher in self._branches:
                    loss = loss + signal.embedding_weight * embedding_loss(
                        self._embedding(output.embeddings, teacher), targets[f"{teacher}_embedding"]
                    )
            if self._recipe.dimensions is not None:
                loss = loss + self._recipe.dimensions.weight * concordance_loss(output.dimensions, targets[DIMENSIONS])
        return {"loss": loss, "logits": logits, **weighted}

    def _embedding(self, embeddings: Mapping[str, Tensor], teacher: str) -> Tensor:
        """Return the student's embedding that is compared with a teacher's, ``[B, E]``."""
        if teacher not in self.maps:
            return embeddings[self._branches[teacher]]
        mapped: Tensor = self.maps[teacher](embeddings[SHARED])
        return mapped
