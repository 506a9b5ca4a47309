"""Streams on a labelled timeline: detected, split and joined utterances, delays, and false events."""

import numpy as np
import pytest
import soundfile

from benchmarks.bench.accuracy.graphs import TestPart, evaluate_bundle
from benchmarks.bench.accuracy.streaming import FinalEvent, match_events, measure_streaming, poisson_rate, score_stream
from benchmarks.bench.accuracy.timeline import NO_SPEECH, PAUSES, Stretch, Timeline
from distill.corpora import read_corpus
from distill.corpus import Utterance
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio
from tests.conftest import tone
from tests.decisions import evaluation, spoken
from tests.plain_bundles import change, first_label_graph, save_plain_bundle


def event(start, end, label="angry", *, uncertain=False):
    """Return a final event."""
    decision = {"label": label, "probabilities": {label: 1.0}, "confidence": 1.0, "uncertain": uncertain}
    more = {"latency_ms": 1.0, "windows": 1, "speech_ratio": None, "dropped_samples": 0, "model": "m", "backend": "b"}
    return EmotionEvent(type="final", start=start, end=end, **decision, **more)


def at(seconds):
    return round(seconds * SAMPLE_RATE)


ITEMS = spoken([("s0", "angry"), ("s0", "happy"), ("s1", "angry"), ("s1", "happy")])
SPOKEN = [
    # A recording of 3 s each 5 s, with sound in its middle 2 s.
    Stretch("utterance", at(5 * n + 2), at(5 * n + 5), item, at(5 * n + 2.5), at(5 * n + 4.5))
    for n, item in enumerate(ITEMS)
]
STRETCHES = [
    stretch for n, each in enumerate(SPOKEN) for stretch in (Stretch("pause", at(5 * n), at(5 * n + 2)), each)
] + [Stretch("hum", at(20), at(30))]


class TestMatching:
    def test_the_event_that_shares_most_is_the_one(self):
        matches = match_events(SPOKEN, [event(2.4, 3.0), event(3.1, 4.7), event(7.3, 9.7), event(25, 26)])
        assert matches.event.tolist() == [1, 2, -1, -1]
        assert matches.several.tolist() == [True, False, False, False]
        assert matches.last.tolist() == [1, 2, -1, -1]
        assert matches.false.tolist() == [False, False, False, True]

    def test_less_than_half_is_not_detected_but_two_pieces_may_be(self):
        assert match_events(SPOKEN, [event(2.5, 3.4)]).event.tolist() == [-1] * 4
        assert match_events(SPOKEN, [event(2.5, 3.5)]).event.tolist() == [0, -1, -1, -1]
        assert match_events(SPOKEN, [event(2.5, 3.0), event(3.9, 4.5)]).event[0] == 1

    def test_an_event_over_two_utterances_joins_them(self):
        matches = match_events(SPOKEN, [event(2.3, 9.7)])
        assert matches.event.tolist() == [0, 0, -1, -1]
        assert matches.joined.tolist() == [True, True, False, False]


class TestScoring:
    def test_figures_by_hand(self):
        clips = evaluation(ITEMS, ["angry", "happy", "angry", "angry"])
        finals = [
            FinalEvent(event(2.3, 4.7, "angry"), at(5.2)),
            FinalEvent(event(7.3, 9.7, "sad", uncertain=True), at(10.4)),
            FinalEvent(event(12.3, 14.7, "angry"), at(15.2)),
            # The last utterance is not detected, but breath before its sound and a hum are.
            FinalEvent(event(17.0, 17.4, "sad"), at(18.0)),
            FinalEvent(event(25.0, 27.0, "sad"), at(28.0)),
        ]
        found = score_stream(STRETCHES, finals, clips)
        assert found.ua.value == pytest.approx((1 + 0) / 2)
        assert found.clip_ua.value == pytest.approx((1 + 1 / 2) / 2)
        assert (found.difference.value, found.heard.value) == (pytest.approx(-0.25), 0.75)
        assert found.heard_right.value == 0.5
        assert found.right_when_heard.value == pytest.approx(2 / 3, abs=1e-6)
        assert found.uncertain == pytest.approx(1 / 3, abs=1e-6)
        assert (found.split, found.joined) == (0, 0)
        # 0.7, 0.9 and 0.7 s after the sound's end; a 90th percentile of three means nothing.
        assert found.delay_p50 == pytest.approx(0.7)
        assert found.delay_p90 is None
        false = found.false_events
        assert false.count == 2
        assert false.places == {"pause": 0, "recording": 1, "hum": 1}
        assert false.seconds == {"pause": 8, "recording": 4, "hum": 10}
        assert false.hours == pytest.approx(22 / 3600, abs=1e-6)
        assert false.per_hour.value == pytest.approx(2 / 22 * 3600, rel=1e-4)

    def test_without_events_all_is_wrong(self):
        found = score_stream(STRETCHES, [], evaluation(ITEMS, ["angry", "happy", "angry", "happy"]))
        assert (found.ua.value, found.difference.value) == (0, -1)
        assert (found.right_when_heard, found.uncertain, found.delay_p50) == (None, None, None)
        assert found.false_events.per_hour.value == 0
        assert found.false_events.per_hour.high == pytest.approx(3.689 / (22 / 3600), rel=1e-3)
        # Clips may come in another order.
        clips = evaluation(ITEMS[::-1], ["happy", "angry", "sad", "sad"])
        assert score_stream(STRETCHES, [], clips).clip_ua.value == pytest.approx(0.5)

    def test_a_joined_utterance_has_no_delay_of_its_own(self):
        finals = [FinalEvent(event(2.3, 9.7), at(10.0)), FinalEvent(event(12.3, 14.7), at(15.0))]
        found = score_stream(STRETCHES, finals, evaluation(ITEMS, ["angry"] * 4))
        assert (found.joined, found.delay_p50) == (0.5, pytest.approx(0.5))


