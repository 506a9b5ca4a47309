"""One training loop for teachers and student: Hugging Face Trainer, with checkpoints, resume and early stopping.

Several processes give what one process gives, up to the rounding of sums: batches and random crops do not depend on
their number, and gradients are means over utterances. Dropout masks cannot be equal, so that holds to the digit for
models without dropout only.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn
from torch.utils.data import DataLoader, Dataset
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

from distill.evaluation.metrics import Floats, unweighted_accuracy
from distill.recipe import Schedule
from distill.speech.batch_order import BatchOrder
from distill.training import processes
from distill.training.outputs import weight_key
from edge_runtime.console import advance, console, progress_bar
from edge_runtime.decision import softmax
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.files import TAKEN_IN_PART

Batch = dict[str, Any]
WARMUP = 0.1
"""Share of all steps in which the learning rate rises to its peak."""
Collate = Callable[[list[Any]], Batch]


@dataclass(frozen=True)
class Task:
    """The training of one model, for `fit`.

    Attributes:
        title: how progress names it.
        collate: makes a batch of dataset items; a batch has ``labels`` ``[B]``.
        schedule: how it is optimised.
        seed: seed of initialisation order, dropout and batch order.
        folder: where checkpoints go; the caller removes it when it has kept what came of the training.
        shared: several processes share each batch out. Otherwise each computes all of it: what batch norms then see,
            and the dropout masks, do not depend on the number of processes.
        chances: how often each training utterance is drawn, up to a factor; each once an epoch if not given.
        lengths: of the training utterances, where batches are to have little padding.
    """

    title: str
    collate: Collate
    schedule: Schedule
    seed: int
    folder: Path
    shared: bool = True
    chances: Floats | None = None
    lengths: Floats | None = None


class _Progress(TrainerCallback):
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
        if not math.isfinite(scores["eval_cross_entropy"]):
            raise EdgeemoError(
                f"{self._title}: what it gives is not a number any more after epoch {round(state.epoch or 0)}, since "
                "its steps were too long; lower its training.learning_rate in the recipe"
            )
        console.print(
            f"  {self._title}: epoch {round(state.epoch or 0)}/{math.ceil(args.num_train_epochs)}"
            f"  validation loss {scores['eval_cross_entropy']:.3f}  UA {scores['eval_ua']:.3f}"
        )


class _Epochs(TrainerCallback):
    """Sets the epoch of order and data, on which all that they draw depends."""

    def __init__(self, order: BatchOrder, train: Dataset[Any]) -> None:
        self._order = order
        self._train = train

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Not from the share of an epoch, which is a rounded fraction.
        epoch = state.global_step // len(self._order)
        self._order.epoch = epoch
        if hasattr(self._train, "set_epoch"):
            self._train.set_epoch(epoch)


class _SharedTrainer(Trainer):
    """A Trainer whose batches are those of one process, each process computing its share."""

    order: BatchOrder

    def get_train_dataloader(self) -> DataLoader[Any]:
        # Not through Accelerate, which fills up the last batches with utterances of the first ones.
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.order,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            loss = loss * processes.weight_of_share(len(inputs["labels"]), loss.device)
        return (loss, outputs) if return_outputs else loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        # torch.save gives RuntimeError where the disk is full.
        except (OSError, RuntimeError, SafetensorError) as error:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise EdgeemoError(
                f"{folder}: the checkpoint cannot be written ({reason(error)}); make room, and give the same command "
                "again to go on from the one before"
            ) from error


def reason(error: Exception) -> str:
    """Return in a few words why something could not be written; libraries wrap the system's message in many more."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return TAKEN_IN_PART if type(error) is RuntimeError else str(error).partition("\n")[0]


def share_of(schedule: Schedule, where: str) -> int:
    """Return how many utterances of a batch each process computes.

    Raises:
        WrongUseError: the processes cannot share a batch evenly.
    """
    count = processes.count()
    if schedule.batch_size % count:
        raise WrongUseError(
            f"{where}.batch_size: {schedule.batch_size} utterances cannot be shared evenly by {count} processes; "
            "start a number of processes that divides it, or set another batch size"
        )
    return schedule.batch_size // count


