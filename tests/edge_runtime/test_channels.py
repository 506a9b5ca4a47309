"""Which of several channels are heard: those with speech, or those that the settings name."""

import json
import time

import numpy as np
import pytest
import soundfile
import soxr

from edge_runtime import ListenSettings, load, score_file
from edge_runtime.config import VadSettings
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.channel_setting import check_channels, parse_channels
from edge_runtime.sources.channels import ChannelSelector
from edge_runtime.sources.file import FileSource
from tests.conftest import invoke
from tests.sounds import hum, music, noise

RATE = 16_000


@pytest.fixture(scope="module")
def speech(clip):
    return read_audio(clip)


@pytest.fixture(scope="module")
def other(corpus_dir):
    """Another speaker, as long as `speech`."""
    parts = [read_audio(path) for path in sorted((corpus_dir / "r02").glob("*.flac"))[6:14]]
    return np.resize(np.concatenate(parts), 9 * RATE).astype(np.float32)


def late(signal, samples):
    return np.concatenate([np.zeros(samples, np.float32), signal[:-samples]])


def heard(columns, choice="auto", rate=RATE, size=None):
    """Return what is heard of channels, the channels at the end, and the reports with their blocks' seconds."""
    frames = np.stack(columns, axis=1).astype(np.float32)
    selector = ChannelSelector(choice, len(columns), rate)
    parts, reports = [], []
    size = size or rate // 10
    for start in range(0, len(frames), size):
        parts.append(selector.select(frames[start : start + size], last=start + size >= len(frames)))
        if report := selector.report():
            reports.append((start / rate, report))
    pcm = np.concatenate(parts)
    assert len(pcm) == len(frames)
    return pcm, selector.used, reports


def likeness(one, two):
    """Return the correlation of two signals after the first three seconds, in which channels are being chosen."""
    return float(np.corrcoef(one[3 * RATE :], two[3 * RATE :])[0, 1])


def _tone(frequency, count):
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(count) / RATE)).astype(np.float32)


class TestStereo:
    @pytest.mark.parametrize("gain", [1.0, 0.3])
    def test_the_mean_of_what_is_the_same(self, speech, gain):
        columns = [speech, gain * speech]
        assert np.array_equal(heard(columns)[0], np.stack(columns, axis=1).mean(axis=1))

    def test_the_mean_of_two_microphones_near_each_other(self, speech):
        columns = [speech + noise(len(speech), -70), 0.7 * late(speech, 4) + noise(len(speech), -70, seed=1)]
        assert np.array_equal(heard(columns)[0], np.stack(columns, axis=1).mean(axis=1))

    def test_opposite_phase(self, speech):
        pcm, used, reports = heard([speech, -speech])
        assert np.abs(pcm - speech).max() < 1e-6
        assert used == (0, 1)
        assert reports[0][1] == "channels 0-1 of 2 are used: 1 is in opposite phase and is inverted"

    @pytest.mark.parametrize("first", [True, False], ids=["first half", "second half"])
    def test_opposite_phase_in_one_half(self, speech, first):
        """Three seconds of evidence for the other phase do not silence the next ones."""
        voice = np.concatenate([speech, speech, speech])
        half = np.arange(len(voice)) < len(voice) // 2
        pcm, _, reports = heard([voice, np.where(half == first, -voice, voice)])
        assert likeness(pcm, voice) > 0.97
        assert sum("opposite" in report for _, report in reports) == 1

    def test_opposite_phase_after_a_pause(self, speech):
        """In a pause with noise of their own, nothing speaks for a phase; it stays as it was."""
        pause = np.zeros(5 * RATE, np.float32)
        voice = np.concatenate([speech, pause, speech])
        columns = [voice + noise(len(voice), -60), noise(len(voice), -60, seed=1) - voice]
        pcm, _, reports = heard(columns)
        assert likeness(pcm, voice) > 0.95
        assert sum("opposite" in report for _, report in reports) == 1

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (lambda n: np.zeros(n, np.float32), "is silent"),
            (hum, "hums"),
            (lambda n: hum(n, 60), "hums"),
            (lambda n: _tone(50, n), "hums"),
            (lambda n: _tone(50, n) + _tone(150, n) / 3, "hums"),
            (lambda n: noise(n, -30), "is only noise"),
        ],
        ids=["silent", "50 Hz", "60 Hz", "50 Hz alone", "50 Hz and 150 Hz", "noise"],
    )
    @pytest.mark.parametrize("at", [0, 1])
    def test_a_channel_without_speech(self, speech, bad, why, at):
        columns = [speech + noise(len(speech), -70), bad(len(speech))]
        pcm, used, reports = heard(columns if at else columns[::-1])
        assert used == (1 - at,)
        assert likeness(pcm, columns[0]) > 0.999
        assert f"channel {1 - at} of 2 is used: {at} {why}" in [report for _, report in reports]

    def test_both_speakers_of_a_call(self, speech, other):
        """Each on a channel of its own, one after the other: neither is lost, not even where the second begins."""
        rest = np.zeros_like(speech)
        pcm, _, _ = heard([np.concatenate([speech, rest, speech]), np.concatenate([rest, other, rest])])
        whole = np.concatenate([speech, other, speech])
        # At half the level or more, as in the mean of both, but for 20 ms at each change.
        assert (np.abs(pcm) >= 0.49 * np.abs(whole)).mean() > 0.998

    def test_speakers_at_once_are_both_heard(self, speech, other):
        assert heard([speech, other])[1] == (0, 1)


