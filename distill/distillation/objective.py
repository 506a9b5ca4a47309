"""The student together with what supervises it, as one module for the training loop."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from distill.distillation.mtkd import teacher_weights, teachers_loss
from distill.heads.branches import SHARED
from distill.recipe import MONOLINGUAL, MonolingualTeachers, TeacherSignal
from distill.recipe import Student as StudentRecipe
from distill.student import Student, StudentOutput
from distill.training.losses import distribution_loss, embedding_loss


class Distillation(nn.Module):
    """Student and loss: of labels, EmoDistill's teachers and MTKD's, as far as there are any.

    Where the student has one branch for all teachers, a linear map leads from it to each teacher's embedding. These
    maps are part of the loss: they are trained with the student and left behind.

    Args:
        student: the student to train.
        recipe: weights of the labels.
        class_weights: ``[C]``, for the cross-entropy in training; all alike if not given.
        signals: what each of `distill.recipe.TEACHERS` adds; may be empty.
        monolingual: how monolingual teachers teach, if there are any.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        student: Student,
        recipe: StudentRecipe,
        signals: Mapping[str, TeacherSignal],
        class_weights: Tensor | None = None,
        monolingual: MonolingualTeachers | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self._recipe = recipe
        self._signals = dict(signals)
        self._monolingual = monolingual
        self.register_buffer("class_weights", class_weights, persistent=False)
        sizes = student.config.branch_sizes()
        shared = student.config.branches == SHARED
        self.maps = nn.ModuleDict(
            {name: nn.Linear(sum(sizes.values()), sizes[name]) for name in self._signals} if shared else {}
        )

    def forward(
        self,
        labels: Tensor,
        pcm: Tensor | None = None,
        lengths: Tensor | None = None,
        statistics: Tensor | None = None,
        reference: Tensor | None = None,
        targets: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch of waveforms, or of statistics where the encoder is frozen.

        Args:
            labels: ``[B]``.
            pcm: ``[B, S]``.
            lengths: ``[B]``.
            statistics: ``[B, D]``, instead of waveforms.
            reference: ``[B, D]``, the speaker means; the training mean if not given.
            targets: ``TEACHER_logits`` ``[B, C]`` and ``TEACHER_embedding`` ``[B, E]``; of monolingual teachers
                ``monolingual_logits`` ``[B, M, C]`` and ``monolingual_own`` ``[B]``, see `teacher_weights`.

        Returns:
            ``loss``, out of training the cross-entropy with the labels; ``logits`` ``[B, C]``; of a student with
            monolingual teachers ``weights`` ``[B, M]`` and ``own`` ``[B]``.
        """
        if statistics is None:
            output = self.student(pcm, lengths, reference)
        else:
            output = self.student.decide(statistics, reference)
        logits = output["logits"]
        loss = self._label_loss(logits, labels)
        weighted = {}
        if self._monolingual is not None and targets:
            teachers, own = targets[f"{MONOLINGUAL}_logits"], targets[f"{MONOLINGUAL}_own"].long()
            weighted = {"weights": teacher_weights(logits, teachers, own, self._monolingual), "own": own}
        if targets and self.training:
            loss = loss * self._recipe.label_weight
            if self._monolingual is not None:
                share = self._monolingual.share
                theirs = teachers_loss(logits, teachers, weighted["weights"], self._monolingual)
                loss = (1 - share) * loss + share * theirs
            for teacher, signal in self._signals.items():
                loss = loss + signal.logit_weight * distribution_loss(
                    logits, targets[f"{teacher}_logits"], signal.temperature
                )
                loss = loss + signal.embedding_weight * embedding_loss(
                    self._embedding(output, teacher), targets[f"{teacher}_embedding"]
                )
        return {"loss": loss, "logits": logits, **weighted}

    def _label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if not self.training:
            return functional.cross_entropy(logits, labels)
        each = functional.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self._recipe.label_smoothing, reduction="none"
        )
        # Not divided by the weights of the batch: an utterance counts the same whatever it is batched with.
        return each.mean()

    def _embedding(self, output: StudentOutput, teacher: str) -> Tensor:
        """Return what the student has to set against a teacher's embedding, ``[B, E]``."""
        embedding: Tensor = self.maps[teacher](output.shared) if teacher in self.maps else output[teacher]
        return embedding
