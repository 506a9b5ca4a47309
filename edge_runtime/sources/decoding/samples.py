"""Samples of PCM encodings as float32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


class Encoding(NamedTuple):
    """An encoding of samples.

    Attributes:
        kind: ``u`` unsigned, ``s`` signed, ``f`` float, ``mulaw``, ``alaw``.
        size: bytes of a sample.
        big: big-endian.
    """

    kind: str
    size: int
    big: bool = False

    def decode(self, data: bytes, channels: int) -> Samples:
        """Return whole frames ``[S, C]``; full scale is 1."""
        flat = self._flat(data)
        return np.ascontiguousarray(flat.reshape(-1, channels), dtype=np.float32)

    def _flat(self, data: bytes) -> Samples:
        if self.kind in ("mulaw", "alaw"):
            return _TABLES[self.kind][np.frombuffer(data, np.uint8)]
        order = ">" if self.big else "<"
        if self.size == 3:
            packed = np.frombuffer(data, np.uint8).reshape(-1, 3)
            wide = np.zeros((len(packed), 4), np.uint8)
            wide[:, 1:] = packed[:, ::-1] if self.big else packed
            return (wide.reshape(-1).view("<i4") / np.float64(2**31)).astype(np.float32)
        if self.kind == "f":
            with np.errstate(over="ignore"):
                return np.frombuffer(data, f"{order}f{self.size}").astype(np.float32)
        values = np.frombuffer(data, f"{order}{'u' if self.kind == 'u' else 'i'}{self.size}")
        half = 2.0 ** (8 * self.size - 1)
        if self.size <= 2 and self.kind == "s":
            return values.astype(np.float32) / np.float32(half)
        centred = values.astype(np.float64) - (half if self.kind == "u" else 0.0)
        return (centred / half).astype(np.float32)


def _mulaw() -> Samples:
    """Return the 256 values of G.711 mu-law."""
    code = ~np.arange(256, dtype=np.uint8)
    size = ((code & 0x0F).astype(np.int32) * 8 + 132 << ((code >> 4) & 7)) - 132
    return (np.where(code & 0x80, -size, size) / 32768.0).astype(np.float32)


def _alaw() -> Samples:
    """Return the 256 values of G.711 A-law."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    step = ((code >> 4) & 7).astype(np.int32)
    low = (code & 0x0F).astype(np.int32) * 16 + 8
    size = np.where(step == 0, low, (low + 256) << np.maximum(step - 1, 0))
    return (np.where(code & 0x80, size, -size) / 32768.0).astype(np.float32)


_TABLES = {"mulaw": _mulaw(), "alaw": _alaw()}
