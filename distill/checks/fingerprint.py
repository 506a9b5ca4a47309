"""Acoustic fingerprints of recordings, which survive other formats, rates and levels and cut ends. Imports no torch.

After Haitsma and Kalker, "A highly robust audio fingerprinting system" (ISMIR 2002), with shorter frames and hops for
utterances of one to a few seconds: each frame has one bit for each two neighbouring bands, the sign of the change over
time of the difference of their log energies. Two takes of one sentence by one speaker differ in half of the bits, as
any two sounds do: pitch and timing never repeat.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soxr

RATE = 8_000
"""Samples per second of what is analysed: telephone speech has as much."""

FRAME = 2_048
"""Samples of a frame, 256 ms: harmonics of the voice are resolved."""

HOP = 128
"""Samples from frame to frame, 16 ms: where another cut of the ends shifts the frames by half of it, most bits stay."""

BITS = 32
_LOWEST_HZ, _HIGHEST_HZ = 300.0, 3_000.0
_ACTIVE_DB = 25.0
"""Frames down to so much under the loudest one are compared: others are noise of the room or of a codec."""
_FLOOR = 1e-5
"""Of the energy of a frame, added to each band, so that empty bands do not count."""
_BLOCK_FRAMES = 64

_EDGES = np.round(np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, BITS + 2) * FRAME / RATE).astype(int)
_WINDOW = np.hanning(FRAME + 1)[:-1].astype(np.float32)
_WEIGHTS = (1 << np.arange(BITS, dtype=np.uint64)).astype(np.uint64)


class Fingerprint(NamedTuple):
    """Fingerprint of a recording.

    Attributes:
        words: ``[T]`` `BITS` bits a frame.
        active: ``[T]`` whether the frame is loud enough to be compared.
    """

    words: npt.NDArray[np.uint32]
    active: npt.NDArray[np.bool_]

    def encode(self) -> str:
        """Return it as text."""
        content = self.words.astype("<u4").tobytes() + np.packbits(self.active).tobytes()
        return base64.b64encode(content).decode()

    @classmethod
    def decode(cls, text: str) -> Fingerprint:
        """Return what `encode` made a text of."""
        content = base64.b64decode(text)
        # 32 bits and a packed one each: 33 bits a frame, rounded up to whole bytes.
        count = len(content) * 8 // (BITS + 1)
        words = np.frombuffer(content, "<u4", count).astype(np.uint32)
        flags = np.frombuffer(content, np.uint8, offset=4 * count)
        return cls(words, np.unpackbits(flags, count=count).astype(bool))


class Fingerprinter:
    """Computes the fingerprint of a waveform that comes in blocks.

    Args:
        rate: its samples per second.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = soxr.ResampleStream(rate, RATE, 1, quality="MQ") if rate != RATE else None
        self._rest: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        self._last: npt.NDArray[np.float32] = np.zeros((0, BITS), np.float32)
        self._words: list[npt.NDArray[np.uint32]] = []
        self._energies: list[npt.NDArray[np.float32]] = []

    def add(self, mono: npt.NDArray[np.float32], *, last: bool = False) -> None:
        """Add the next samples ``[N]``."""
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        samples = np.concatenate([self._rest, mono])
        count = max(0, (len(samples) - FRAME) // HOP + 1)
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP][:count]
            for start in range(0, count, _BLOCK_FRAMES):
                self._add_frames(_band_energies(frames[start : start + _BLOCK_FRAMES]))
        self._rest = samples[count * HOP :].copy()

    def _add_frames(self, energies: npt.NDArray[np.float32]) -> None:
        """Add the band energies ``[T, BITS + 1]`` of the next frames; the first frame of all has no word."""
        total = energies.sum(axis=1, keepdims=True)
        levels = np.log(energies + _FLOOR * total + 1e-20)
        differences = np.concatenate([self._last, np.diff(levels, axis=1)])
        bits = np.diff(differences, axis=0) > 0
        self._words.append((bits @ _WEIGHTS).astype(np.uint32))
        self._energies.append(total[len(total) - len(bits) :, 0])
        self._last = differences[-1:]

    def finish(self) -> Fingerprint:
        """Return the fingerprint, of no frames for less than two frames of sound."""
        self.add(np.zeros(0, np.float32), last=True)
        words = np.concatenate([np.zeros(0, np.uint32), *self._words])
        energies = np.concatenate([np.zeros(0, np.float32), *self._energies])
        least = float(energies.max(initial=0.0)) * 10 ** (-_ACTIVE_DB / 10)
        return Fingerprint(words, (energies > least) & (energies > 0))


def _band_energies(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the energies ``[T, BITS + 1]`` in the bands of frames ``[T, FRAME]``."""
    spectrum = np.fft.rfft(frames * _WINDOW, axis=1)[:, : _EDGES[-1]]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.add.reduceat(power, _EDGES[:-1], axis=1).astype(np.float32)
