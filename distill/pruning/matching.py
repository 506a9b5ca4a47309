"""The loss of model reduction: a reduced model is trained to match the outputs of the original model.

Of the encoder, hidden states and statistics are compared: that is all for `[student.pruning]`, where nothing has been
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
"""Clip for the error of a statistic of an encoder, in deviations: in single frames it is a hundred times larger."""
LABELS = 0.1
"""Weight of the cross-entropy with the labels; all other parts of the loss weigh 1."""
TEMPERATURE = 2.0
"""Softens the class distributions of both students."""


class EncoderMatching(nn.Module):
    """Loss of a reduced encoder: statistics and hidden states, no labels.

    Args:
        reduced: the encoder to train.
        original: takes the same input to its first block and has as many blocks.
        layers: the pooled layers.
        frames: over which frames statistics are taken.
        deviation: ``[D]`` of each statistic of the original encoder, over training utterances.
    """

    deviation: Tensor

    def __init__(
        self,
        reduced: SpeechEncoder,
        original: SpeechEncoder,
        layers: Sequence[int],
        frames: Sequence[str],
        deviation: Tensor,
    ) -> None:
        super().__init__()
        self.reduced = reduced
        self._original = _outside(original)
        self._layers, self._frames = list(layers), list(frames)
        self.register_buffer("deviation", deviation.clamp(min=1e-4), persistent=False)

    def forward(self, labels: Tensor, pcm: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the loss on a batch; ``labels`` are not used, and the first statistic stands in for logits."""
        original = self._original[0].to(pcm.device)
        with torch.no_grad():
            wanted, valid = original(pcm, lengths)
            wanted_statistics = pool_states(original, wanted, valid, pcm, self._layers, self._frames)
        states, _ = self.reduced(pcm, lengths)
        statistics = pool_states(self.reduced, states, valid, pcm, self._layers, self._frames)
        loss = statistics_distance(statistics, wanted_statistics, self.deviation, largest=LARGEST_ERROR)
        loss = loss + hidden_distance(states[1:], wanted[1:], valid)
        return {"loss": loss, "logits": statistics[:, :1]}


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
            loss = loss + embedding_loss(output[name], wanted[name]) / len(branches)
        return {"loss": loss, "logits": output.logits}


def statistics_distance(
    statistics: Tensor, wanted: Tensor, deviation: Tensor, *, largest: float | None = None
) -> Tensor:
    """Return the mean squared error of statistics ``[B, D]`` in units of their deviation.

    Args:
        statistics: of the reduced model.
        wanted: of the original model.
        deviation: ``[D]``.
        largest: errors are clipped to so many deviations; not at all if not given.
    """
    error = (statistics - wanted) / deviation
    if largest is not None:
        error = error.clamp(-largest, largest)
    return error.square().mean()


def hidden_distance(states: Sequence[Tensor], wanted: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
    """Return the squared error of hidden states over the variance of those wanted, mean over layers.

    Args:
        states: of the reduced model, a layer each, ``[B, T, H]``.
        wanted: of the original model.
        valid: ``[B, T]``, 1 inside the waveforms and 0 in padding; all frames count if not given.
    """
    valid = torch.ones(states[0].shape[:2], device=states[0].device) if valid is None else valid
    inside = valid.unsqueeze(2).to(states[0].dtype)
    each = []
    for now, was in zip(states, wanted, strict=True):
        mean = (was * inside).sum(dim=(0, 1)) / inside.sum()
        size = ((was - mean).square() * inside).sum()
        each.append(((now - was).square() * inside).sum() / size.clamp(min=1e-8))
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
