"""Matching of events and utterances, response times and limits of the soak test."""

import numpy as np
import pytest

from benchmarks.bench.accuracy.playback import EventLog, Playlist, match, response_times, sounding
from benchmarks.lab.soak import ARRAY, LIMITS, ArrayChannels, beyond_limits, through_file
from tests.benchmarks.test_streaming import event as final
from tests.conftest import tone


def spans(count=100):
    noise = np.random.default_rng(0)
    starts = np.cumsum(noise.uniform(3, 6, count))
    ends = starts + noise.uniform(1, 2, count)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def finals_of(played, offsets):
    return [final(start + by - 0.2, end + by + 0.2) for (start, end), by in zip(played, offsets, strict=True)]


def test_a_player_that_is_late_now_and_then_is_followed():
    played = spans()
    offsets = 3.7 + 1.3 * (np.arange(100) // 20)
    found = match(played, finals_of(played, offsets))
    assert list(found.events) == list(range(100))
    assert np.abs(found.offsets - offsets).max() < 0.05


def test_more_events_than_utterances_do_not_confuse_it():
    """A pause within an utterance may give two events."""
    played = spans()
    finals = finals_of(played, [5.0] * 100)
    split = finals[50]
    middle = (split.start + split.end) / 2
    finals[50:51] = [final(split.start, middle - 0.1), final(middle + 0.1, split.end)]
    assert match(played, finals).detected == 100


def test_an_undetected_utterance_is_missed():
    played = spans()
    finals = [event for index, event in enumerate(finals_of(played, [1.3] * 100)) if index % 10 != 4]
    found = match(played, finals)
    assert [index for index, at in enumerate(found.events) if at < 0] == list(range(4, 100, 10))
    assert match(spans(), []).detected == 0


def test_response_is_from_the_end_of_the_sound():
    playlist = Playlist([], 0, spans=spans())
    log = EventLog()
    for start, end in playlist.spans:
        event = final(start + 2.5 - 0.2, end + 2.5 + 0.2)
        # Sample 0 was captured at 1000; silence was over 0.6 s after the end, the event out 50 ms later.
        event = event.model_copy(update={"latency_ms": 50.0})
        log.events.append((1000 + end + 2.5 + 0.6 + 0.05, event))
    found = match(playlist.spans, [event for _, event in log.events])
    assert response_times(playlist, log, found) == pytest.approx([0.65] * 100, abs=0.02)


def test_sound_is_found_between_silences():
    pcm = np.concatenate([np.zeros(8_000, np.float32), tone(1.0), np.full(4_000, 1e-4, np.float32)])
    first, last = sounding(pcm)
    assert first == pytest.approx(8_000, abs=640)
    assert last == pytest.approx(24_000, abs=640)
    assert sounding(np.zeros(1_000, np.float32)) == (0, 1_000)


def test_the_same_seed_plays_the_same(clip):
    first, second = (Playlist([clip], 3) for _ in range(2))
    for ours, theirs in zip(first.audio(30), second.audio(30), strict=True):
        assert np.array_equal(ours, theirs)
    assert first.spans == second.spans


def test_a_file_is_processed_faster_than_real_time_and_without_loss(bundle_dir, corpus_dir):
    paths = sorted((corpus_dir / "r02").glob("*.flac"))[:4]
    figures = through_file(bundle_dir, paths, 1.0, [], 0)
    assert figures["detected"] == figures["utterances"] >= 10
    assert figures["times_real_time"] > 5


def test_what_is_beyond_its_limit_is_named():
    good = {name: limit / 2 for name, limit in LIMITS.items()} | {"utterances": 10, "detected": 10}
    assert beyond_limits(good) == []
    for name, limit in LIMITS.items():
        (exceeded,) = beyond_limits(good | {name: -1.5 * limit if "clock" in name else 1.5 * limit + 1})
        assert exceeded.startswith(name)
    assert beyond_limits(good | {"detected": 9}) == ["1 utterances were not detected"]


def test_the_channels_of_an_array():
    speech = tone(1.0, frequency=1000.0)
    whole, split = ArrayChannels(), ArrayChannels()
    found = whole(speech)
    assert found.shape[1] == ARRAY
    pieces = np.concatenate([split(speech[:5_000]), split(speech[5_000:])])
    assert pieces == pytest.approx(found, abs=1e-6)
    # Speech on four, a little later and weaker on each; something else on the others.
    assert found[5:40_000, 1] == pytest.approx(0.9 * found[: 40_000 - 5, 0])
    likeness = np.corrcoef(found[:40_000].T)[0]
    assert (np.abs(likeness[4:]) < 0.1).all()
