"""Time reduction: the mean of each two neighbouring frames goes on, so that later blocks do half the work.

Neighbouring frames of 20 ms are alike after the first blocks, and only their mean and deviation over time are taken.
This is what speech recognisers train between layers (Squeezeformer, Kim et al. 2022) and what merging of tokens does in
trained models (Bolya et al. 2023; for speech, Li et al. 2023); here nothing is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def halved(hidden: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the means of neighbouring frames, ``[B, T, H]`` to ``[B, (T + 1) // 2, H]``; a last single frame stays.

    Args:
        hidden: hidden states.
        valid: ``[B, T]`` which frames lie inside the waveforms; all if not given.
    """
    # With one frame more, one cut serves even and odd lengths, and exported graphs have no condition.
    longer = torch.cat([hidden, hidden[:, -1:]], dim=1)
    first, second = longer[:, :-1:2], longer[:, 1::2]
    if valid is not None:
        second = torch.where(functional.pad(valid, (0, 1))[:, 1::2].unsqueeze(2), second, first)
    return (first + second) * 0.5


def halved_weights(weights: Tensor) -> Tensor:
    """Return how much each frame of `halved` counts: the sums of neighbouring weights, ``[B, T]``."""
    longer = functional.pad(weights, (0, 1))
    return longer[:, :-1:2] + longer[:, 1::2]


def count_after(frames: int, times: int) -> int:
    """Return how many frames are left when their number was halved so many times."""
    for _ in range(times):
        frames = (frames + 1) // 2
    return frames
