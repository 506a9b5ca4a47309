"""Channels that carry speech: telephone lines and low-rate codecs. The coding is libsndfile's, in memory.

Functions keep the length, the position in time and about the level of a waveform.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import soundfile
import soxr

from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

BAND = (300.0, 3400.0)
"""Hz that a telephone line carries (ITU-T G.712)."""
NOISE_DB = 20.0
"""Level of the speech over that of white noise within the same band."""
OPUS_KBIT = (8.0, 256.0)
"""Rates in kbit/s that libsndfile sets for one channel."""
_LINE_RATE = 8_000
_LINE_CODINGS = {"g711": "ULAW", "gsm": "GSM610"}
_PEAK = 0.5
"""Peak of the coded waveform: the precision of codecs depends on the level."""

LineCoding = Literal["g711", "gsm"]
"""Mu-law (ITU-T G.711, 64 kbit/s), or GSM 06.10 full rate (13 kbit/s)."""


def by_telephone(pcm: Pcm, seed: int) -> Pcm:
    """Return a waveform, float32 ``[S]`` at 16 kHz, as a noisy analogue telephone line gives it."""
    speech = _in_band(pcm)
    noise = _in_band(np.random.default_rng(seed).standard_normal(len(pcm)))
    gain = np.sqrt(np.square(speech).mean() / max(float(np.square(noise).mean()), 1e-20)) * 10 ** (-NOISE_DB / 20)
    return np.asarray(speech + gain * noise, np.float32)


def telephone(pcm: Pcm, coding: LineCoding) -> Pcm:
    """Return a waveform ``[S]`` after a digital telephone: limited to `BAND`, sampled at 8 kHz and coded."""
    line = soxr.resample(_in_band(pcm), SAMPLE_RATE, _LINE_RATE)
    there = _coded(line, _LINE_RATE, format="WAV", subtype=_LINE_CODINGS[coding])
    return _cut(soxr.resample(there, _LINE_RATE, SAMPLE_RATE), len(pcm))


def opus(pcm: Pcm, kbit: float) -> Pcm:
    """Return a waveform ``[S]`` after Opus at a rate within `OPUS_KBIT`."""
    # libsndfile maps the compression level linearly to rates from 256 down to 6 kbit/s.
    level = (256.0 - kbit) / 250.0
    return _cut(_coded(pcm, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level), len(pcm))


def mp3(pcm: Pcm, compression: float) -> Pcm:
    """Return a waveform ``[S]`` after MP3 at a variable rate.

    Args:
        pcm: waveform.
        compression: from 0 (best) to below 1; 0.5 is about 20 kbit/s, 0.9 about 12 kbit/s for one voice at 16 kHz.
    """
    # At constant rates below 40 kbit/s LAME writes no header with the delay, and the result would lag by 69 ms.
    coded = _coded(
        pcm,
        SAMPLE_RATE,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE",
        compression_level=compression,
    )
    return _cut(coded, len(pcm))


def _in_band(signal: np.ndarray) -> np.ndarray:
    frequencies = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)
    carried = (frequencies >= BAND[0]) & (frequencies <= BAND[1])
    return np.fft.irfft(np.fft.rfft(signal) * carried, len(signal))


def _coded(signal: np.ndarray, rate: int, **coding: str | float) -> np.ndarray:
    """Return a waveform after coding and decoding, at its level."""
    gain = _PEAK / max(float(np.abs(signal).max(initial=0.0)), 1e-9)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", samplerate=rate, channels=1, **coding) as encoder:
        encoder.write(signal * gain)
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0] / gain)


def _cut(signal: np.ndarray, samples: int) -> Pcm:
    """Return a waveform of this length: codecs fill their last frame, or leave some samples out."""
    return np.asarray(np.pad(signal[:samples], (0, max(0, samples - len(signal)))), np.float32)
