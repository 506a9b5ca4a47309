"""The student together with what supervises it, as one module for the training loop."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from distill.losses import distribution_loss, embedding_loss
from distill.recipe import Student as StudentRecipe
from distill.recipe import TeacherSignal
from distill.student import SHARED, Student, StudentOutput


class EmoDistill(nn.Module):
    """Student and EmoDistill loss.

    Where the student has one branch for all teachers, a linear map leads from it to each teacher's embedding. These
    maps are part of the loss: they are trained with the student and left behind.

    Args:
        student: the student to train.
        recipe: weights of the labels.
        signals: what each teacher (``linguistic``, ``prosodic``, ``acoustic``) adds; may be empty.
    """

    def __init__(self, student: Student, recipe: StudentRecipe, signals: Mapping[str, TeacherSignal]) -> None:
        super().__init__()
        self.student = student
        self._recipe = recipe
        self._signals = dict(signals)
        sizes = student.config.branch_sizes()
        shared = student.config.branches == SHARED
        self.maps = nn.ModuleDict(
            {name: nn.Linear(sum(sizes.values()), sizes[name]) for name in self._signals} if shared else {}
        )

    def forward(
        self, pcm: Tensor, lengths: Tensor, labels: Tensor, targets: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Score a batch; ``targets`` holds ``TEACHER_logits`` ``[B, C]`` and ``TEACHER_embedding`` ``[B, E]``.

        Without targets (validation) the loss is the cross-entropy with the labels.
        """
        output = self.student(pcm, lengths)
        smoothing = self._recipe.label_smoothing if self.training else 0.0
        loss = functional.cross_entropy(output.logits, labels, label_smoothing=smoothing)
        if targets:
            loss = loss * self._recipe.label_weight
            for teacher, signal in self._signals.items():
                loss = loss + signal.logit_weight * distribution_loss(
                    output.logits, targets[f"{teacher}_logits"], signal.temperature
                )
                loss = loss + signal.embedding_weight * embedding_loss(
                    self._embedding(output, teacher), targets[f"{teacher}_embedding"]
                )
        return {"loss": loss, "logits": output.logits}

    def _embedding(self, output: StudentOutput, teacher: str) -> Tensor:
        """Return what the student has to set against a teacher's embedding, ``[B, E]``."""
        embedding: Tensor = self.maps[teacher](output.shared) if teacher in self.maps else output[teacher]
        return embedding
