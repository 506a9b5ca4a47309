"""What augmentation does to a waveform, and what it leaves alone."""

import numpy as np
import pytest

from distill.speech.augmentation import Augmentation, augment
from tests.conftest import tone

ALWAYS = {"chance": 1.0}


def random(seed=0):
    return np.random.default_rng(seed)


def test_the_same_draw_gives_the_same():
    how = Augmentation(speed=0.2, equaliser_db=6, room_seconds=0.3, noise_db=5, **ALWAYS)
    first, again, other = (augment(tone(1.0), how, random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    pcm = tone(1.0)
    assert np.array_equal(augment(pcm, Augmentation(), random()), pcm)


def test_speed_changes_pitch_and_length_within_its_bounds():
    lengths = []
    for seed in range(30):
        pcm = augment(tone(2.0, frequency=400), Augmentation(speed=0.2), random(seed))
        lengths.append(len(pcm) / 32_000)
        strongest = np.abs(np.fft.rfft(pcm)).argmax() * 16_000 / len(pcm)
        assert strongest * lengths[-1] == pytest.approx(400, rel=0.01)
    assert 1 / 1.2 - 1e-3 < min(lengths) < 0.9
    assert 1.1 < max(lengths) < 1.2 + 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_as_loud_as_was_asked_for(seed):
    pcm = tone(2.0)
    noise = augment(pcm, Augmentation(noise_db=10, **ALWAYS), random(seed)) - pcm
    ratio = 10 * np.log10(np.square(pcm).mean() / np.square(noise).mean())
    assert 10 - 0.1 < ratio < 35 + 0.1


def test_the_equaliser_moves_bands_by_no_more_than_it_may():
    pcm = random().standard_normal(16_000).astype(np.float32)
    for seed in range(5):
        other = augment(pcm, Augmentation(equaliser_db=6, **ALWAYS), random(seed))
        gain = 20 * np.log10(np.abs(np.fft.rfft(other)) / np.abs(np.fft.rfft(pcm)))
        assert 2 < np.abs(gain).max() < 6.01


def test_a_room_rings_on_after_a_click():
    click = np.zeros(16_000, np.float32)
    click[1000] = 1.0
    reverberant = augment(click, Augmentation(room_seconds=0.5, **ALWAYS), random(3))
    assert reverberant[1000] == pytest.approx(1.0, abs=1e-3)
    assert not reverberant[:999].any() or np.abs(reverberant[:999]).max() < 1e-6
    early, late = np.square(reverberant[1001:2000]).sum(), np.square(reverberant[9500:]).sum()
    assert early > 1000 * late > 0 or late == 0


@pytest.mark.parametrize("wrong", [{"speed": 0.6}, {"noise_db": 99}, {"chance": 2}, {"pitch": 1}])
def test_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
