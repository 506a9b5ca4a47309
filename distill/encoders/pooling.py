"""Hidden states to one vector an utterance: mean and deviation over time of chosen layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from distill.encoders.chunks import Past
from distill.encoders.interface import SpeechEncoder
from distill.encoders.time_reduction import halved_weights
from edge_runtime.engines.chunks import LEAD

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
    if inside is None and encoder.time_reduction:
        inside = torch.ones_like(states[0][:, :, 0])
    weights = [inside if which == "all" else loudness(pcm, inside, encoder) for which in frames]
    chosen = [encoder.normed(states[-1]) if layer == LAST else states[layer] for layer in layers]
    parts = [
        statistics(hidden, weight, deviation=deviation)
        for hidden, layer in zip(chosen, layers, strict=True)
        for weight in (_reduced(weight, encoder.halvings(layer)) for weight in weights)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _reduced(weight: Tensor | None, halvings: int) -> Tensor | None:
    if weight is not None:
        for _ in range(halvings):
            weight = halved_weights(weight)
    return weight


def pool_next(
    encoder: SpeechEncoder, pcm: Tensor, past: Past, layers: Sequence[int], frames: Sequence[str]
) -> tuple[Tensor, Past]:
    """Encode the next chunk of one waveform, and return the means ``[1, D]`` of `pool` over all chunks so far.

    Args:
        encoder: that encodes in chunks.
        pcm: as for `SpeechEncoder.next_chunk`.
        past: of the chunks before it.
        layers: as for `pool`.
        frames: as for `pool`.
    """
    states, past = encoder.next_chunk(pcm, past)
    decibels = _frame_decibels(pcm, None, encoder)
    top = torch.maximum(past.loud, decibels.amax(dim=1, keepdim=True))
    each = torch.stack(
        [torch.ones_like(decibels) if which == "all" else _loud(decibels, top) for which in frames], dim=1
    )
    chosen = torch.stack([encoder.normed(states[-1]) if layer == LAST else states[layer] for layer in layers], dim=1)
    # ``[1, L, F, H]``, as `pool` puts them side by side.
    sums = past.sums + (each.unsqueeze(1) @ chosen).flatten(1)
    weights = past.weights + each.sum(dim=2)
    share = weights.clamp(min=1e-6).reciprocal()[:, None, :, None]
    means = (sums.view(1, len(layers), len(frames), -1) * share).flatten(1)
    return means, past._replace(loud=top, weights=weights, sums=sums)


def loudness(pcm: Tensor, inside: Tensor | None, encoder: SpeechEncoder) -> Tensor:
    """Return how loud each frame is beside the loudest one of its waveform, ``[B, T]``, from 0 to 1.

    Args:
        pcm: ``[B, S]``.
        inside: ``[B, T]``, 1 for frames inside the waveforms and 0 for others; all inside if not given.
        encoder: with the samples of a frame and of a hop.
    """
    chunk = encoder.chunk_samples
    if chunk:
        pcm = functional.pad(pcm, (LEAD, -pcm.shape[1] % chunk))
    decibels = _frame_decibels(pcm, inside, encoder)
    if chunk:
        each = decibels.view(len(pcm), -1, chunk // encoder.hop_samples)
        # The loudest frame so far: a chunk does not depend on later ones.
        top = each.amax(dim=2, keepdim=True).cummax(dim=1).values.expand_as(each).reshape(decibels.shape)
    else:
        top = decibels.amax(dim=1, keepdim=True)
    loud = _loud(decibels, top)
    return loud if inside is None else loud * inside


def _frame_decibels(pcm: Tensor, inside: Tensor | None, encoder: SpeechEncoder) -> Tensor:
    power = _frame_means(pcm * pcm, encoder.frame_samples, encoder.hop_samples)
    if inside is not None:
        power = power * inside
    # Clamped, not added to: the ONNX exporter drops addends under 2e-8, and silence then gives NaN.
    return 10.0 * torch.log10(power.clamp(min=1e-10))


def _loud(decibels: Tensor, top: Tensor) -> Tensor:
    return torch.sigmoid((decibels - top + LOUD_DB) / _SLOPE_DB)


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
