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
        count = pcm.shape[1] if lengths is None else lengths.unsqueeze(1)
        level = torch.sqrt(power / count)
        return pcm * (self.target / level.clamp(min=self.floor))


class LogMel(nn.Module):
    """Log-mel spectrogram with the DFT as a convolution and the mel filters as a matrix product.

    Args:
        mel_bins: number of mel filters from 0 to 8 kHz.
    """

    def __init__(self, mel_bins: int = 80) -> None:
        super().__init__()
        bins = FRAME // 2 + 1
        angle = 2 * math.pi * torch.outer(torch.arange(bins), torch.arange(FRAME)).double() / FRAME
        window = torch.hann_window(FRAME, dtype=torch.float64)
        basis = torch.cat([torch.cos(angle) * window, -torch.sin(angle) * window]).float()
        filters = mel_filter_bank(bins, mel_bins, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.basis: Tensor
        self.filters: Tensor
        # Constants of the code, not weights: rebuilt on load, so they are not in the checkpoint.
        self.register_buffer("basis", basis.unsqueeze(1), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float().T.contiguous(), persistent=False)

    def forward(self, pcm: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map ``[B, S]`` to ``[B, mel_bins, T]``.

        Args:
            pcm: waveforms at 16 kHz.
            valid: ``[B, T]`` true for frames inside the waveform; the others come out as zero.
        """
        spectrum = nn.functional.conv1d(pcm.unsqueeze(1), self.basis, stride=HOP)
        real, imaginary = spectrum.chunk(2, dim=1)
        # Not `square`: as a power, it takes ONNX Runtime three times as long.
        mel = torch.matmul(self.filters, real * real + imaginary * imaginary)
        log = torch.log10(mel.clamp(min=1e-10))
        if valid is not None:
            log = log.masked_fill(~valid.unsqueeze(1), -10.0)
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
        log = (log + 4.0) / 4.0
        return log if valid is None else log.masked_fill(~valid.unsqueeze(1), 0.0)
