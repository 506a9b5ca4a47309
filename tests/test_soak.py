"""What the soak says of what was played and heard."""

import numpy as np
import pytest

from benchmarks.soak import LIMITS, Playlist, beyond_limits, match, sounding, through_file
from edge_runtime.events import EmotionEvent
from tests.conftest import tone


def final(start, end):
    return EmotionEvent(
        type="final",
        start=start,
        end=end,
        label="calm",
        probabilities={"calm": 1.0},
        confidence=1.0,
        uncertain=False,
        latency_ms=1.0,
        windows=1,
        speech_ratio=1.0,
        dropped_samples=0,
        model="",
        backend="",
    )


def spans(count=100):
    noise = np.random.default_rng(0)
    starts = np.cumsum(noise.uniform(3, 6, count))
    return [
        (float(start), float(start + length)) for start, length in zip(starts, noise.uniform(1, 2, count), strict=True)
    ]


@pytest.mark.parametrize("drift", [0.0, 0.002, -0.01])
def test_drift_and_offset_are_told_apart(drift):
    played = spans()
    heard = [final(3.7 + start * (1 + drift) - 0.2, 3.7 + end * (1 + drift) + 0.2) for start, end in played]
    found, measured = match(played, heard)
    assert list(found) == list(range(len(played)))
    assert measured == pytest.approx(drift, abs=2e-4)


def test_an_utterance_that_nobody_heard_is_missed():
    played = spans()
    heard = [final(start + 1.1, end + 1.4) for index, (start, end) in enumerate(played) if index % 10 != 4]
    found, _ = match(played, heard)
    assert [index for index, at in enumerate(found) if at < 0] == list(range(4, 100, 10))


def test_nothing_heard():
    found, drift = match(spans(), [])
    assert set(found) == {-1}
    assert drift == 0


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


def test_a_file_is_heard_faster_than_real_time_and_without_loss(bundle_dir, corpus_dir):
    paths = sorted((corpus_dir / "r02").glob("*.flac"))[:4]
    figures = through_file(bundle_dir, paths, 1.0, [], 0)
    assert figures["heard"] == figures["utterances"] >= 10
    assert abs(figures["clock_drift"]) < 0.01
    assert figures["times_real_time"] > 5


def test_what_is_beyond_its_limit_is_named():
    good = {name: limit / 2 for name, limit in LIMITS.items()} | {"utterances": 10, "heard": 10}
    assert beyond_limits(good) == []
    for name, limit in LIMITS.items():
        (told,) = beyond_limits(good | {name: -1.5 * limit if "clock" in name else 1.5 * limit + 1})
        assert told.startswith(name)
    assert beyond_limits(good | {"heard": 9}) == ["1 utterances were not heard"]
