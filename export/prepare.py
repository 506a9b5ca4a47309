"""Changes of a student before it becomes a graph: pruning, sparsity, recovery, training under simulated INT8."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.pruning.prune import Plan, prune
from distill.pruning.recover import recover, schedule_of
from distill.pruning.sparsity import TWO_OF_FOUR, masked, masks
from distill.speech.audio_data import Windows, collate_windows
from distill.student import Student
from distill.training.loop import Task
from edge_runtime.errors import WrongUseError
from edge_runtime.files import digest_of
from edge_runtime.sources.audio import Pcm
from export.int8.fake_quantise import quantised_modules, simulated_int8
from export.loaded_run import LoadedRun
from export.options import Changes, Progress

PRUNING_WINDOWS = 192
RECOVERY_RATE = 2e-4
"""Peak learning rate after pruning."""
AWARE_RATE = 3e-5
"""Peak learning rate under simulated INT8, which changes little."""


@dataclass(frozen=True)
class Prepared:
    """A student ready to become a graph, and what was removed.

    Attributes:
        pruning: the plan for the bundle, with the history of recovery.
        aware: settings and history of quantisation-aware distillation; empty without it.
    """

    student: Student
    plan: Plan | None
    pruning: dict[str, Any]
    aware: dict[str, Any]


def prepare(run: LoadedRun, changes: Changes, work: Path, progress: Progress) -> Prepared:
    """Return the run's student with the changes; the run keeps its own.

    ``work`` holds checkpoints; the same changes of the same run continue from them.

    Raises:
        WrongUseError: the target cannot be reached, or the encoder cannot be pruned.
    """
    student, plan = run.student, None
    if changes.smaller and student.encoder.chunk_samples:
        raise WrongUseError("--prune, --sparsity: an encoder in chunks (window.chunk_seconds) cannot be pruned")
    kept: dict[str, Tensor] = {}
    pruning: dict[str, Any] = {}
    windows: Sequence[Pcm] = []
    if changes.any:
        windows = run.windows("train", PRUNING_WINDOWS)
    if changes.smaller:
        student, plan, kept = _smaller(run, changes, windows, progress)
        history = []
        if changes.recover_epochs:
            progress(f"recovery: {changes.recover_epochs} epochs of distillation from the unpruned student")
            distil = _Distillation(run, windows, changes, work)
            with masked(student, kept) if kept else nullcontext():
                history = distil(student, "recovery", changes.recover_epochs, RECOVERY_RATE)
        pruning = {
            "removed": plan.removed,
            "sparsity": changes.sparsity,
            "plan": plan.model_dump(mode="json"),
            "recovery": {"epochs": changes.recover_epochs, "learning_rate": RECOVERY_RATE, "history": history},
        }
    aware: dict[str, Any] = {}
    if changes.qat_epochs:
        progress(f"quantisation-aware distillation: {changes.qat_epochs} epochs")
        student = copy.deepcopy(student)
        modules = quantised_modules(student, run.policy)
        distil = _Distillation(run, windows, changes, work)
        with simulated_int8(student, modules, windows, kept):
            history = distil(student, "aware", changes.qat_epochs, AWARE_RATE)
        aware = {
            "epochs": changes.qat_epochs,
            "learning_rate": AWARE_RATE,
            "modules": sorted(modules),
            "history": history,
        }
    return Prepared(student.eval(), plan, pruning, aware)


@dataclass(frozen=True)
class _Distillation:
    """Distils the run's student into a changed one, with checkpoints named by the stage."""

    run: LoadedRun
    windows: Sequence[Pcm]
    changes: Changes
    work: Path

    def __call__(self, student: Student, stage: str, epochs: int, rate: float) -> list[dict[str, float]]:
        run, recipe = self.run, self.run.record.recipe
        train = Windows(
            run.fold.train, run.record.labels, run.policy, seed=recipe.seed, augmentation=recipe.student.augmentation
        )
        task = Task(
            "INT8 distillation" if stage == "aware" else stage,
            collate_windows,
            schedule_of(epochs, rate),
            recipe.seed,
            self.work / f"{stage}-{_digest(run, self.changes, stage)}",
        )
        return recover(student, run.student, train, self.windows, task)


def _smaller(
    run: LoadedRun, changes: Changes, windows: Sequence[Pcm], progress: Progress
) -> tuple[Student, Plan, dict[str, Tensor]]:
    samples = run.policy.samples
    student, plan = prune(run.student, changes.prune, windows, samples, say=progress)
    kept: dict[str, Tensor] = {}
    if changes.sparsity == TWO_OF_FOUR:
        progress("2:4 sparsity: two of every four weights of the encoder's blocks become zero")
        kept = masks(student, windows)
        with masked(student, kept):
            pass
        plan = plan.model_copy(update={"sparsity": TWO_OF_FOUR})
    return student, plan, kept


def _digest(run: LoadedRun, changes: Changes, stage: str) -> str:
    """Return a digest of the run and of all changes up to a training."""
    facts = asdict(changes) | {"run": run.record.provenance.date, "fold": run.record.fold, "stage": stage}
    if stage == "recovery":
        del facts["qat_epochs"]
    facts["corpus"] = run.record.corpus.fingerprint
    return digest_of(facts, 12)
