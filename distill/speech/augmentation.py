"""Augmentation of training speech: speed, equaliser, room, noise.

It changes voice and room and keeps words and emotion. The level is not changed: every student normalises it first.
"""

from __future__ import annotations

import math

import numpy as np
import soxr
from pydantic import BaseModel, Field

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

_BANDS = 6


class Augmentation(BaseModel, extra="forbid", frozen=True):
    """How strongly training speech is changed. Each part is drawn anew for every utterance; 0 switches it off.

    Attributes:
        speed: faster or slower by up to this share, pitch and formants with it: another speaker (Ko et al. 2015).
        equaliser_db: gains of six bands from 0 to 8 kHz are drawn within plus and minus this: another microphone.
        room_seconds: longest reverberation time (60 dB) of a room of exponentially decaying noise.
        noise_db: lowest signal-to-noise ratio in dB of noise between white and pink; drawn up to 25 dB above it.
        chance: of each of equaliser, room and noise; speed is always drawn.
    """

    speed: float = Field(default=0.0, ge=0, lt=0.5)
    equaliser_db: float = Field(default=0.0, ge=0, le=20)
    room_seconds: float = Field(default=0.0, ge=0, le=2)
    noise_db: float | None = Field(default=None, ge=-10, le=40)
    chance: float = Field(default=0.5, ge=0, le=1)


def augment(pcm: Pcm, how: Augmentation, random: np.random.Generator) -> Pcm:
    """Return a changed waveform; only speed changes its length.

    Args:
        pcm: float32 ``[S]`` at 16 kHz.
        how: what to change.
        random: where the draws come from.
    """
    if how.speed:
        rate = math.exp(random.uniform(-1.0, 1.0) * math.log1p(how.speed))
        pcm = soxr.resample(pcm, SAMPLE_RATE * rate, SAMPLE_RATE)
    if how.equaliser_db and random.random() < how.chance:
        pcm = _equalise(pcm, random.uniform(-how.equaliser_db, how.equaliser_db, _BANDS))
    if how.room_seconds and random.random() < how.chance:
        pcm = _reverberate(pcm, random.uniform(0.1, 1.0) * how.room_seconds, random)
    if how.noise_db is not None and random.random() < how.chance:
        pcm = _add_noise(pcm, how.noise_db + random.uniform(0.0, 25.0), random)
    return np.asarray(pcm, np.float32)


def _equalise(pcm: Pcm, gains_db: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(pcm)
    places = np.linspace(0, _BANDS - 1, len(spectrum))
    gain = np.interp(places, np.arange(_BANDS), gains_db)
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(pcm))


def _reverberate(pcm: Pcm, seconds: float, random: np.random.Generator) -> np.ndarray:
    """Add the tail of a room to the direct sound, 0 to 15 dB below it."""
    time = np.arange(max(1, int(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3.0 * time / seconds)
    tail *= 10 ** (-random.uniform(0.0, 15.0) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    # Here, since recipes name augmentation and help about recipes is given without the extra that scipy comes with.
    from scipy.signal import fftconvolve

    return np.asarray(fftconvolve(pcm, tail)[: len(pcm)])


def _add_noise(pcm: Pcm, ratio_db: float, random: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(random.standard_normal(len(pcm)))
    # Power falls with the frequency to a power between 0 (white) and 1 (pink).
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1) ** random.uniform(0.0, 1.0))
    noise = np.fft.irfft(spectrum, len(pcm))
    power = np.square(pcm).mean() / max(np.square(noise).mean(), 1e-20)
    return pcm + noise * math.sqrt(power * 10 ** (-ratio_db / 10))
