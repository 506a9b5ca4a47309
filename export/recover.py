"""A changed student learns again to say what the unchanged one says: after pruning, and under simulated INT8.

The unchanged student hears the same windows. Its statistics (in units of their deviation), its hidden states, the
embeddings of its branches (where it has any), its logits, and with a small weight the labels are what the changed one
learns from. Its encoder learns, whatever was frozen in the run: that is where it was cut. A direct map stays as its
closed form, and so do the reference and the scale in front of it: the encoder is led back to the statistics that all
three were fitted to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import set_seed

from distill.distillation.losses import distribution_loss, embedding_loss
from distill.narrowing.importance import outputs_of
from distill.narrowing.likeness import hidden_distance
from distill.recipe import Schedule
from distill.speech.audio_data import Windows, collate_windows
from distill.student import Student
from distill.training import processes
from distill.training.loop import Task, fit
from edge_runtime.sources.audio import Pcm
from export.loaded_run import LoadedRun

STATISTICS, HIDDEN, LOGITS, EMBEDDINGS, LABELS = 1.0, 1.0, 1.0, 1.0, 0.1
"""Weights of the parts of the loss."""
BATCH = 16
"""Windows a step. The schedule is recovery's own: a student in closed form has none in its recipe."""


class Recovery(nn.Module):
    """A changed student and what the unchanged one, its teacher, says of the same windows.

    Args:
        student: learns.
        teacher: the unchanged student.
        windows: of training speakers, for the deviation of each statistic.
    """

    deviation: Tensor

    def __init__(self, student: Student, teacher: Student, windows: Sequence[Pcm]) -> None:
        super().__init__()
        self.student = student
        # In a list, so that checkpoints and the optimiser do not hold it.
        self._teacher = [teacher.eval().requires_grad_(False)]
        statistics = outputs_of(teacher, windows)[1].clone()
        self.register_buffer("deviation", statistics.std(dim=0).clamp(min=1e-4), persistent=False)

    def forward(self, labels: Tensor, pcm: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the loss on a batch, and the logits."""
        teacher = self._teacher[0].to(pcm.device)
        with _states(teacher) as wanted_states, torch.no_grad():
            wanted = teacher(pcm, lengths)
        with _states(self.student) as states:
            # Not with the running mean of the training: the reference stays the unchanged student's.
            output = self.student(pcm, lengths, reference=self.student.reference)
        loss = LOGITS * distribution_loss(output.logits, wanted.logits, 2.0)
        loss = loss + LABELS * functional.cross_entropy(output.logits, labels)
        error = (output.statistics - wanted.statistics) / self.deviation
        loss = loss + STATISTICS * error.square().mean()
        loss = loss + HIDDEN * hidden_distance(states[0][1:], wanted_states[0][1:])
        branches = list(self.student.branches)
        for name in branches:
            loss = loss + EMBEDDINGS * embedding_loss(output.embeddings[name], wanted.embeddings[name]) / len(branches)
        return {"loss": loss, "logits": output.logits}


def recover(
    student: Student,
    teacher: Student,
    run: LoadedRun,
    windows: Sequence[Pcm],
    *,
    title: str,
    schedule: Schedule,
    folder: Path,
) -> list[dict[str, float]]:
    """Train a changed student on what the unchanged one says of the run's training part, in place.

    Args:
        student: the changed one.
        teacher: the unchanged one.
        run: whose training part is heard, augmented as its recipe says.
        windows: of training speakers, for the deviation of each statistic.
        title: how progress names it.
        schedule: how it is trained.
        folder: where checkpoints go; a run that was stopped goes on from there.

    Returns:
        One dictionary an epoch.

    Raises:
        EdgeemoError: a checkpoint cannot be written.
    """
    recipe = run.record.recipe
    set_seed(recipe.seed)
    processes.repeatable()
    _let_all_learn(student)
    train = Windows(
        run.fold.train, run.record.labels, run.policy, seed=recipe.seed, augmentation=recipe.student.augmentation
    )
    history = fit(
        Recovery(student, copy.deepcopy(teacher), windows),
        train,
        None,
        Task(title, collate_windows, schedule, recipe.seed, folder),
    )
    # Training may have moved it to a GPU; export goes on where the windows are.
    student.cpu().eval()
    return history


def schedule_of(epochs: int, learning_rate: float) -> Schedule:
    """Return a schedule of so many epochs that leaves nothing to choose."""
    return Schedule(epochs=epochs, keep="last", batch_size=BATCH, learning_rate=learning_rate, weight_decay=0.0)


def _let_all_learn(student: Student) -> None:
    student.requires_grad_(True)
    if student.config.direct:
        # Its thousands of small weights come from all utterances at once; steps of AdamW would undo that.
        student.direct.requires_grad_(False)
    student.encoder._resting = ()


@contextmanager
def _states(student: Student) -> Iterator[list[list[Tensor]]]:
    """Keep the hidden states that a student's encoder gives while the block runs."""
    seen: list[list[Tensor]] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output[0])

    hook = student.encoder.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
