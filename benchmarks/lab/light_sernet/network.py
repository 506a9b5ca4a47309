"""Light-SERNet, a small convolutional network on MFCC: implemented from the published description.

Aftab, Morsali, Ghaemmaghami and Champagne, "Light-SERNet: A lightweight fully convolutional neural network for speech
emotion recognition", ICASSP 2022 (arXiv 2110.03435). Three parallel convolutions along frequency, along time and
along both are followed by five blocks of convolution, batch norm, ReLU and average pooling (global in the last one),
dropout and a linear layer.

Sizes and settings are those of the paper and of the published configuration. Not specified there, and chosen here:
HTK's mel scale, a floor under the logarithm, convolutions that keep the size of their input and have no bias before
batch norm, PyTorch's initialisation. The input is the middle three seconds of a recording, as for our students;
shorter ones are padded with zeros at the end.
"""

from __future__ import annotations

import functools
import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

SECONDS = 3.0
SAMPLES = round(SECONDS * SAMPLE_RATE)
FRAME = 1024
"""Samples of a frame, 64 ms, and points of its Fourier transform."""
HOP = 256
COEFFICIENTS = 40
FRAMES = (SAMPLES - FRAME) // HOP + 1
DROPOUT = 0.3

_MEL_FILTERS = 128
_MEL_RANGE = (80.0, 7600.0)
_FLOOR = 1e-6

Mfcc = npt.NDArray[np.float32]
"""``[COEFFICIENTS, FRAMES]``."""


class _Block(NamedTuple):
    """Output channels, kernel and pooling of a convolution; the last two are frequency by time."""

    channels: int
    kernel: tuple[int, int]
    pool: tuple[int, int] | None


_PATHS = (_Block(32, (9, 1), (2, 2)), _Block(32, (1, 11), (2, 2)), _Block(32, (3, 3), (2, 2)))
_BLOCKS = (
    _Block(64, (3, 3), (2, 2)),
    _Block(96, (3, 3), (2, 2)),
    _Block(128, (3, 3), (1, 2)),
    _Block(160, (3, 3), (1, 2)),
    _Block(320, (1, 1), None),
)


def three_seconds(pcm: Pcm) -> Pcm:
    """Return the middle three seconds of a waveform ``[S]``, or all of it padded with zeros: ``[SAMPLES]``."""
    spare = max(0, len(pcm) - SAMPLES)
    cut = pcm[spare // 2 :][:SAMPLES]
    return np.pad(cut, (0, SAMPLES - len(cut)))


def mfcc(pcm: Pcm) -> Mfcc:
    """Return the coefficients of three seconds ``[SAMPLES]``: Hamming windows, power, mel, logarithm, cosine transform.

    The waveform is scaled to a peak of 1 first. Coefficients are not standardised.
    """
    scaled = pcm / max(float(np.abs(pcm).max()), _FLOOR)
    frames = sliding_window_view(scaled, FRAME)[::HOP] * _window()
    power = np.abs(fft.rfft(frames)) ** 2
    return np.asarray(fft.dct(np.log(power @ _mel() + _FLOOR), norm="ortho")[:, :COEFFICIENTS].T, dtype=np.float32)


@functools.cache
def _window() -> Pcm:
    # Periodic, as for spectra.
    return np.hamming(FRAME + 1)[:-1].astype(np.float32)


@functools.cache
def _mel() -> npt.NDArray[np.float32]:
    low, high = _MEL_RANGE
    filters: Any = mel_filter_bank(FRAME // 2 + 1, _MEL_FILTERS, low, high, SAMPLE_RATE, norm=None, mel_scale="htk")
    return np.asarray(filters, dtype=np.float32)


class LightSerNet(nn.Module):
    """The network."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_layers(1, each) for each in _PATHS)
        width = sum(each.channels for each in _PATHS)
        blocks = []
        for each in _BLOCKS:
            blocks.append(_layers(width, each))
            width = each.channels
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(width, classes)
        # The fastest layout for convolutions on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mfcc: Tensor) -> Tensor:
        """Map ``[B, COEFFICIENTS, FRAMES]`` to logits ``[B, classes]``."""
        image = mfcc.unsqueeze(1)
        together = torch.cat([path(image) for path in self.paths], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.blocks(together).flatten(1)))
        return logits


def _layers(inputs: int, block: _Block) -> nn.Sequential:
    pool = nn.AdaptiveAvgPool2d(1) if block.pool is None else nn.AvgPool2d(block.pool)
    convolution = nn.Conv2d(inputs, block.channels, block.kernel, padding="same", bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(block.channels), nn.ReLU(), pool)


def parameter_count(classes: int) -> int:
    """Return the number of parameters."""
    return sum(each.numel() for each in LightSerNet(classes).parameters())


def count_macs(classes: int) -> int:
    """Return the multiply-accumulates of one window: convolutions and the linear layer, without the MFCC."""
    total, height, width = 0, COEFFICIENTS, FRAMES
    for each in _PATHS:
        total += each.channels * each.kernel[0] * each.kernel[1] * height * width
    channels = sum(each.channels for each in _PATHS)
    height, width = height // 2, width // 2
    for each in _BLOCKS:
        total += channels * each.channels * each.kernel[0] * each.kernel[1] * height * width
        channels = each.channels
        down, along = each.pool or (height, width)
        height, width = height // down, width // along
    return total + channels * classes


def write_onnx(network: LightSerNet, path: Path) -> None:
    """Write the network as ONNX: ``mfcc`` ``[1, COEFFICIENTS, FRAMES]`` in, ``logits`` ``[1, classes]`` out."""
    import onnx  # from the extra "export"

    from export.graphs.float_graph import IR_VERSION, OPSET

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(),
                (torch.zeros(1, COEFFICIENTS, FRAMES),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["mfcc"],
                output_names=["logits"],
                verbose=False,
            )
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    # Source locations of nodes, a third of a small file.
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
