"""Waveform to log-mel inside the network, so that training, ONNX Runtime and TensorRT share one feature code.

The features are those of Whisper (Radford et al. 2022): 25 ms Hann windows, 10 ms hop, power spectrum, Slaney mel,
log10 clamped to 8 decades below the maximum, ``(x + 4) / 4``. Two things differ: the level is normalised first, and
the signal is not padded at its ends, because a live window has no ends.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from edge_runtime.sources.audio import SAMPLE_RATE

FRAME = 400
QUARTER = FRAME // 4
HOP = 160
MINIMUM_SAMPLES = FRAME + 4 * HOP
"""The shortest waveform that gives a few frames to take a mean and deviation of."""


Samples = TypeVar("Samples", int, Tensor)


def frame_count(samples: Samples) -> Samples:
    """Return how many 10 ms frames a waveform of so many samples has."""
    return (samples - FRAME) // HOP + 1


class LevelNormalisation(nn.Module):
    """Scale a waveform to a fixed root mean square, with a limit to how much silence is amplified.

    Args:
        level_db: target level in dB of full scale.
        floor_db: quieter signals are taken to be this loud.
    """

    def __init__(self, level_db: float = -26.0, floor_db: float = -66.0) -> None:
        super().__init__()
        self.level_db = level_db
        self.target = 10 ** (level_db / 20)
        self.floor = 10 ** (floor_db / 20)

    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[B, S]`` to ``[B, S]``; with ``lengths`` ``[B]``, samples beyond them must be zero."""
        power = (pcm * pcm).sum(dim=1, keepdim=True)
        return pcm * self.gain(power, pcm.shape[1] if lengths is None else lengths.unsqueeze(1))

    def gain(self, power: Tensor, count: Tensor | int) -> Tensor:
        """Return the factor for a waveform with this sum of squares over so many samples."""
        return self.target / torch.sqrt(power / count).clamp(min=self.floor)


class LogMel(nn.Module):
    """Log-mel spectrogram with the DFT and the mel filters as matrix products.

    The DFT of a frame of N = 400 samples uses two symmetries, both exact. The window is the same at n and N - n, so
    cosines take sums ``x[n] + x[N - n]`` and sines differences. With bin k, ``cos(2 pi k n / N)`` and the sine at
    n and N/2 - n are equal but for their sign, which k and the function decide, so even and odd bins take sums or
    differences again (decimation in frequency). Four products of about ``[T, 100] x [100, 100]`` remain, a quarter of
    the multiply-accumulates.

    Args:
        mel_bins: number of mel filters from 0 to 8 kHz.
    """

    cos_even: Tensor
    cos_odd: Tensor
    sin_even: Tensor
    sin_odd: Tensor
    outer: Tensor
    inner: Tensor
    filters: Tensor

    def __init__(self, mel_bins: int = 80) -> None:
        super().__init__()
        self.mel_bins = mel_bins
        n = torch.arange(1, QUARTER + 1).double()
        # The filters are zero at 0 and 8 kHz, so bins 0 and 200 are left out.
        even, odd = range(2, FRAME // 2, 2), range(1, FRAME // 2, 2)
        for name, bins in (("even", even), ("odd", odd)):
            angle = 2 * math.pi * torch.outer(n, torch.tensor(bins).double()) / FRAME
            # N/4 is its own mirror image, so both summands have it.
            share = torch.where(n == QUARTER, 0.5, 1.0).unsqueeze(1)
            self._constant(f"cos_{name}", torch.cos(angle) * share)
            self._constant(f"sin_{name}", torch.sin(angle) * share)
        # The Hann window at n and N - n, and at N/2 - n and N/2 + n.
        hann = torch.hann_window(FRAME, dtype=torch.float64)[1 : QUARTER + 1]
        self._constant("outer", hann)
        self._constant("inner", 1 - hann)
        filters = mel_filter_bank(
            FRAME // 2 + 1, mel_bins, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self._constant("filters", torch.from_numpy(filters)[[*even, *odd]])

    def _constant(self, name: str, value: Tensor) -> None:
        # A constant of the code, not a weight: rebuilt on load, so it is not in the checkpoint.
        self.register_buffer(name, value.float(), persistent=False)

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates of one frame."""
        products = (self.cos_even, self.cos_odd, self.sin_even, self.sin_odd, self.filters)
        return sum(product.numel() for product in products)

    def forward(self, pcm: Tensor, valid: Tensor | None = None, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map ``[B, S]`` to ``[B, mel_bins, T]``, and return the maximum ``[B, 1]`` of the logarithm too.

        Args:
            pcm: waveforms at 16 kHz.
            valid: ``[B, T]`` true for frames inside the waveform; the others come out as zero.
            before: ``[B, 1]`` maximum of what came before the waveforms.
        """
        log = self.logarithm(pcm, valid)
        top = log.amax(dim=(1, 2), keepdim=True)
        if before is not None:
            top = torch.maximum(top, before.unsqueeze(2))
        return self.clamped(log, top, valid), top.squeeze(2)

    def logarithm(self, pcm: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return log10 of the mel spectrum ``[B, mel_bins, T]``; -10, the smallest value, where it is not valid."""
        mel = torch.matmul(self._power(pcm), self.filters).transpose(1, 2)
        log = torch.log10(mel.clamp(min=1e-10))
        return log if valid is None else log.masked_fill(~valid.unsqueeze(1), -10.0)

    @staticmethod
    def clamped(log: Tensor, top: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return `forward`'s features of a logarithm, clamped to 8 decades below ``top`` ``[B, 1, 1]``."""
        log = (torch.maximum(log, top - 8.0) + 4.0) / 4.0
        return log if valid is None else log.masked_fill(~valid.unsqueeze(1), 0.0)

    def _power(self, pcm: Tensor) -> Tensor:
        """Return the power spectrum ``[B, T, 199]``: bins 2, 4, ... 198, then 1, 3, ... 199."""
        batch, samples = pcm.shape
        span = HOP * frame_count(samples)

        def rows(start: int) -> Tensor:
            # ``[B, T, 160]``: from this sample of each frame on.
            return pcm[:, start : start + span].reshape(batch, -1, HOP)

        # ``[B, T, 100]`` each, n = 1 to 100: x[n], x[N/2 - n], x[N/2 + n] and x[N - n].
        first, third = rows(1)[:, :, :QUARTER], rows(FRAME // 2 + 1)[:, :, :QUARTER]
        second_quarter = rows(QUARTER)
        second = second_quarter[:, :, :QUARTER].flip(2)
        middle = second_quarter[:, :, QUARTER : QUARTER + 1]
        fourth = rows(FRAME - HOP)[:, :, HOP - QUARTER :].flip(2)
        outer_sum, outer_difference = (first + fourth) * self.outer, (first - fourth) * self.outer
        inner_sum, inner_difference = (second + third) * self.inner, (second - third) * self.inner
        # x[N/2], where the window is 1 and the cosine 1 or -1.
        real_even = torch.matmul(outer_sum + inner_sum, self.cos_even) + middle
        real_odd = torch.matmul(outer_sum - inner_sum, self.cos_odd) - middle
        imaginary_even = torch.matmul(outer_difference - inner_difference, self.sin_even)
        imaginary_odd = torch.matmul(outer_difference + inner_difference, self.sin_odd)
        # Not `square`: as a power, it takes ONNX Runtime three times as long.
        even = real_even * real_even + imaginary_even * imaginary_even
        odd = real_odd * real_odd + imaginary_odd * imaginary_odd
        return torch.cat([even, odd], dim=2)