class TestArrays:
    @pytest.mark.parametrize("count", [4, 6, 8])
    def test_one_good_channel(self, speech, count):
        bad = [lambda n: np.zeros(n, np.float32), hum, lambda n: noise(n, -40), lambda n: hum(n, 60)]
        columns = [bad[number % 4](len(speech)) for number in range(count)]
        columns[2] = speech
        pcm, used, reports = heard(columns)
        assert used == (2,)
        assert likeness(pcm, speech) > 0.999
        assert reports[-1][1].startswith(f"channel 2 of {count} is used: 0")

    @pytest.mark.parametrize("loud", [0.5, 3.0])
    def test_playback_of_music_on_most_channels(self, speech, loud):
        played = loud * music(len(speech))
        pcm, used, _ = heard([speech, played, played, played, played, speech])
        assert used == (0, 5)
        assert likeness(pcm, speech) > 0.999

    def test_playback_of_speech_on_the_last_channel(self, speech, other):
        """As of an array of microphones with a loopback channel."""
        columns = [*(gain * speech for gain in (1.0, 0.8, 0.7, 0.9, 1.0)), other]
        columns = [each + noise(len(speech), -60, seed) for seed, each in enumerate(columns)]
        pcm, used, reports = heard(columns)
        assert used == (0, 1, 2, 3, 4)
        assert likeness(pcm, np.mean(columns[:5], axis=0)) > 0.95
        assert reports[-1][1] == "channels 0-4 of 6 are used: 5 differs"

    def test_delays_that_would_take_high_frequencies_from_a_mean(self, speech, other):
        """The loudest microphone alone, in pauses too; Silero VAD missed quiet utterances in the mean."""
        pause = np.zeros(5 * RATE, np.float32)
        voice, played = (np.concatenate([each, pause, each]) for each in (speech, other))
        room = [gain * late(voice, delay) for gain, delay in ((0.7, 2), (0.8, 4), (1.0, 1), (0.6, 5))]
        columns = [each + noise(len(voice), -70, seed) for seed, each in enumerate([*room, played])]
        pcm, used, reports = heard(columns)
        assert used == (2,)
        assert likeness(pcm, columns[2]) > 0.99
        assert reports[-1][1] == "channel 2 of 5 is used: 0-1, 3 differ in delay, 4 differs"
        assert not [report for begin, report in reports if begin > 3]

    def test_the_one_that_stands_for_them_fades_out_first(self, speech):
        """No change of channels for the half second in which only a weaker one is not silent."""
        rest = np.random.default_rng(0).integers(-2, 3, RATE // 2) / 32_768
        columns = [
            np.tile(np.concatenate([gain * late(speech[: 4 * RATE], delay), left, np.zeros(RATE)]), 4)
            for gain, delay, left in ((1.0, 1, 0 * rest), (0.7, 2, rest), (0.8, 4, 0 * rest), (0.6, 5, 0 * rest))
        ]
        _, used, reports = heard([*columns, hum(len(columns[0]))])
        assert used == (0,)
        assert not [report for begin, report in reports if begin > 3]

    def test_noise_of_their_own_is_no_delay(self, speech):
        """A mean weakens it, in high frequencies above all."""
        columns = [speech + noise(len(speech), -45, seed) for seed in range(4)]
        assert heard(columns)[1] == (0, 1, 2, 3)

    def test_one_inverted_microphone(self, speech):
        pcm, used, _ = heard([speech, -speech, late(speech, 1), speech])
        assert used == (0, 1, 2, 3)
        assert likeness(pcm, speech) > 0.95

    def test_a_microphone_that_dies(self, speech):
        """The others alone are used a second later, and there is no click."""
        half = len(speech) // 2
        dying = np.where(np.arange(len(speech)) < half, speech, np.float32(0))
        pcm, used, reports = heard([dying, speech, late(speech, 1)])
        assert used == (1, 2)
        begin, report = reports[-1]
        assert report == "channels 1-2 of 3 are used: 0 is silent"
        assert half / RATE <= begin <= half / RATE + 1.5
        assert np.abs(np.diff(pcm)).max() <= 1.01 * np.abs(np.diff(speech)).max()

    def test_pauses_of_a_gated_array_are_not_filled_with_hum_and_music(self, speech):
        """Its microphones are digitally silent between utterances."""
        pause = np.zeros(2 * RATE, np.float32)
        gated = np.concatenate([speech, pause, speech, pause, speech])
        pcm, used, reports = heard([gated, late(gated, 1), hum(len(gated)), music(len(gated))])
        assert used == (0, 1)
        assert not [report for begin, report in reports if begin > 3]
        assert likeness(pcm, gated) > 0.95
        for start in (len(speech), 2 * len(speech) + len(pause)):
            assert np.abs(pcm[start + 10 : start + len(pause)]).max() == 0

    def test_weak_channels_that_fade_out_first_are_no_dead_ones(self, speech):
        """At 16 bits, the rest of a fade is left on the strongest channel alone, for less than a second."""
        rest = np.random.default_rng(0).integers(-2, 3, 12_800) / 32_768
        columns = [
            np.tile(np.concatenate([gain * speech[: 4 * RATE], left, np.zeros(RATE)]), 3)
            for gain, left in ((1.0, rest), (0.6, 0 * rest), (0.3, 0 * rest))
        ]
        _, used, reports = heard([*columns, hum(len(columns[0]))])
        assert used == (0, 1, 2)
        assert not [report for begin, report in reports if begin > 3]

    def test_the_only_microphone_that_dies(self, speech):
        half = len(speech) // 2
        dying = np.where(np.arange(len(speech)) < half, speech, np.float32(0))
        coming = np.where(np.arange(len(speech)) < half, np.float32(0), speech)
        pcm, used, _ = heard([dying, hum(len(speech)), noise(len(speech), -60), coming])
        assert used == (3,)
        # At first together with the channel that has noise only.
        for seconds, least in ((0.5, 0.9), (2.5, 0.999)):
            at = half + round(seconds * RATE)
            assert np.corrcoef(pcm[at:], speech[at:])[0, 1] > least


class TestSteps:
    @pytest.mark.parametrize("size", [1, 333, 1_600, 7_919, 200_000])
    def test_the_sizes_of_blocks_change_nothing(self, speech, other, size):
        short = slice(0, 40_000 if size == 1 else len(speech))
        columns = [speech[short], other[short], hum(len(speech))[short]]
        assert np.array_equal(heard(columns, size=size)[0], heard(columns)[0])

    @pytest.mark.parametrize("samples", [0, 1, 1_599, 1_600, 1_601, 15_999, 16_000, 16_001])
    def test_short_ones_lose_nothing(self, speech, samples):
        columns = np.stack([speech, speech], axis=1)[:samples]
        assert np.array_equal(ChannelSelector("auto", 2, RATE).select(columns, last=True), columns[:, 0])

    def test_a_change_has_no_step(self):
        """From two constant levels to one of them, in 20 ms."""
        samples = 4 * RATE
        carrier = noise(samples, -60) + np.float32(0.5)
        dying = np.where(np.arange(samples) < 2 * RATE, carrier, np.float32(0))
        pcm, used, _ = heard([carrier, dying])
        assert used == (0,)
        after = pcm[2 * RATE + 1_600 :]
        assert after[-1] == pytest.approx(0.5, abs=0.01)
        assert np.abs(np.diff(after)).max() < 0.02

    def test_what_is_not_a_number_disturbs_nothing(self, speech):
        first, second = speech.copy(), np.zeros_like(speech)
        first[50_000], first[60_000], second[70_000] = np.nan, np.inf, 3e38
        with np.errstate(all="raise", under="ignore"):
            pcm, used, _ = heard([first, second])
        assert used == (0,)
        assert np.isfinite(pcm[80_000:]).all()

    def test_one_channel_is_left_as_it_is(self, speech):
        pcm, used, reports = heard([speech])
        assert np.array_equal(pcm, speech)
        assert (used, reports) == ((0,), [])

    def test_the_processor_time_of_six_channels(self, speech, other):
        """Less than 3 % of a core at 48 kHz, 1.3 % on an idle one, with a playback channel that is often examined."""
        voice, played = (soxr.resample(each, RATE, 48_000).astype(np.float32) for each in (speech, other))
        columns = [voice + noise(len(voice), -60, seed) for seed in range(4)] + [hum(len(voice), 50, 48_000), played]
        shares = []
        for _ in range(3):
            before = time.thread_time()
            heard(columns, rate=48_000)
            shares.append((time.thread_time() - before) / (len(voice) / 48_000))
        assert min(shares) < 0.03


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ("auto", "auto"),
            ("MIX", "mix"),
            ("left", (0,)),
            ("right", (1,)),
            ("0", (0,)),
            ("2, 0", (0, 2)),
            (3, (3,)),
            ([0, 2], (0, 2)),
            ((1,), (1,)),
        ],
    )
    def test_forms(self, given, wanted):
        assert parse_channels(given) == wanted
        assert ListenSettings(channels=given).channels == wanted

    @pytest.mark.parametrize("given", ["", "both", "0,", "-1", "1.5", -1, 1.5, True, [], [0, -1], None, 64, {}])
    def test_none_of_the_forms(self, given):
        with pytest.raises(ValueError, match="must be auto, mix, left, right, or channel numbers"):
            parse_channels(given)

    def test_a_channel_twice(self):
        with pytest.raises(ValueError, match="must not name a channel twice"):
            parse_channels("1,1")

    def test_the_number_of_channels_is_named(self):
        with pytest.raises(WrongUseError, match=r"^x\.wav: has 2 channels, numbers 0 to 1; channel 7 cannot be chosen"):
            check_channels("x.wav", (0, 7), 2)
        with pytest.raises(WrongUseError, match=r"has 1 channel, number 0; channel 1 cannot"):
            check_channels("x.wav", (1,), 1)

    def test_named_channels(self, speech, other):
        for choice, wanted in (((0,), speech), ((1,), other), ((0, 1), (speech + other) / 2)):
            pcm, _, reports = heard([speech, other, hum(len(speech))], choice)
            assert np.allclose(pcm, wanted, atol=1e-7)
            assert len(reports) == 1
        assert reports[0][1] == "channels 0-1 of 3 are averaged, as set"

    def test_a_mean_that_cancels_is_reported_once(self, speech):
        pcm, _, reports = heard([speech, -speech], "mix")
        assert not pcm.any()
        assert reports[0][1] == "channels 0-1 of 2 are averaged, as set"
        assert len(reports) == 2
        assert "cancels most of their sound" in reports[1][1]


