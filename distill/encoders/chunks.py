"""Waveforms in chunks: each second is encoded once, however many windows and utterances it belongs to.

A waveform is cut into chunks of equal length, from its first sample on. Attention and convolutions stay within a chunk.
Level, clamp of the log-mel and loudness depend on the waveform up to the end of the chunk, not on what follows, and a
mean over time is a sum over chunks. So a device adds a chunk to what it has, and the result is that of the
waveform as a whole (`Past`). The frames of a chunk begin `LEAD` samples before it, since those of a waveform overlap;
before the first chunk they are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill.encoders.frontend import FRAME, HOP
from edge_runtime.engines.chunks import LEAD, REST

assert (LEAD, REST) == (FRAME - HOP, 5 * HOP), "the runtime cuts chunks for frames of another kind"
_TOP_OFFSET, _LOUD_OFFSET = 20.0, 200.0
"""Added to logarithms in a `Past`, so that zeros stand for less than the faintest sound."""


class Rows(NamedTuple):
    """Chunks of a batch of waveforms.

    Attributes:
        pcm: ``[B, n, LEAD + chunk]``, with zeros after the end of a waveform.
        samples: ``[B, n]`` new samples of each chunk; 0 for one that is left out.
    """

    pcm: Tensor
    samples: Tensor


def rows_of(pcm: Tensor, lengths: Tensor, chunk: int) -> Rows:
    """Cut waveforms ``[B, S]`` of so many samples ``[B]``, zero beyond them, into chunks."""
    count = (pcm.shape[1] + chunk - 1) // chunk
    padded = functional.pad(pcm, (LEAD, count * chunk - pcm.shape[1]))
    starts = torch.arange(count, device=pcm.device) * chunk
    samples = (lengths.unsqueeze(1) - starts).clamp(0, chunk)
    # A rest that is too short is left out, but not a whole waveform.
    left_out = (samples < REST) & (starts > 0)
    return Rows(padded.unfold(1, LEAD + chunk, chunk), samples.masked_fill(left_out, 0))


class Past(NamedTuple):
    """What later chunks of a waveform depend on, ``[B, 1]`` each but for the last two.

    Attributes:
        power: sum of the squares of all samples.
        samples: number of samples.
        top: largest log-mel value, of samples as they are.
        loud: power of the loudest frame, in dB, of samples as they are.
        weights: ``[B, F]``, sums of the weights of all frames, for each choice of frames.
        sums: ``[B, F L H]``, weighted sums of the hidden states, in the order of `distill.encoders.pooling.pool`.
    """

    power: Tensor
    samples: Tensor
    top: Tensor
    loud: Tensor
    weights: Tensor
    sums: Tensor

    @classmethod
    def of(cls, packed: Tensor, choices: int) -> Past:
        """Return what `packed` has put into ``[B, 4 + F + F L H]``; zeros are the past of a first chunk."""
        power, samples, top, loud, weights, sums = packed.split([1, 1, 1, 1, choices, packed.shape[1] - 4 - choices], 1)
        return cls(power, samples, top - _TOP_OFFSET, loud - _LOUD_OFFSET, weights, sums)

    def packed(self) -> Tensor:
        """Return it as one tensor ``[B, 4 + F + F L H]``."""
        return torch.cat(
            [self.power, self.samples, self.top + _TOP_OFFSET, self.loud + _LOUD_OFFSET, self.weights, self.sums], dim=1
        )


def past_size(choices: int, statistics: int) -> int:
    """Return the length of a packed past, for so many choices of frames and statistics."""
    return 4 + choices + statistics
