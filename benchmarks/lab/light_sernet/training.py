"""Train Light-SERNet on one fold, with its published settings and early stopping.

Adam, batches of 32, an L2 penalty of 1e-6, a learning rate of 1e-4 for 50 epochs that then falls by ``exp(-0.15)``
every 20, cross-entropy, at most 300 epochs. In addition, the epoch with the best unweighted accuracy on validation
speakers is kept, and training ends after `TrainingSettings.patience` epochs without improvement.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from benchmarks.lab.light_sernet.network import LightSerNet, mfcc, three_seconds, write_onnx
from benchmarks.lab.light_sernet.settings import TrainingSettings
from distill.caching.per_file import Matrix, extract_with
from distill.caching.source_digest import AUDIO, source_digest
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats, unweighted_accuracy
from distill.evaluation.predictions import PREDICTIONS, Predictions
from distill.folds import Fold
from distill.speech.batch_order import BatchOrder
from distill.training import processes
from edge_runtime.files import write_text
from edge_runtime.sources.audio import read_audio

FEATURE_SOURCES = (
    __name__,
    "benchmarks.lab.light_sernet.network",
    *AUDIO,
)
"""The code that the coefficients depend on: a change to it computes them again."""
NETWORK = "light-sernet.onnx"
"""The network of a fold, in the fold's directory."""
RECORD = "light-sernet.json"
_BATCH_OF_A_TEST = 64


class Trained(NamedTuple):
    """A network with the weights of its best epoch, in evaluation mode; the other fields as in `FoldRecord`."""

    network: LightSerNet
    epoch: int
    epochs: int
    validation_ua: float


class FoldRecord(BaseModel, extra="forbid"):
    """Content of ``fold-K/light-sernet.json``: settings and outcome of a training.

    Attributes:
        task: settings, seed, folds, fold and corpus; a fold with the same task is not trained again.
        epoch: the best one on validation speakers, from 1.
        epochs: number of trained epochs.
        validation_ua: unweighted accuracy on validation speakers in the best epoch.
        seconds: of training and testing.
    """

    task: dict[str, Any]
    epoch: int
    epochs: int
    validation_ua: float
    seconds: float


def extract_coefficients(
    paths: Sequence[Path], cache: Path, *, workers: int | None = None, progress: Callable[[], None] = lambda: None
) -> list[Path]:
    """Compute the MFCC of audio files, cached like those of `distill.teachers.egemaps.extract`.

    Returns:
        A path of a ``.npy`` file each, with float32 ``[COEFFICIENTS, FRAMES]``.

    Raises:
        EdgeemoError: a file cannot be read.
    """
    folder = cache / f"light-sernet-mfcc-{source_digest(*FEATURE_SOURCES)}"
    return extract_with(file_coefficients, paths, folder, workers=workers, progress=progress)


def file_coefficients(path: Path) -> Matrix:
    """Return the MFCC of one audio file, float32 ``[COEFFICIENTS, FRAMES]``."""
    return mfcc(three_seconds(read_audio(path)))


def run_fold(
    folder: Path,
    task: dict[str, Any],
    features: Floats,
    rows: dict[str, int],
    fold: Fold,
    labels: tuple[str, ...],
    settings: TrainingSettings,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> FoldRecord:
    """Train and test on one fold, and write predictions, network and record; a finished fold is not repeated.

    Args:
        folder: of the fold.
        task: identifies the training.
        features: ``[N, COEFFICIENTS, FRAMES]`` of the corpus.
        rows: row of each utterance, by its name.
        fold: training, validation and test parts.
        labels: class names.
        settings: of the training.
        say: receives a line of progress every tenth epoch.

    Raises:
        EdgeemoError: something cannot be written.
    """
    # As read back from JSON, where tuples are lists.
    task = json.loads(json.dumps(task))
    if (folder / RECORD).is_file():
        before = FoldRecord.model_validate_json((folder / RECORD).read_bytes())
        if before.task == task:
            return before
    began = time.monotonic()

    def tick(epoch: int, ua: float) -> None:
        if epoch % 10 == 0:
            say(f"{folder.name}, epoch {epoch}: validation UA {ua:.3f}, {time.monotonic() - began:.0f} s")

    trained = train(features, rows, fold, labels, settings, tick=tick)
    Predictions.of(test(trained.network, features, rows, fold, labels)).write(folder / PREDICTIONS)
    write_onnx(trained.network, folder / NETWORK)
    record = FoldRecord(
        task=task,
        epoch=trained.epoch,
        epochs=trained.epochs,
        validation_ua=trained.validation_ua,
        seconds=round(time.monotonic() - began, 1),
    )
    # Last, since a record marks a finished fold.
    write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")
    return record


def train(
    features: Floats,
    rows: dict[str, int],
    fold: Fold,
    labels: tuple[str, ...],
    settings: TrainingSettings,
    *,
    tick: Callable[[int, float], None] = lambda epoch, ua: None,
) -> Trained:
    """Train on the fold's training speakers and keep the epoch that is best on its validation speakers.

    Args:
        features: ``[N, COEFFICIENTS, FRAMES]`` of the corpus.
        rows: row of each utterance, by its name.
        fold: its training and validation parts.
        labels: class names.
        settings: of the training.
        tick: called with each epoch, from 1, and its unweighted accuracy on validation speakers.
    """
    processes.repeatable()
    device = torch.device("cpu" if processes.on_cpu() else "cuda")
    torch.manual_seed(settings.seed)
    inputs, truth = (each.to(device) for each in _tensors(features, rows, fold.train, labels))
    validation, expected = _tensors(features, rows, fold.validation, labels)
    network = LightSerNet(len(labels)).to(device)
    # torch's weight_decay adds l2 * w to the gradient; the gradient of l2 * w² is twice that.
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate, weight_decay=2 * settings.l2)
    order = BatchOrder(len(truth), settings.batch_size, settings.seed)
    best, best_epoch, kept, epoch = -1.0, 0, network.state_dict(), 0
    for epoch in range(1, settings.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(epoch - 1)
        order.epoch = epoch - 1
        network.train()
        for batch in order:
            loss = nn.functional.cross_entropy(network(inputs[batch]), truth[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        ua = unweighted_accuracy(expected.numpy(), probabilities(network, validation).argmax(axis=1))
        tick(epoch, ua)
        if ua > best:
            best, best_epoch = ua, epoch
            kept = {name: value.clone() for name, value in network.state_dict().items()}
        if epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(kept)
    return Trained(network.cpu().eval(), best_epoch, epoch, best)


def probabilities(network: LightSerNet, features: Tensor) -> Floats:
    """Return the probabilities ``[N, C]`` of MFCC ``[N, COEFFICIENTS, FRAMES]``."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network(part.to(device)).softmax(dim=1).cpu().numpy() for part in features.split(_BATCH_OF_A_TEST)]
    return np.concatenate(parts)


def test(
    network: LightSerNet, features: Floats, rows: dict[str, int], fold: Fold, labels: tuple[str, ...]
) -> Evaluation:
    """Return the decisions of a network on the fold's test part."""
    inputs, _ = _tensors(features, rows, fold.test, labels)
    return Evaluation(fold.test, labels, probabilities(network, inputs))


def _tensors(
    features: Floats, rows: dict[str, int], items: Sequence[Utterance], labels: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    chosen = features[[rows[item.name] for item in items]].astype(np.float32)
    return torch.from_numpy(chosen), torch.tensor([labels.index(item.emotion) for item in items])
