"""Sounds that are no speech: noise, mains hum, music."""

import numpy as np

RATE = 16_000


def noise(samples, level_db=-50.0, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 10 ** (level_db / 20)).astype(np.float32)


def hum(samples, mains=50, rate=RATE):
    seconds = np.arange(samples) / rate
    return sum(0.05 / k * np.sin(2 * np.pi * mains * k * seconds + k) for k in range(1, 20)).astype(np.float32)


def music(samples, rate=RATE):
    """Plucked notes, four a second: their levels vary as much as those of syllables."""
    seconds = np.arange(samples) / rate
    beat, since = np.divmod(seconds, 0.25)
    pitch = 220 * 2 ** (np.array([0, 4, 7, 12, 9, 5, 2, 7])[beat.astype(int) % 8] / 12)
    tone = sum(np.sin(2 * np.pi * k * pitch * seconds) / k for k in range(1, 8))
    return (0.15 * tone * np.exp(-12 * since)).astype(np.float32)


def rumble(samples, rate=RATE):
    """Between 15 and 35 Hz, louder than speech."""
    seconds = np.arange(samples) / rate
    tones = sum(np.sin(2 * np.pi * f * seconds + f) for f in (15.0, 21.3, 28.7, 35.0))
    return (0.15 * tones).astype(np.float32)
