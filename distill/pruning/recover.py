"""Train a changed student to match the original one: recovery after pruning, and training under simulated INT8.

The whole encoder is trained, even if the run froze it, since that is where units were removed. The LDA head stays as
fitted, and so do the speaker mean and the scale before it: the encoder is trained back to the statistics that all three
were fitted to.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from transformers import set_seed

from distill.pruning.matching import StudentMatching
from distill.recipe import Schedule
from distill.scoring import outputs_of
from distill.speech.audio_data import Windows
from distill.student import Student
from distill.training import processes
from distill.training.loop import Task, fit
from edge_runtime.sources.audio import Pcm

BATCH = 16
"""Windows a step. The schedule is recovery's own: the recipe of a student in closed form has none."""


def recover(
    student: Student, original: Student, train: Windows, windows: Sequence[Pcm], task: Task
) -> list[dict[str, float]]:
    """Train a changed student to match the original one, in place.

    Args:
        student: the changed one.
        original: the one before the change.
        train: the training part of the run, augmented.
        windows: of training speakers, for the deviation of each statistic.
        task: title, schedule (`schedule_of`), seed and folder of checkpoints; an interrupted run continues from there.

    Returns:
        One dictionary an epoch.

    Raises:
        EdgeemoError: a checkpoint cannot be written.
    """
    set_seed(task.seed)
    processes.repeatable()
    _train_encoder_too(student)
    original = copy.deepcopy(original)
    deviation = outputs_of(original, windows)[1].clone().std(dim=0)
    history = fit(StudentMatching(student, original, deviation), train, None, task)
    # Training may have moved it to a GPU; the export that follows runs on the CPU.
    student.cpu().eval()
    return history


def schedule_of(epochs: int, learning_rate: float) -> Schedule:
    """Return a schedule of so many epochs that leaves nothing to choose."""
    return Schedule(
        epochs=epochs, keep="last", batch_size=BATCH, learning_rate=learning_rate, weight_decay=0.0, warmup=0.1
    )


def _train_encoder_too(student: Student) -> None:
    student.requires_grad_(True)
    if student.config.lda_head:
        # Its thousands of small weights come from all utterances at once; steps of AdamW would undo that.
        student.lda_head.requires_grad_(False)
    student.encoder._resting = ()
