"""The prosodic teacher: a small residual network over eGeMAPS low-level descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from distill.recipe import ProsodicTeacher
from distill.teachers.egemaps import DESCRIPTORS, PROSODY
from distill.training.loop import Batch


class _Block(nn.Module):
    """Two convolutions over time with a shortcut (He et al. 2016), in one dimension."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm1d(outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Conv1d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ProsodyResNet(nn.Module):
    """Residual network over standardised descriptors, mean and deviation over time, embedding, classifier.

    Args:
        recipe: widths, embedding size, dropout.
        classes: number of emotions.
        mean: ``[25]`` training mean of each descriptor.
        deviation: ``[25]`` training standard deviation.
    """

    def __init__(self, recipe: ProsodicTeacher, classes: int, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        chosen = PROSODY if recipe.descriptors == "prosody" else DESCRIPTORS
        self._columns = [DESCRIPTORS.index(name) for name in chosen]
        widths = recipe.channels
        self.stem = nn.Conv1d(len(chosen), widths[0], 5, padding=2)
        self.blocks = nn.ModuleList(
            _Block(before, after, stride=1 if number == 0 else 2)
            for number, (before, after) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.embedding_size = recipe.embedding_size
        self.embed = nn.Linear(2 * widths[-1], recipe.embedding_size)
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Dropout(recipe.dropout), nn.Linear(recipe.embedding_size, classes)
        )

    def forward(self, descriptors: Tensor, lengths: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Score ``[B, T, 25]`` descriptors with ``lengths`` ``[B]``; gives loss, logits, embedding ``[B, E]``."""
        x = ((descriptors - self.mean) / self.deviation)[:, :, self._columns].transpose(1, 2)
        valid = _valid(lengths, x.shape[2])
        x = self.stem(x * valid)
        for block in self.blocks:
            x = block(x * valid)
            lengths = lengths if x.shape[2] == valid.shape[2] else (lengths + 1) // 2
            valid = _valid(lengths, x.shape[2])
        count = lengths[:, None]
        mean = (x * valid).sum(dim=2) / count
        spread = torch.sqrt(((x - mean[:, :, None]).square() * valid).sum(dim=2) / count + 1e-5)
        embedding = self.embed(torch.cat([mean, spread], dim=1))
        logits = self.classifier(embedding)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits, "embedding": embedding}


def _valid(lengths: Tensor, frames: int) -> Tensor:
    inside = torch.arange(frames, device=lengths.device) < lengths[:, None]
    return inside[:, None, :].to(torch.float32)


class Descriptors(Dataset[tuple[np.ndarray, int]]):
    """Descriptor matrices ``[T, 25]`` on disk, with labels as class indices."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self._paths = list(paths)
        self._labels = list(labels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.load(self._paths[index]), self._labels[index]

    def standardisation(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation ``[25]`` over all frames."""
        total, squares, count = np.zeros(len(DESCRIPTORS)), np.zeros(len(DESCRIPTORS)), 0
        for path in self._paths:
            matrix = np.load(path).astype(np.float64)
            total += matrix.sum(axis=0)
            squares += np.square(matrix).sum(axis=0)
            count += len(matrix)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
        return torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)


def collate_descriptors(items: list[tuple[np.ndarray, int]]) -> Batch:
    """Return ``descriptors`` ``[B, T, 25]`` padded with zeros, ``lengths`` and ``labels`` ``[B]``."""
    lengths = torch.tensor([len(matrix) for matrix, _ in items])
    batch = torch.zeros(len(items), int(lengths.max()), len(DESCRIPTORS))
    for row, (matrix, _) in zip(batch, items, strict=True):
        row[: len(matrix)] = torch.from_numpy(matrix)
    return {"descriptors": batch, "lengths": lengths, "labels": torch.tensor([label for _, label in items])}
