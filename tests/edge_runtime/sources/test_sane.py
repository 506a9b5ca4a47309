"""Floating-point samples that are no audio are recognised: integers, NaN and infinity."""

import numpy as np
import pytest

from tests.edge_runtime.sources.sounds import Heard, encoded, sound


@pytest.mark.parametrize("pipe", [True, False], ids=["pipe", "file"])
@pytest.mark.parametrize("full", [2.0**15, 2.0**23, 2.0**31])
@pytest.mark.parametrize("whole", [True, False], ids=["integers", "fractions"])
def test_integers_in_floating_point_samples_are_scaled(full, whole, pipe):
    # Loud enough that the least scale that holds it is the right one.
    samples = sound() / np.abs(sound()).max() * 0.9
    stored = np.rint(samples * full) if whole else samples * full
    heard = Heard(encoded(stored.astype("f8"), subtype="FLOAT"), pipe=pipe)
    assert heard.error == ""
    assert np.abs(heard.pcm - samples).max() < 1e-3
    assert len(heard.notices) == 1
    assert "are integers" in heard.notices[0]


def test_integers_after_silence_and_faint_noise():
    quiet = np.rint(np.random.default_rng(0).normal(size=16_000))
    stored = np.concatenate([np.zeros(8_000), quiet, sound() * 32768])
    heard = Heard(encoded(stored, subtype="FLOAT"))
    assert np.abs(heard.pcm).max() < 1.0
    assert np.abs(heard.pcm[8_000:24_000]).max() < 1e-3


@pytest.mark.parametrize("gain", [0.01, 1.0, 3.0])
def test_floating_point_audio_is_left_as_it_is(gain):
    stored = (sound() * gain * 2).astype("f4")
    heard = Heard(encoded(stored, subtype="FLOAT"))
    assert heard.notices == []
    assert np.array_equal(heard.pcm, stored)


def test_each_file_of_a_stream_by_itself():
    heard = Heard(encoded(sound() * 32768, subtype="FLOAT") + encoded(sound(), subtype="FLOAT"))
    assert np.abs(heard.pcm[:48_000] - sound()).max() < 1e-3
    assert np.array_equal(heard.pcm[48_000:], sound())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_samples_that_are_no_numbers_are_replaced_and_reported_once(value, rate):
    stored = sound(3.0, rate)
    stored[1_000:2_000:3] = value
    stored[-500] = value
    heard = Heard(encoded(stored, rate, subtype="FLOAT"))
    assert heard.error == ""
    assert np.isfinite(heard.pcm).all()
    assert np.abs(heard.pcm).max() < 1.0
    assert len([each for each in heard.notices if "not numbers" in each]) == 1
