"""Hidden states to one vector an utterance: mean and deviation over time of chosen layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.encoders.interface import SpeechEncoder

LAST = -1
"""The output of the last block through the encoder's final norm; 0 and up are raw hidden states."""


def pooled_size(encoder: SpeechEncoder, layers: Sequence[int]) -> int:
    """Return D, the number of statistics."""
    return 2 * encoder.hidden_size * len(layers)


def pool(encoder: SpeechEncoder, pcm: Tensor, lengths: Tensor | None, layers: Sequence[int]) -> Tensor:
    """Encode waveforms and return ``[B, D]``: for each layer its mean, then its standard deviation over time.

    Args:
        encoder: any family.
        pcm: ``[B, S]``.
        lengths: ``[B]`` samples of each waveform; all ``S`` if not given.
        layers: 0 is the input of the first block, i the output of block i, both raw; `LAST` the final output.
    """
    states, valid = encoder(pcm, lengths)
    parts = [statistics(encoder.normed(states[-1]) if i == LAST else states[i], valid) for i in layers]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def statistics(hidden: Tensor, valid: Tensor | None) -> Tensor:
    """Return mean and standard deviation over valid time steps, ``[B, T, H]`` to ``[B, 2H]``."""
    if valid is None:
        mean = hidden.mean(dim=1)
        variance = (hidden - mean.unsqueeze(1)).square().mean(dim=1)
    else:
        weight = valid.unsqueeze(2).to(hidden.dtype)
        # A waveform too short for a single frame gives zeros, not NaN.
        count = weight.sum(dim=1).clamp(min=1)
        mean = (hidden * weight).sum(dim=1) / count
        variance = ((hidden - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    return torch.cat([mean, torch.sqrt(variance + 1e-5)], dim=1)
