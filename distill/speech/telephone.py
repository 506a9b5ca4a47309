"""Speech over a simulated telephone line, for speaker means that were estimated under other conditions."""

from __future__ import annotations

import numpy as np

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

BAND = (300.0, 3400.0)
"""Hz that a telephone line carries (ITU-T G.712)."""
NOISE_DB = 20.0
"""Level of the speech over that of white noise within the same band."""


def by_telephone(pcm: Pcm, seed: int) -> Pcm:
    """Return a waveform, float32 ``[S]`` at 16 kHz, as a noisy telephone line gives it."""
    frequencies = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE)
    carried = (frequencies >= BAND[0]) & (frequencies <= BAND[1])
    speech = np.fft.irfft(np.fft.rfft(pcm) * carried, len(pcm))
    noise = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).standard_normal(len(pcm))) * carried, len(pcm))
    gain = np.sqrt(np.square(speech).mean() / max(float(np.square(noise).mean()), 1e-20)) * 10 ** (-NOISE_DB / 20)
    return np.asarray(speech + gain * noise, np.float32)