def test_a_poisson_rate_has_its_exact_interval():
    """As in Garwood's table: 0.619 to 8.767 for three, up to 3.689 for none."""
    rate = poisson_rate(3, 2.0)
    assert (rate.value, rate.low, rate.high) == pytest.approx((1.5, 0.6187 / 2, 8.7673 / 2), abs=1e-3)
    assert poisson_rate(0, 1.0).low == 0


class TestTimeline:
    @pytest.fixture
    def utterances(self, tmp_path):
        found = []
        for number in range(4):
            path = tmp_path / f"{number}.wav"
            sound = np.concatenate([np.zeros(at(0.2)), tone(0.5 + 0.1 * number), np.zeros(at(0.3))])
            soundfile.write(path, sound, SAMPLE_RATE)
            found.append(Utterance(path, path.name, f"s{number % 2}", "angry"))
        return found

    def test_stretches_match_the_audio(self, utterances):
        timeline = Timeline(utterances, seed=1, no_speech_seconds=6.0)
        blocks = list(timeline.blocks())
        played = np.concatenate([block.pcm for block in blocks])
        assert {len(block.pcm) for block in blocks[:-1]} == {1600}
        assert timeline.position == len(played) == timeline.stretches[-1].end
        assert [each.start for each in timeline.stretches[1:]] == [each.end for each in timeline.stretches[:-1]]
        spoken = [each for each in timeline.stretches if each.item]
        assert [each.item.speaker for each in spoken] == ["s0", "s0", "s1", "s1"]
        assert sorted(each.item.name for each in spoken) == [item.name for item in utterances]
        for each in spoken:
            # A floor at -70 dB lies under it.
            np.testing.assert_allclose(played[each.start : each.end], read_audio(each.item.path), atol=0.003)
            assert each.first - each.start == pytest.approx(at(0.2), abs=400)
            assert each.end - each.last == pytest.approx(at(0.3), abs=400)
        pauses = [each for each in timeline.stretches if each.kind == "pause"]
        assert len(pauses) == 5
        assert all(at(PAUSES[0]) <= each.end - each.start <= at(PAUSES[1]) for each in pauses)

    def test_sounds_that_are_no_speech_have_equal_shares_and_their_level(self, utterances):
        timeline = Timeline(utterances[:1], seed=1, no_speech_seconds=30.0)
        played = np.concatenate([block.pcm for block in timeline.blocks()])
        sounds = {each.kind: played[each.start : each.end] for each in timeline.stretches if each.kind in NO_SPEECH}
        assert list(sounds) == list(NO_SPEECH)
        assert {len(sound) for sound in sounds.values()} == {at(5)}
        for kind, sound in sounds.items():
            level = 10 * np.log10(np.square(sound, dtype=np.float64).mean())
            assert level == pytest.approx(-70 if kind == "quiet" else -40, abs=0.5), kind

    def test_a_seed_is_a_timeline_and_a_closed_one_ends(self, utterances):
        def play(seed):
            return np.concatenate([block.pcm for block in Timeline(utterances, seed, 3.0).blocks()])

        np.testing.assert_array_equal(play(1), play(1))
        assert not np.array_equal(play(1)[:80_000], play(2)[:80_000])
        timeline = Timeline(utterances, seed=1)
        blocks = timeline.blocks()
        next(blocks)
        timeline.close()
        assert list(blocks) == []


def test_the_runtime_detects_a_rendered_corpus(corpus_dir, tmp_path):
    """The whole runtime, with a student that always predicts the first emotion: errors are those of detection."""
    labels = ["angry", "happy", "neutral", "sad"]
    folder = save_plain_bundle(tmp_path / "bundle", first_label_graph(4))
    change(folder, lambda content: content.update(labels=labels, corpora=[]))
    bundle = load_bundle(folder)
    items = read_corpus(corpus_dir).utterances
    cells = [(name, label) for name in ("r01", "r02") for label in labels]
    some = [next(item for item in items if (item.speaker, item.emotion) == cell) for cell in cells]
    clips = evaluate_bundle(bundle, TestPart(tuple(some), "", None), ("fp32",))
    section = measure_streaming(bundle, some, clips, no_speech_seconds=12.0, seed=2)
    found = section.graphs["fp32"]
    assert (section.utterances, section.speakers, section.session) == (8, 2, False)
    assert found.clip_ua.value == 0.25
    assert found.heard.value >= 0.875
    # Undetected utterances count as wrong.
    assert found.heard_right.value == pytest.approx(found.ua.value)
    assert found.ua.value <= 0.25
    assert found.right_when_heard.value <= found.heard_right.value / found.heard.value + 1e-6
    # The gate waits 0.6 s for more speech, the block may be 0.1 s late, and the last quiet sounds are speech too.
    assert 0.5 < found.delay_p50 < 1.2
    assert found.false_events.count <= 1
    assert sum(found.false_events.seconds.values()) / 3600 < section.hours
