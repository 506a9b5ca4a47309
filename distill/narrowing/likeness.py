"""What a narrow encoder learns from: to give the hidden states and the statistics that the wide one gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distill.encoders.interface import SpeechEncoder
from distill.encoders.pooling import pool_states

MOST = 5.0
"""Errors of a statistic count no more than those of so many deviations: single frames stand out a hundredfold."""


class Likeness(nn.Module):
    """A narrow encoder and the wide one, its teacher. There is no label in it.

    Args:
        narrow: learns.
        wide: teaches; the same input to the first block, and as many blocks.
        layers: the pooled layers.
        frames: over which frames statistics are taken.
        deviation: ``[D]`` of each statistic of the wide encoder, over training utterances.
    """

    deviation: Tensor

    def __init__(
        self,
        narrow: SpeechEncoder,
        wide: SpeechEncoder,
        layers: Sequence[int],
        frames: Sequence[str],
        deviation: Tensor,
    ) -> None:
        super().__init__()
        self.narrow = narrow
        # In a list, so that checkpoints and the optimiser do not hold it.
        self._wide = [wide.eval().requires_grad_(False)]
        self._layers, self._frames = list(layers), list(frames)
        self.register_buffer("deviation", deviation.clamp(min=1e-4), persistent=False)

    def forward(self, labels: Tensor, pcm: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the loss on a batch; ``labels`` only say how many utterances it holds."""
        wide = self._wide[0].to(pcm.device)
        with torch.no_grad():
            wanted, valid = wide(pcm, lengths)
            wanted_statistics = pool_states(wide, wanted, valid, pcm, self._layers, self._frames)
        states, _ = self.narrow(pcm, lengths)
        statistics = pool_states(self.narrow, states, valid, pcm, self._layers, self._frames)
        error = ((statistics - wanted_statistics) / self.deviation).clamp(-MOST, MOST)
        assert valid is not None
        loss = error.square().mean() + hidden_distance(states[1:], wanted[1:], valid)
        return {"loss": loss, "logits": statistics[:, :1]}


def hidden_distance(states: Sequence[Tensor], wanted: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
    """Return the squared error of hidden states over their squared size about their mean, mean over layers.

    Args:
        states: of the student that learns, a layer each, ``[batch, frames, width]``.
        wanted: of the student that it is to be like.
        valid: ``[batch, frames]``, 1 where there is sound and 0 where there is padding; sound everywhere if not given.
    """
    valid = torch.ones(states[0].shape[:2], device=states[0].device) if valid is None else valid
    inside = valid.unsqueeze(2).to(states[0].dtype)
    each = []
    for now, was in zip(states, wanted, strict=True):
        mean = (was * inside).sum(dim=(0, 1)) / inside.sum()
        size = ((was - mean).square() * inside).sum()
        each.append(((now - was).square() * inside).sum() / size.clamp(min=1e-8))
    return torch.stack(each).mean()
