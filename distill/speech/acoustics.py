"""Simulated acoustics: noise at a signal-to-noise ratio, rooms, gain, clipping.

Functions take and return waveforms as `edge_runtime.sources.audio.Pcm`; random numbers come from the given generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve, lfilter

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

Floats = npt.NDArray[np.floating]

LEVEL_IS = "active speech level (ITU-T P.56) over the noise's RMS"
"""Definition of the signal-to-noise ratio: pauses and silence do not change the level of the noise."""

_TIME_CONSTANT, _HANGOVER, _MARGIN_DB = 0.03, 0.2, 15.9
"""Seconds, seconds and dB of ITU-T P.56, method B."""
_STEPS = 16
_EVERY = SAMPLE_RATE // 1000
_DIRECT = 0.0025
"""Seconds after the direct sound's arrival that count as direct (Eaton et al. 2016, the ACE challenge)."""
_BEFORE = SAMPLE_RATE // 1000
"""Samples before the strongest one that belong to the direct sound: the filters of converters ring before it too."""
_LOWEST_HZ = 50.0
"""Below this, coloured noise has the same power per hertz: microphones record nothing lower."""


def active_level(pcm: Pcm) -> float:
    """Return the active speech level in dB relative to an RMS of 1, by ITU-T P.56 (method B).

    It is the mean power while speech is active; activity is a smoothed envelope above a threshold 15.9 dB below the
    result. Digital silence has the level minus infinity.

    Args:
        pcm: ``[samples]``.
    """
    peak = float(np.abs(pcm).max(initial=0.0))
    if peak == 0.0:
        return -np.inf
    scaled = np.asarray(pcm, np.float64) / peak
    smooth = np.exp(-1.0 / (SAMPLE_RATE * _TIME_CONSTANT))
    envelope = np.abs(scaled)
    for _ in range(2):
        envelope = lfilter([1.0 - smooth], [1.0, -smooth], envelope)
    energy = float(np.square(scaled).sum())
    # The envelope is smooth: one value per millisecond is enough.
    envelope = envelope[::_EVERY]
    hangover = round(_HANGOVER * SAMPLE_RATE / _EVERY)
    places = np.arange(len(envelope))
    # Thresholds in steps of 6 dB, each with the level above it, until the difference is no more than the margin.
    over: list[float] = []
    levels: list[float] = []
    for threshold in 2.0 ** np.arange(-_STEPS + 1, 1):
        last = np.maximum.accumulate(np.where(envelope >= threshold, places, -hangover - 1))
        active = _EVERY * int((places - last <= hangover).sum())
        if not active or (over and over[-1] <= _MARGIN_DB):
            break
        levels.append(10 * math.log10(energy / active))
        over.append(levels[-1] - 20 * math.log10(threshold))
    if not over:
        # A few samples, too short for the envelope to rise.
        return 20 * math.log10(_rms(pcm))
    level = float(np.interp(_MARGIN_DB, over[:-3:-1], levels[:-3:-1]))
    return level + 20 * math.log10(peak)


def white_noise(samples: int, random: np.random.Generator) -> Floats:
    """Return Gaussian white noise ``[samples]`` with an RMS of about 1."""
    return random.standard_normal(samples)


def pink_noise(samples: int, random: np.random.Generator) -> Floats:
    """Return noise ``[samples]`` whose power falls by 3 dB per octave, with an RMS of 1."""
    return coloured_noise(samples, 1.0, random)


def coloured_noise(samples: int, slope: float, random: np.random.Generator) -> Floats:
    """Return noise ``[samples]`` with an RMS of 1, whose power falls with the frequency to the power ``slope``.

    Args:
        samples: length.
        slope: 0 is white, 1 is pink.
        random: of the noise.
    """
    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum /= np.maximum(frequencies, _LOWEST_HZ) ** (slope / 2)
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, samples)
    return np.asarray(noise / max(_rms(noise), 1e-20))


def excerpt(recording: Floats, samples: int, random: np.random.Generator) -> Floats:
    """Return a stretch ``[samples]`` from a random position of a recording, which is repeated where it is too short."""
    start = int(random.integers(len(recording)))
    return np.take(recording, np.arange(start, start + samples), mode="wrap")


def babble(samples: int, talkers: Sequence[Pcm], random: np.random.Generator) -> Floats:
    """Return babble ``[samples]``: talkers at the same active level, each repeated from a random position; RMS 1.

    Args:
        samples: length.
        talkers: an utterance of each talker; silent ones are left out.
        random: of the positions.

    Raises:
        ValueError: all utterances are silent.
    """
    mixed = np.zeros(samples)
    active = 0
    for talker in talkers:
        level = active_level(talker)
        if np.isfinite(level):
            active += 1
            mixed += np.resize(np.roll(talker, int(random.integers(len(talker)))), samples) * 10 ** (-level / 20)
    if not active:
        raise ValueError("babble needs an utterance that is not silent")
    return np.asarray(mixed / max(_rms(mixed), 1e-20))


def add_noise(pcm: Pcm, noise: Floats, ratio_db: float) -> Pcm:
    """Return speech with noise, both ``[samples]``, at a signal-to-noise ratio as defined by `LEVEL_IS`.

    Digital silence is returned unchanged.
    """
    level = active_level(pcm)
    if not np.isfinite(level):
        return pcm
    gain = 10 ** ((level - ratio_db) / 20) / max(_rms(noise), 1e-20)
    return np.asarray(pcm + gain * noise, np.float32)


def room_response(seconds: float, direct_db: float, random: np.random.Generator) -> Floats:
    """Return a room's impulse response: the direct sound, then exponentially decaying noise (Polack 1988).

    Args:
        seconds: reverberation time, in which the tail falls by 60 dB; the same at all frequencies.
        direct_db: direct-to-reverberant ratio in dB; it falls with the distance of the speaker.
        random: of the reverberation.

    Returns:
        ``[taps]`` with energy 1, so that the level hardly changes.
    """
    silent = round(_DIRECT * SAMPLE_RATE)
    time = np.arange(max(1, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3.0 * time / seconds)
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.square(tail).sum())
    response = np.concatenate([[1.0], np.zeros(silent), tail])
    return np.asarray(response / np.sqrt(np.square(response).sum()))


def trimmed_response(recorded: Pcm) -> Floats:
    """Return a recorded impulse response ``[taps]``, not silent, from just before the direct sound on, with energy 1.

    The strongest sample counts as the direct sound.
    """
    direct = int(np.abs(recorded).argmax())
    response = np.asarray(recorded[max(0, direct - _BEFORE) :], np.float64)
    return np.asarray(response / np.sqrt(np.square(response).sum()))


def in_room(pcm: Pcm, response: Floats) -> Pcm:
    """Return speech ``[samples]`` convolved with a room's impulse response and cut to the same length."""
    return np.asarray(fftconvolve(pcm, response)[: len(pcm)], np.float32)


def amplified(pcm: Pcm, gain_db: float) -> Pcm:
    """Return speech after a gain and conversion to 16 bits, with clipping and quantisation."""
    steps = np.round(np.asarray(pcm, np.float64) * 10 ** (gain_db / 20) * 32768)
    return np.asarray(steps.clip(-32768, 32767) / 32768, np.float32)


def clipped(pcm: Pcm, share: float) -> Pcm:
    """Return speech with this share of its samples clipped, the loudest ones."""
    limit = np.quantile(np.abs(pcm), 1.0 - share)
    return np.asarray(pcm.clip(-limit, limit), np.float32)


def _rms(signal: Floats) -> float:
    return float(np.sqrt(np.square(signal, dtype=np.float64).mean()))
