"""Scale migration (SmoothQuant, Xiao et al. 2023): outliers go from activations into the weights that read them.

A norm in front of linear layers is divided, channel by channel, by ``s = max|x|^a / max|W|^(1-a)``, and the layers'
weights are multiplied by it: in float nothing changes; in INT8 one channel no longer makes the step of all others
coarse. Only norms whose output has no other reader can be divided: those before attention and feed-forward part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.scoring import batches
from distill.student import Student
from edge_runtime.sources.audio import Pcm

STRENGTH = 0.5
"""a: half of the outliers' size moves into the weights."""


def smoothed(student: Student, windows: Sequence[Pcm], strength: float = STRENGTH) -> Student | None:
    """Return a copy of a student with scales moved from its norms into the layers behind them.

    ``strength`` is the share of an outlier that moves, 0 to 1. None if no norm can be divided, as in encoders with
    norms after the sums.
    """
    copied: Student = copy.deepcopy(student).eval()
    pairs = _pairs(copied)
    if not pairs:
        return None
    largest: dict[int, Tensor] = {}
    hooks = []
    for number, (norm, _) in enumerate(pairs):

        def watch(_: nn.Module, __: Any, output: Tensor, number: int = number) -> None:
            now = output.detach().abs().amax(dim=(0, 1))
            largest[number] = torch.maximum(largest[number], now) if number in largest else now

        hooks.append(norm.register_forward_hook(watch))
    with torch.inference_mode():
        for batch in batches(windows):
            copied(**batch)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for number, (norm, readers) in enumerate(pairs):
            weight = torch.stack([reader.weight.abs().amax(dim=0) for reader in readers]).amax(dim=0)
            scale = largest[number].clamp(min=1e-5) ** strength / weight.clamp(min=1e-5) ** (1.0 - strength)
            scale = scale / scale.log().mean().exp()
            norm.weight /= scale
            norm.bias /= scale
            for reader in readers:
                reader.weight *= scale
    return copied


def _pairs(student: Student) -> list[tuple[Any, list[nn.Linear]]]:
    pairs: list[tuple[Any, list[nn.Linear]]] = []
    for index in range(student.encoder.depth):
        block = student.encoder.block(index)
        if block.norm_first:
            attention = block.attention
            # WavLM's gated positions read the same normalised state, head by head.
            if not hasattr(attention, "gru_rel_pos_linear"):
                pairs.append((block.attention_norm, [attention.q_proj, attention.k_proj, attention.v_proj]))
            pairs.append((block.feed_forward_norm, [block.up]))
    return pairs
