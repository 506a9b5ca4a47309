"""What lies below speech and would govern the level: a large constant offset, and strong rumble.

Microphone preamplifiers with a fault, and samples read with the wrong sign, shift the whole waveform. An offset above
`_LARGE` on the mean of a second is followed and subtracted. Wind, engines and handling give rumble below 50 Hz. Where
it has more power than all else on the mean of two seconds, a high-pass removes it from then on. Every student
normalises the level of its input, so speech would be too quiet beside either.

Speech has neither: its mean over a second is below a hundredth of full scale, and its fundamental frequency is above
70 Hz. Audio without them passes unchanged, bit by bit.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.float32]

_RATE = 16_000
"""Of all audio inside edgeemo (`edge_runtime.sources.audio`, which imports this module)."""
_LARGE = 0.03
"""Of full scale."""
_CERTAIN = 3.0
"""At the begin of a stream, an offset counts that is this many times the deviation around it."""
_SECONDS = 1.0
_RUMBLE_SECONDS = 2.0
"""Longer than a breath or a knock against the microphone before the first word."""
_BLOCK = _RATE // 10
_LONGEST = _RATE
"""Samples that rumble is measured in at once."""
_RUMBLE_HZ = (10, 45)
_AUDIBLE = 1e-4
"""Least mean square of rumble that counts, -40 dB of full scale."""
_CUTOFF_HZ = 60.0
_TAPS = 2048
"""Of the impulse response: 128 ms, after which less than -100 dB is left."""


class OffsetRemoval:
    """Removes a large offset from consecutive blocks.

    Attributes:
        found: the offset when it was first removed, in full scale; 0 for none.
    """

    def __init__(self) -> None:
        self._mean = 0.0
        self._seen = 0
        self._subtracted = 0.0
        self.found = 0.0

    def remove(self, pcm: Pcm) -> Pcm:
        """Return the next samples ``[samples]`` without the offset."""
        if not len(pcm):
            return pcm
        mean = float(pcm.mean(dtype=np.float64))
        certain = self._seen == 0 and abs(mean) > _CERTAIN * float(pcm.std(dtype=np.float64))
        self._seen = min(self._seen + len(pcm), round(_SECONDS * _RATE))
        self._mean += (mean - self._mean) * min(1.0, len(pcm) / self._seen)
        known = certain or self._seen >= _SECONDS * _RATE
        if not self.found and not (known and abs(self._mean) >= _LARGE):
            return pcm
        target = self._mean
        if not self.found:
            self.found, self._subtracted = target, target
        # From block to block in a line, since a step would be a click.
        offset = np.linspace(self._subtracted, target, len(pcm), dtype=np.float32)
        self._subtracted = target
        return pcm - offset


class RumbleRemoval:
    """Removes strong rumble from consecutive blocks, by a Butterworth high-pass of fourth order at 60 Hz.

    Attributes:
        found: whether there is rumble, which is removed from then on.
    """

    def __init__(self) -> None:
        self.found = False
        self._before: Pcm = np.zeros(_TAPS - 1, np.float32)
        self._low = self._high = 0.0
        self._seen = 0
        self._size, self._passing = 0, np.zeros(0, np.complex128)

    def remove(self, pcm: Pcm) -> Pcm:
        """Return the next samples ``[samples]`` without rumble."""
        if not len(pcm):
            return pcm
        begins = not self.found
        if begins:
            self._examine(pcm)
        joined = np.concatenate([self._before, pcm])
        self._before = joined[-(_TAPS - 1) :]
        if not self.found:
            return pcm
        # Overlap and save: what a shorter transform folds back lies in the first samples, which are from before.
        size = 1 << (len(joined) - 1).bit_length()
        if size != self._size:
            self._size, self._passing = size, np.fft.rfft(_high_pass(), size)
        passed = np.fft.irfft(np.fft.rfft(joined, size) * self._passing, size)[_TAPS - 1 : len(joined)].astype(
            np.float32
        )
        if not begins:
            return passed
        # From one to the other in a line, since a step would be a click.
        return np.asarray(pcm + np.linspace(0, 1, len(pcm), dtype=np.float32) * (passed - pcm), np.float32)

    def _examine(self, pcm: Pcm) -> None:
        """Compare the power of rumble with that of all else, on the mean of two seconds."""
        if len(pcm) > _LONGEST:
            # The products of a piece grow with the square of its length.
            for piece in np.array_split(pcm, -(-len(pcm) // _LONGEST)):
                self._examine(piece)
            return
        if len(pcm) < _BLOCK // 2:
            return
        window, rumble = _hann(len(pcm)), _rumble_bins(len(pcm))
        windowed = (pcm - pcm.mean()) * window
        # Of one side of the spectrum, whose sum is half of that of the squares (Parseval).
        scale = 1 / (len(pcm) * 0.1875 * len(pcm))
        low = float(np.square(rumble @ windowed).sum()) * scale
        total = float(windowed @ windowed) * len(pcm) / 2 * scale
        self._seen = min(self._seen + len(pcm), round(_RUMBLE_SECONDS * _RATE))
        share = min(1.0, len(pcm) / self._seen)
        self._low += (low - self._low) * share
        self._high += (total - low - self._high) * share
        self.found = self._seen >= _RUMBLE_SECONDS * _RATE and self._low > max(self._high, _AUDIBLE)


def without_low_frequencies(pcm: Pcm) -> Pcm:
    """Return whole audio ``[samples]`` as a listener processes it, in blocks of 100 ms."""
    offset, rumble = OffsetRemoval(), RumbleRemoval()
    parts = [rumble.remove(offset.remove(pcm[start : start + _BLOCK])) for start in range(0, len(pcm), _BLOCK)]
    return np.concatenate(parts) if offset.found or rumble.found else pcm


@functools.lru_cache(4)
def _hann(samples: int) -> npt.NDArray[np.float64]:
    return np.hanning(samples)


@functools.lru_cache(4)
def _rumble_bins(samples: int) -> npt.NDArray[np.float64]:
    """Return cosines and sines of the bins of rumble, ``[bins, samples]``: a few products instead of all bins."""
    first, last = np.searchsorted(np.fft.rfftfreq(samples, 1 / _RATE), _RUMBLE_HZ)
    phases = 2 * np.pi * np.arange(first, last)[:, None] * np.arange(samples) / samples
    return np.concatenate([np.cos(phases), np.sin(phases)])


@functools.cache
def _high_pass() -> npt.NDArray[np.float64]:
    """Return the impulse response ``[taps]`` of the high-pass: two second-order sections by the bilinear transform."""
    response = np.zeros(_TAPS)
    response[0] = 1.0
    warped = np.tan(np.pi * _CUTOFF_HZ / _RATE)
    for pole in (1, 3):
        damping = 2 * np.cos(pole * np.pi / 8) * warped
        norm = 1 / (1 + damping + warped**2)
        feedback = 2 * (warped**2 - 1) * norm, (1 - damping + warped**2) * norm
        given, response = response, np.zeros(_TAPS)
        for n in range(_TAPS):
            x = given[n] - 2 * (given[n - 1] if n else 0.0) + (given[n - 2] if n > 1 else 0.0)
            y = (response[n - 1] if n else 0.0) * feedback[0] + (response[n - 2] if n > 1 else 0.0) * feedback[1]
            response[n] = norm * x - y
    return response
