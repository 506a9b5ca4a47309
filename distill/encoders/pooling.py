"""Hidden states to one vector an utterance: mean and deviation over time of chosen layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from distill.encoders.interface import SpeechEncoder

LAST = -1
"""The output of the last block through the encoder's final norm; 0 and up are raw hidden states."""


LOUD_DB = 20.0
"""How far under the loudest frame of a waveform, in dB, a frame counts half as loud."""
_SLOPE_DB = 3.0


def pooled_size(
    encoder: SpeechEncoder, layers: Sequence[int], frames: Sequence[str] = ("all",), *, deviation: bool = True
) -> int:
    """Return D, the number of statistics."""
    return (2 if deviation else 1) * encoder.hidden_size * len(layers) * len(frames)


def pool(
    encoder: SpeechEncoder,
    pcm: Tensor,
    lengths: Tensor | None,
    layers: Sequence[int],
    frames: Sequence[str] = ("all",),
    *,
    deviation: bool = True,
) -> Tensor:
    """Encode waveforms and return ``[B, D]``: for each layer, over each choice of frames, its mean (and deviation).

    Args:
        encoder: any family.
        pcm: ``[B, S]``.
        lengths: ``[B]`` samples of each waveform; all ``S`` if not given.
        layers: 0 is the input of the first block, i the output of block i, both raw; `LAST` the final output.
        frames: ``all``, or ``loud``, which leaves pauses out softly: a recording's share of silence does not depend on
            its emotion, and shifts every mean over all frames.
        deviation: take the deviations too, not the means alone.
    """
    states, valid = encoder(pcm, lengths)
    return pool_states(encoder, states, valid, pcm, layers, frames, deviation=deviation)


def pool_states(
    encoder: SpeechEncoder,
    states: Sequence[Tensor],
    valid: Tensor | None,
    pcm: Tensor,
    layers: Sequence[int],
    frames: Sequence[str] = ("all",),
    *,
    deviation: bool = True,
) -> Tensor:
    """Return what `pool` does, of hidden states that are known already.

    Args:
        encoder: that computed them.
        states: ``[B, T, H]`` each.
        valid: ``[B, T]`` which frames lie inside the waveforms; all if not given.
        pcm: ``[B, S]``.
        layers: as for `pool`.
        frames: as for `pool`.
        deviation: as for `pool`.
    """
    inside = None if valid is None else valid.to(pcm.dtype)
    weights = [inside if which == "all" else loudness(pcm, inside, encoder) for which in frames]
    chosen = [encoder.normed(states[-1]) if layer == LAST else states[layer] for layer in layers]
    parts = [statistics(hidden, weight, deviation=deviation) for hidden in chosen for weight in weights]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def loudness(pcm: Tensor, inside: Tensor | None, encoder: SpeechEncoder) -> Tensor:
    """Return how loud each frame is beside the loudest one of its waveform, ``[B, T]``, from 0 to 1.

    Args:
        pcm: ``[B, S]``.
        inside: ``[B, T]``, 1 for frames inside the waveforms and 0 for others; all inside if not given.
        encoder: with the samples of a frame and of a hop.
    """
    power = _frame_means(pcm * pcm, encoder.frame_samples, encoder.hop_samples)
    if inside is not None:
        power = power * inside
    # Clamped, not added to: the ONNX exporter drops addends under 2e-8, and silence then gives NaN.
    decibels = 10.0 * torch.log10(power.clamp(min=1e-10))
    loud = torch.sigmoid((decibels - decibels.amax(dim=1, keepdim=True) + LOUD_DB) / _SLOPE_DB)
    return loud if inside is None else loud * inside


def _frame_means(samples: Tensor, size: int, hop: int) -> Tensor:
    """Return the means of frames of ``size`` samples, ``[B, S]`` to ``[B, T]``.

    Of the means of pieces that frames share, each read once.
    """
    piece = math.gcd(size, hop)
    whole = samples[:, : samples.shape[1] // piece * piece]
    means = whole.reshape(samples.shape[0], -1, piece).mean(dim=2)
    return functional.avg_pool1d(means.unsqueeze(1), size // piece, hop // piece).squeeze(1)


def statistics(hidden: Tensor, weight: Tensor | None, *, deviation: bool = True) -> Tensor:
    """Return mean and standard deviation over time, ``[B, T, H]`` to ``[B, 2H]``; the mean alone, ``[B, H]``.

    Args:
        hidden: hidden states.
        weight: ``[B, T]`` how much each frame counts; all alike if not given.
        deviation: return both.
    """
    if weight is None:
        weight = torch.ones_like(hidden[:, :, 0])
    # A waveform too short for a single frame gives zeros, not NaN.
    share = (weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)).unsqueeze(1)
    # Sums over time as matrix products and squares as products: a third of the time of sums and powers in ONNX Runtime.
    mean = share @ hidden
    if not deviation:
        return mean.squeeze(1)
    apart = hidden - mean
    variance = share @ (apart * apart)
    return torch.cat([mean, torch.sqrt(variance + 1e-5)], dim=2).squeeze(1)
