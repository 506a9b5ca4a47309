"""The loss of model reduction: a reduced model is trained to match the outputs of the original model.

Of an encoder, hidden states and statistics are compared: that is all for `[student.pruning]`, where nothing has been
fitted to the statistics yet (`EncoderMatching`). Of a trained student, the embeddings of its branches, its logits and,
with a small weight, the labels are compared as well: after ``edgeemo export --prune`` and under simulated INT8
(`StudentMatching`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.encoders.interface import SpeechEncoder
from distill.encoders.pooling import pool_states
from distill.student import Student
from distill.training.losses import distribution_loss, embedding_loss

LARGEST_ERROR = 5.0
"""Clip for states and errors of an encoder, in deviations: in single frames they are a hundred times larger."""
LABELS = 0.1
"""Weight of the cross-entropy with the labels; all other parts of the loss weigh 1."""
TEMPERATURE = 2.0
"""Softens the class distributions of both students."""


class EncoderMatching(nn.Module):
    """Loss of the distillation of an encoder: the teacher's hidden states and statistics, no labels.

    A teacher layer that the reduced encoder has too is compared with its own. A linear map from the last hidden state,
    which is used here only, gives those of deeper layers, since what a student is fitted to later are linear functions
    of means. States and statistics are compared in units of their deviation.

    Args:
        reduced: the encoder to train.
        layers: of the teacher, in the order of its states.
        frames: over which frames statistics are taken.
        mean: ``[D]`` of each state of the teacher layers, over frames.
        deviation: ``[D]``, the same.
        spread: ``[D]`` deviation of the means over time, over utterances.
    """

    mean: Tensor
    deviation: Tensor
    spread: Tensor

    def __init__(
        self,
        reduced: SpeechEncoder,
        layers: Sequence[int],
        frames: Sequence[str],
        mean: Tensor,
        deviation: Tensor,
        spread: Tensor,
    ) -> None:
        super().__init__()
        self.reduced = reduced
        self._layers, self._frames = list(layers), list(frames)
        deeper = sum(layer > reduced.depth for layer in layers)
        self.to_deeper = nn.Linear(reduced.hidden_size, deeper * reduced.hidden_size) if deeper else None
        if self.to_deeper is not None:
            nn.init.zeros_(self.to_deeper.weight)
            nn.init.zeros_(self.to_deeper.bias)
        deviation = deviation.clamp(min=1e-4)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.register_buffer("spread", (spread / deviation).clamp(min=1e-3), persistent=False)

    def forward(
        self, labels: Tensor, pcm: Tensor, lengths: Tensor, states: Tensor, statistics: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss on a batch; ``labels`` are not used, and the first states stand in for logits.

        Args:
            labels: ``[B]``.
            pcm: ``[B, S]`` degraded waveforms.
            lengths: ``[B]`` samples of each.
            states: ``[B, T, D]`` of the teacher, on the clean waveforms.
            statistics: ``[B, F D]`` of the teacher: for each teacher layer, over each choice of frames, its means.
        """
        found, valid = self.reduced(pcm, lengths)
        assert valid is not None
        count = min(found[-1].shape[1], states.shape[1])
        predicted = self._of_teacher(found)
        inside = valid[:, :count].to(pcm.dtype)
        wanted = ((states[:, :count] - self.mean) / self.deviation).clamp(-LARGEST_ERROR, LARGEST_ERROR)
        error = (predicted[:, :count] - wanted).square().mean(dim=2)
        loss = (error * inside).sum() / inside.sum()
        choices = len(self._frames)
        size = self.reduced.hidden_size
        pooled = pool_states(self.reduced, [predicted], valid, pcm, [0], self._frames, deviation=False)
        # Of all layers over one choice of frames, then the next; the teacher's are layer by layer.
        pooled = pooled.view(len(pcm), choices, -1, size).transpose(1, 2)
        each = (statistics.view(len(pcm), -1, choices, size) - self.mean.view(-1, 1, size)) / self.deviation.view(
            -1, 1, size
        )
        apart = ((pooled - each) / self.spread.view(-1, 1, size)).clamp(-LARGEST_ERROR, LARGEST_ERROR)
        return {"loss": loss + apart.square().mean(), "logits": predicted[:, 0]}

    def _of_teacher(self, states: Sequence[Tensor]) -> Tensor:
        """Return ``[B, T, D]``, standardised hidden states of all teacher layers, side by side."""
        size = self.reduced.hidden_size
        deeper = [] if self.to_deeper is None else list(self.to_deeper(states[-1]).split(size, dim=2))
        each = []
        for layer, mean, deviation in zip(self._layers, self.mean.split(size), self.deviation.split(size), strict=True):
            each.append((states[layer] - mean) / deviation if layer < len(states) else deeper.pop(0))
        return torch.cat(each, dim=2)


class StudentMatching(nn.Module):
    """Loss of a reduced student: statistics, hidden states, embeddings, logits, and labels with the weight `LABELS`.

    Args:
        student: the student to train.
        original: the student before the reduction.
        deviation: ``[D]`` of each statistic of the original student, over training windows.
    """

    deviation: Tensor

    def __init__(self, student: Student, original: Student, deviation: Tensor) -> None:
        super().__init__()
        self.student = student
        self._original = _outside(original)
        self.register_buffer("deviation", deviation.clamp(min=1e-4), persistent=False)

    def forward(self, labels: Tensor, pcm: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the loss on a batch, and the logits. Hidden states of padding count as well."""
        original = self._original[0].to(pcm.device)
        with _hidden_states(original) as wanted_states, torch.no_grad():
            wanted = original(pcm, lengths)
        with _hidden_states(self.student) as states:
            # With the speaker mean given, or the student would replace the original's by the running mean of training.
            output = self.student(pcm, lengths, reference=self.student.reference)
        loss = distribution_loss(output.logits, wanted.logits, TEMPERATURE)
        loss = loss + LABELS * functional.cross_entropy(output.logits, labels)
        loss = loss + statistics_distance(output.statistics, wanted.statistics, self.deviation)
        loss = loss + hidden_distance(states[0][1:], wanted_states[0][1:])
        branches = list(self.student.branches)
        for name in branches:
            loss = loss + embedding_loss(output.embeddings[name], wanted.embeddings[name]) / len(branches)
        return {"loss": loss, "logits": output.logits}


def statistics_distance(statistics: Tensor, wanted: Tensor, deviation: Tensor) -> Tensor:
    """Return the mean squared error of statistics ``[B, D]`` in units of their deviation.

    Args:
        statistics: of the reduced model.
        wanted: of the original model.
        deviation: ``[D]``.
    """
    return ((statistics - wanted) / deviation).square().mean()


def hidden_distance(states: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the squared error of hidden states over the variance of those wanted, mean over layers.

    Args:
        states: of the reduced model, a layer each, ``[B, T, H]``.
        wanted: of the original model.
    """
    each = []
    for now, was in zip(states, wanted, strict=True):
        size = (was - was.mean(dim=(0, 1))).square().sum()
        each.append((now - was).square().sum() / size.clamp(min=1e-8))
    return torch.stack(each).mean()


def _outside(original: Any) -> list[Any]:
    """Return the frozen original in a list: as a submodule it would be in checkpoints and in the optimiser."""
    return [original.eval().requires_grad_(False)]


@contextmanager
def _hidden_states(student: Student) -> Iterator[list[list[Tensor]]]:
    """Collect the hidden states that a student's encoder computes while the block runs."""
    found: list[list[Tensor]] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output[0])

    hook = student.encoder.register_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()
