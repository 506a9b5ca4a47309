"""One training loop for teachers and student: Hugging Face Trainer, with checkpoints, resume and early stopping."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from distill.metrics import unweighted_accuracy
from distill.recipe import Schedule
from edge_runtime.console import advance, console, progress_bar

Batch = dict[str, Any]
Collate = Callable[[list[Any]], Batch]


@dataclass(frozen=True)
class Task:
    """What `fit` and `predict` need to know of one model.

    Attributes:
        title: how progress names it.
        collate: makes a batch of dataset items; a batch has ``labels`` ``[B]``.
        schedule: how it is optimised.
        seed: seed of initialisation order, dropout and batch order.
        folder: where checkpoints go; emptied when training is done.
    """

    title: str
    collate: Collate
    schedule: Schedule
    seed: int
    folder: Path


class _Narrator(TrainerCallback):
    """Shows progress on the error stream: a bar while steps run, a line when an epoch is done."""

    def __init__(self, title: str, bar: Any) -> None:
        self._title = title
        self._bar = bar

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar.update(self._bar.task_ids[0], total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        advance(self._bar)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        scores = kwargs["metrics"]
        console.print(
            f"  {self._title}: epoch {round(state.epoch or 0)}/{math.ceil(args.num_train_epochs)}"
            f"  validation loss {scores['eval_loss']:.3f}  UA {scores['eval_ua']:.3f}"
        )


def fit(model: nn.Module, train: Dataset[Any], validation: Dataset[Any], task: Task) -> list[dict[str, float]]:
    """Train a model in place and leave it with its best weights on validation (unweighted accuracy).

    A run that was stopped goes on from the last checkpoint in ``task.folder`` and gives what an unbroken run gives.

    Args:
        model: its forward takes a batch and returns a dictionary with ``loss`` (scalar) and ``logits`` ``[B, C]``.
        train: training utterances.
        validation: utterances of other speakers, for early stopping only.
        task: schedule, seed and places.

    Returns:
        One dictionary an epoch: ``epoch``, ``loss``, ``validation_loss``, ``validation_ua``.
    """
    with progress_bar(task.title, total=1) as bar:
        trainer = _trainer(model, task, train, validation)
        trainer.add_callback(_Narrator(task.title, bar))
        trainer.add_callback(EarlyStoppingCallback(task.schedule.patience))
        last = _last_checkpoint(task.folder)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    history = _history(trainer.state.log_history)
    shutil.rmtree(task.folder, ignore_errors=True)
    return history


def predict(model: nn.Module, items: Dataset[Any], task: Task) -> dict[str, np.ndarray]:
    """Return what the model gives for every item, stacked: each key of its output but the loss, ``[N, ...]``."""
    model.eval()
    device = next(model.parameters()).device
    rows: dict[str, list[np.ndarray]] = {}
    count = len(items)  # type: ignore[arg-type]
    with torch.inference_mode():
        for start in range(0, count, task.schedule.batch_size):
            batch = task.collate([items[i] for i in range(start, min(count, start + task.schedule.batch_size))])
            output = model(**{key: value.to(device) for key, value in batch.items()})
            for key, value in output.items():
                if key != "loss":
                    rows.setdefault(key, []).append(value.cpu().numpy())
    return {key: np.concatenate(values) for key, values in rows.items()}


def _trainer(model: nn.Module, task: Task, train: Dataset[Any], validation: Dataset[Any]) -> Trainer:
    schedule = task.schedule
    arguments = TrainingArguments(
        # Absolute, since the Trainer notes the best checkpoint by path and a resume may come from elsewhere.
        output_dir=str(task.folder.resolve()),
        restore_callback_states_from_checkpoint=True,
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=schedule.batch_size,
        per_device_eval_batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        warmup_steps=schedule.warmup,
        lr_scheduler_type="cosine",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="ua",
        greater_is_better=True,
        seed=task.seed,
        data_seed=task.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=task.collate,
        compute_metrics=_unweighted_accuracy,
    )
    # It prints to standard output, which carries data only.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; the Trainer writes its state last, so one without it was cut short."""
    states = folder.resolve().glob("checkpoint-*/trainer_state.json")
    return max((state.parent for state in states), key=lambda path: int(path.name.partition("-")[2]), default=None)


def _unweighted_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"ua": unweighted_accuracy(np.asarray(prediction.label_ids), np.asarray(logits).argmax(axis=1))}


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    names = {"loss": "loss", "eval_loss": "validation_loss", "eval_ua": "validation_ua"}
    for entry in log:
        row = epochs.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])})
        row.update({names[key]: value for key, value in entry.items() if key in names})
    return [epochs[epoch] for epoch in sorted(epochs)]
