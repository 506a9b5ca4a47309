"""Offsets and rumble are removed where they are strong; all else passes bit by bit."""

import tracemalloc

import numpy as np
import pytest
import soundfile
from scipy import signal

from edge_runtime.sources.audio import SAMPLE_RATE, read_audio
from edge_runtime.sources.low_frequencies import OffsetRemoval, RumbleRemoval, _high_pass, without_low_frequencies
from tests.laid_out import in_blocks
from tests.sounds import rumble


@pytest.fixture(scope="module")
def speech(clip):
    return read_audio(clip)


def later(pcm):
    return pcm[3 * SAMPLE_RATE :]


@pytest.mark.parametrize("removal", [OffsetRemoval, RumbleRemoval])
@pytest.mark.parametrize("offset", [0.0, 0.002])
@pytest.mark.parametrize("weak", [0.0, 0.02])
def test_speech_passes_bit_by_bit(speech, removal, offset, weak):
    pcm = speech + np.float32(offset) + np.float32(weak) * rumble(len(speech))
    using = removal()
    assert np.array_equal(np.concatenate([using.remove(block.pcm) for block in in_blocks(pcm)]), pcm)
    assert not using.found
    assert without_low_frequencies(pcm) is pcm


@pytest.mark.parametrize("frequency", [70.0, 90.0])
def test_a_low_voice_is_no_rumble(frequency):
    seconds = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    pcm = sum(np.sin(2 * np.pi * frequency * k * seconds) / k for k in range(1, 6)).astype(np.float32) * 0.1
    assert without_low_frequencies(pcm) is pcm


def test_strong_rumble_is_removed_and_speech_stays(speech):
    found = without_low_frequencies(speech + rumble(len(speech)))
    rest = later(found) - later(signal.sosfilt(SECTIONS, speech))
    assert np.sqrt(np.mean(rest**2)) < 0.1 * np.sqrt(np.mean(later(rumble(len(speech))) ** 2))
    assert np.corrcoef(later(found), later(speech))[0, 1] > 0.85


SECTIONS = signal.butter(4, 60, "high", fs=SAMPLE_RATE, output="sos")


def test_the_high_pass_is_the_butterworth_filter():
    impulse = np.zeros(2048)
    impulse[0] = 1
    assert _high_pass() == pytest.approx(signal.sosfilt(SECTIONS, impulse), abs=1e-6)


def test_the_sizes_of_blocks_change_nothing_once_it_works(speech):
    noisy = speech + rumble(len(speech))
    ways = []
    for size in (1_600, 777):
        using = RumbleRemoval()
        using.remove(noisy[:48_000])
        assert using.found
        rest = noisy[48_000:]
        ways.append(np.concatenate([using.remove(rest[n : n + size]) for n in range(0, len(rest), size)]))
    assert ways[0] == pytest.approx(ways[1], abs=1e-5)


def test_a_block_of_a_minute_is_measured_in_seconds(speech):
    """In one piece its products would take gigabytes."""
    minute = np.resize(speech, 60 * SAMPLE_RATE)
    for pcm, found in ((minute, False), (minute + rumble(len(minute)), True)):
        removal = RumbleRemoval()
        tracemalloc.start()
        removal.remove(pcm)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert removal.found == found
        assert peak < 300e6


def test_training_gets_what_the_device_processes(speech, tmp_path):
    noisy = speech + rumble(len(speech)) + np.float32(0.1)
    soundfile.write(tmp_path / "x.wav", noisy, SAMPLE_RATE, subtype="FLOAT")
    offset, low = OffsetRemoval(), RumbleRemoval()
    streamed = np.concatenate([low.remove(offset.remove(block.pcm)) for block in in_blocks(noisy)])
    assert read_audio(tmp_path / "x.wav") == pytest.approx(streamed, abs=1e-6)
    assert offset.found
    assert low.found