def fit(model: nn.Module, train: Dataset[Any], validation: Dataset[Any] | None, task: Task) -> list[dict[str, float]]:
    """Train a model in place and leave it with the weights that its schedule keeps: the best on validation or the last.

    A run that was stopped goes on from the last checkpoint in ``task.folder`` and gives what an unbroken run gives.

    Args:
        model: its forward takes a batch and returns a dictionary with ``loss`` (scalar) and ``logits`` ``[B, C]``.
        train: training utterances.
        validation: utterances of other speakers, on which the best epoch is chosen; none where the last is kept.
        task: schedule, seed and places.

    Returns:
        One dictionary an epoch: ``epoch``, ``loss``, ``validation_loss``, ``validation_ua``; with weighted teachers
        also ``weight_L_M``, the mean weight of teacher M for validation utterances in the language of teacher L.

    Raises:
        EdgeemoError: a checkpoint cannot be written, or the loss is not a number any more.
    """
    # One answer for all processes, before the first of them writes here.
    last = processes.by_first(lambda: _last_checkpoint(task.folder))
    if last is not None:
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]:
            # It was stopped after training had ended; the Trainer would begin another epoch.
            best = state.best_model_checkpoint if task.schedule.keep == "best" else None
            load_model(model, str(Path(best or last) / "model.safetensors"))
            return _history(state.log_history)
    with progress_bar(task.title, total=1) as bar:
        trainer = _trainer(model, task, train, validation)
        trainer.add_callback(_Progress(task.title, bar))
        if task.schedule.keep == "best":
            trainer.add_callback(EarlyStoppingCallback(task.schedule.patience))
        if processes.rank() > 0 and task.shared:
            # Other utterances need other dropout masks.
            torch.manual_seed(task.seed + 1_000_003 * processes.rank())
        # Only logits decide; embeddings of all validation utterances would lie in memory.
        trainer.train(resume_from_checkpoint=str(last) if last else None, ignore_keys_for_eval=["embedding"])
    return _history(trainer.state.log_history)


def predict(
    model: nn.Module, items: Dataset[Any], collate: Collate, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the model's outputs for the items, batch by batch: each key but the loss, ``[B, ...]``."""
    model.eval()
    device = next(model.parameters()).device
    count = len(items)  # type: ignore[arg-type]
    with torch.inference_mode():
        for start in range(0, count, batch_size):
            batch = collate([items[i] for i in range(start, min(count, start + batch_size))])
            output = model(**{key: value.to(device) for key, value in batch.items()})
            yield {key: value.cpu().numpy() for key, value in output.items() if key != "loss"}


def _trainer(model: nn.Module, task: Task, train: Dataset[Any], validation: Dataset[Any] | None) -> Trainer:
    schedule = task.schedule
    best = schedule.keep == "best"
    share = max(1, schedule.batch_size // processes.count())
    arguments = TrainingArguments(
        # Absolute, since the Trainer notes the best checkpoint by path and a resume may come from elsewhere.
        output_dir=str(task.folder.resolve()),
        restore_callback_states_from_checkpoint=True,
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=share,
        per_device_eval_batch_size=share,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        warmup_steps=WARMUP,
        lr_scheduler_type="cosine",
        eval_strategy="no" if validation is None else "epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=best,
        metric_for_best_model="ua" if best else None,
        greater_is_better=True if best else None,
        seed=task.seed,
        data_seed=task.seed,
        use_cpu=processes.on_cpu(),
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        # Encoders have parameters that only their pretraining used.
        ddp_find_unused_parameters=True,
    )
    # One process takes one GPU; the Trainer would spread it over all of them, with as many times the batch.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = _SharedTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=task.collate,
        compute_metrics=_validation_scores,
    )
    part = (processes.rank(), processes.count()) if task.shared else (0, 1)
    size = len(train)  # type: ignore[arg-type]
    trainer.order = BatchOrder(size, schedule.batch_size, task.seed, *part, weights=task.chances, lengths=task.lengths)
    trainer.add_callback(_Epochs(trainer.order, train))
    # It prints to standard output, which carries data only.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; the Trainer writes its state last, so one without it was cut short."""
    states = [path for path in folder.resolve().glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max((state.parent for state in states), key=lambda path: int(path.name.partition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _validation_scores(prediction: EvalPrediction) -> dict[str, float]:
    """Return UA and mean cross-entropy; the Trainer's own loss counts what fills up the last batch of each process."""
    several = isinstance(prediction.predictions, tuple)
    logits, *more = prediction.predictions if several else (prediction.predictions,)
    logits, truth = np.asarray(logits), np.asarray(prediction.label_ids)
    likelihood = softmax(logits)[np.arange(len(truth)), truth]
    return {
        "ua": unweighted_accuracy(truth, logits.argmax(axis=1)),
        "cross_entropy": float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean()),
        **(_teacher_weights(*more) if len(more) == 2 else {}),
    }


def _teacher_weights(weights: Floats, own: Floats) -> dict[str, float]:
    """Return the mean weight of each monolingual teacher for each language that has one, by their numbers."""
    return {
        weight_key(language, teacher): float(value)
        for language in range(weights.shape[1])
        if (own == language).any()
        for teacher, value in enumerate(weights[own == language].mean(axis=0))
    }


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    epochs: dict[int, dict[str, float]] = {}
    names = {"loss": "loss", "eval_cross_entropy": "validation_loss", "eval_ua": "validation_ua"}
    for entry in log:
        row = epochs.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])})
        row.update({names[key]: value for key, value in entry.items() if key in names})
        row.update({key[5:]: value for key, value in entry.items() if key.startswith("eval_weight_")})
    return [epochs[epoch] for epoch in sorted(epochs)]
