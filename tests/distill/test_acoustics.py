"""Simulated acoustics, measured by their parameters."""

import numpy as np
import pytest

from distill.speech.acoustics import (
    active_level,
    add_noise,
    amplified,
    babble,
    clipped,
    in_room,
    pink_noise,
    room_response,
    white_noise,
)
from edge_runtime.sources.audio import SAMPLE_RATE
from tests.conftest import tone


def rms_db(signal):
    return 10 * np.log10(np.square(signal, dtype=np.float64).mean())


def random(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("loudness", [1.0, 0.001])
def test_the_active_level_is_that_of_the_speech_alone(loudness):
    """A steady sound has its RMS; silence around it, which lowers the RMS by 6 dB, changes little."""
    sound = white_noise(4 * SAMPLE_RATE, random()) * 0.1 * loudness
    alone = active_level(sound)
    assert alone == pytest.approx(rms_db(sound), abs=0.1)
    between = np.concatenate([np.zeros(6 * SAMPLE_RATE), sound, np.zeros(6 * SAMPLE_RATE)])
    assert rms_db(between) == pytest.approx(alone - 6, abs=0.1)
    # The envelope's decay and the hangover of 0.2 s count as speech.
    assert active_level(between) == pytest.approx(alone, abs=0.5)


def test_levels_of_pauses_clicks_and_silence():
    word = np.concatenate([tone(0.3), np.zeros(SAMPLE_RATE // 10, np.float32)])
    sentence = np.tile(word, 10)
    assert active_level(sentence) == pytest.approx(rms_db(sentence), abs=0.3)
    assert all(np.isfinite(active_level(np.full(samples, 0.5, np.float32))) for samples in (1, 100))
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert active_level(silence) == -np.inf
    np.testing.assert_array_equal(add_noise(silence, white_noise(SAMPLE_RATE, random()), 0.0), silence)


@pytest.mark.parametrize("ratio", [20.0, 0.0, -5.0])
def test_noise_has_the_level_of_the_ratio(ratio):
    speech = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), tone(1.0), np.zeros(SAMPLE_RATE, np.float32)])
    noisy = add_noise(speech, pink_noise(len(speech), random()), ratio)
    assert noisy.dtype == np.float32
    assert active_level(speech) - rms_db(noisy - speech) == pytest.approx(ratio, abs=0.01)


def test_pink_noise_falls_by_three_decibels_an_octave():
    power = np.square(np.abs(np.fft.rfft(pink_noise(60 * SAMPLE_RATE, random()))))
    hertz = np.fft.rfftfreq(60 * SAMPLE_RATE, 1 / SAMPLE_RATE)
    octaves = [10 * np.log10(power[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (125, 250, 500, 1000, 2000)]
    np.testing.assert_allclose(np.diff(octaves), -3.01, atol=0.3)
    assert rms_db(pink_noise(SAMPLE_RATE, random())) == pytest.approx(0, abs=1e-6)


def test_talkers_of_babble_have_the_same_level():
    talkers = [tone(0.5, frequency=300.0), 0.01 * tone(0.7, frequency=700.0), np.zeros(100, np.float32)]
    mixed = babble(4 * SAMPLE_RATE, talkers, random())
    spectrum = np.abs(np.fft.rfft(mixed))
    hertz = np.fft.rfftfreq(len(mixed), 1 / SAMPLE_RATE)
    loud = [spectrum[np.abs(hertz - frequency) < 10].max() for frequency in (300, 700)]
    assert loud[0] == pytest.approx(loud[1], rel=0.25)
    assert np.abs(mixed[-SAMPLE_RATE:]).max() > 0.5
    with pytest.raises(ValueError, match="not silent"):
        babble(100, talkers[2:], random())


@pytest.mark.parametrize(("seconds", "direct_db"), [(0.3, 5.0), (1.0, -6.0)])
def test_a_room_has_the_reverberation_that_it_is_asked_for(seconds, direct_db):
    response = room_response(seconds, direct_db, random(1))
    energy = np.square(response)
    assert energy.sum() == pytest.approx(1)
    direct = round(0.0025 * SAMPLE_RATE)
    assert 10 * np.log10(energy[:direct].sum() / energy[direct:].sum()) == pytest.approx(direct_db, abs=0.01)
    # Schroeder's integral of the tail, from -5 to -25 dB, as ISO 3382 measures T20.
    decay = 10 * np.log10(np.cumsum(energy[direct + 1 :][::-1])[::-1] / energy[direct + 1 :].sum())
    from_5, from_25 = (int(np.argmax(decay <= level)) for level in (-5, -25))
    assert 3 * (from_25 - from_5) / SAMPLE_RATE == pytest.approx(seconds, rel=0.05)


def test_a_room_keeps_length_and_about_the_level():
    speech = white_noise(SAMPLE_RATE, random(2)).astype(np.float32) * 0.1
    there = in_room(speech, room_response(0.6, 0.0, random()))
    assert there.shape == speech.shape
    assert there.dtype == np.float32
    assert rms_db(there) == pytest.approx(rms_db(speech), abs=3)
    assert not np.allclose(there, speech, atol=0.01)


def test_a_converter_has_steps_and_an_end_and_clips_the_given_share():
    quiet = amplified(tone(0.1), -40.0)
    np.testing.assert_array_equal(quiet * 32768, np.round(quiet * 32768))
    assert rms_db(quiet) == pytest.approx(rms_db(tone(0.1)) - 40, abs=0.1)
    loud = amplified(tone(0.1), 40.0)
    assert loud.max() < 1
    assert loud.min() == -1
    speech = tone(0.5)
    flat = clipped(speech, 0.1)
    assert np.mean(np.abs(flat) == np.abs(flat).max()) == pytest.approx(0.1, abs=0.01)
    kept = np.abs(speech) < np.abs(flat).max()
    np.testing.assert_array_equal(flat[kept], speech[kept])
