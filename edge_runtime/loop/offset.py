"""A large constant offset (direct current) of the input is removed; a small one is left as it is.

Microphone preamplifiers with a fault, and samples read with the wrong sign, shift the whole waveform. An offset above
`_LARGE` on the mean of a second is followed and subtracted. Speech has none: its mean over a second is below a
hundredth of full scale, and audio without a large offset passes unchanged, bit by bit. Rumble is not removed.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

_LARGE = 0.03
"""Of full scale."""
_CERTAIN = 3.0
"""At the begin of a stream, an offset counts that is this many times the deviation around it."""
_SECONDS = 1.0


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
        self._seen = min(self._seen + len(pcm), round(_SECONDS * SAMPLE_RATE))
        self._mean += (mean - self._mean) * min(1.0, len(pcm) / self._seen)
        known = certain or self._seen >= _SECONDS * SAMPLE_RATE
        if not self.found and not (known and abs(self._mean) >= _LARGE):
            return pcm
        target = self._mean
        if not self.found:
            self.found, self._subtracted = target, target
        # From block to block in a line, since a step would be a click.
        offset = np.linspace(self._subtracted, target, len(pcm), dtype=np.float32)
        self._subtracted = target
        return pcm - offset