@pytest.fixture(scope="module")
def array_file(tmp_path_factory, speech):
    """Six channels: speech on the third only."""
    path = tmp_path_factory.mktemp("array") / "array.wav"
    played = music(len(speech))
    columns = [hum(len(speech)), played, speech, np.zeros_like(speech), played, hum(len(speech), 60)]
    soundfile.write(path, np.stack(columns, axis=1), RATE, subtype="FLOAT")
    return path


def facts(events):
    return [event.model_dump(exclude={"latency_ms", "time"}) for event in events]


class TestEvents:
    def test_a_file_at_once_is_the_file_in_blocks(self, array_file, tmp_path):
        pcm, rate = soundfile.read(array_file)
        for other_rate in (RATE, 44_100):
            path = tmp_path / f"{other_rate}.wav"
            soundfile.write(path, soxr.resample(pcm, rate, other_rate), other_rate, subtype="FLOAT")
            blocks = np.concatenate([block.pcm for block in FileSource(path).blocks()])
            whole = read_audio(path)
            assert abs(len(whole) - len(blocks)) <= 1
            shortest = min(len(whole), len(blocks))
            assert np.abs(whole[:shortest] - blocks[:shortest]).max() < 1e-4

    def test_the_command_reports_the_channels_and_hears_the_speech(self, bundle_dir, array_file, clip):
        done = invoke("listen", bundle_dir, "--source", array_file, "--json")
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        reports = [event["detail"] for event in events if event.get("status") == "channels"]
        assert reports[-1].startswith("channel 2 of 6 is used: ")
        finals = [event["label"] for event in events if event["type"] == "final"]
        assert finals == [event.label for event in score_file(clip, bundle_dir)]

    def test_opposite_phase_is_heard(self, bundle_dir, clip, speech, tmp_path):
        soundfile.write(tmp_path / "x.wav", np.stack([speech, -speech], axis=1), RATE, subtype="FLOAT")
        assert facts(score_file(tmp_path / "x.wav", bundle_dir)) == facts(score_file(clip, bundle_dir))

    def test_named_channels_of_a_file_and_an_array_agree(self, bundle_dir, array_file, clip):
        wanted = facts(score_file(clip, bundle_dir))
        assert facts(score_file(array_file, bundle_dir, ListenSettings(channels=2))) == wanted
        signal, rate = soundfile.read(array_file, dtype="float32")
        with load(bundle_dir) as model:
            assert facts(model(signal, rate, channels=[2])) == wanted
            assert facts(model(signal, rate)) == facts(score_file(array_file, model))
            with pytest.raises(WrongUseError, match="has 6 channels, numbers 0 to 5; channel 6 cannot"):
                model(signal, rate, channels=6)
            with pytest.raises(WrongUseError, match="channels = both: must be auto"):
                model.stream(rate, channels="both")

    def test_a_gap_keeps_the_channels(self, bundle_dir, array_file):
        signal, rate = soundfile.read(array_file, dtype="float32")
        with load(bundle_dir, settings=ListenSettings(vad=VadSettings(enabled=False))) as model:
            stream = model.stream(rate)
            events = stream.feed(signal[: 5 * rate]) + stream.feed(signal[5 * rate :], lost=rate) + stream.close()
        reports = [(event.status, event.start) for event in events if event.type == "status"]
        assert ("gap", 6.0) in reports
        assert all(start < 5 for status, start in reports if status == "channels")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("7", "has 6 channels, numbers 0 to 5; channel 7 cannot be chosen"),
            ("both", "--channels: must be auto, mix"),
        ],
    )
    def test_a_wrong_choice_is_one_sentence(self, bundle_dir, array_file, given, message):
        done = invoke("listen", bundle_dir, "--source", array_file, "--channels", given)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.strip().count("\n") == 0
