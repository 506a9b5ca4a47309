"""From audio to events: one code path for file, pipe and microphone."""

import datetime
import time
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clips
from edge_runtime.config import DecisionSettings, ListenSettings, VadSettings, WatchSettings
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.events import EmotionEvent, parse_event
from edge_runtime.loop.listener import Listener
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sources.audio import read_audio
from edge_runtime.sources.file import FileSource
from edge_runtime.sources.interface import Block
from tests.conftest import edgeemo
from tests.laid_out import LaidOut, in_blocks
from tests.sounds import rumble


def events_of(text):
    return [parse_event(line) for line in text.splitlines()]


PLAIN = ListenSettings(vad=VadSettings(enabled=False))


def without_clock(events):
    return [event.model_dump(exclude={"latency_ms", "detail", "time"}) for event in events]


def finals_of(events):
    return [event for event in events if event.type == "final"]


def statuses_of(events):
    return [event.status for event in events if event.type == "status"]


@pytest.fixture(scope="module")
def bundle(bundle_dir):
    return load_bundle(bundle_dir)


@pytest.fixture(scope="module")
def engine(bundle):
    return OnnxEngine.of(bundle)


@pytest.fixture(scope="module")
def processed(bundle_dir, clip):
    done = edgeemo("listen", bundle_dir, "--source", clip, "--json", "--no-vad")
    assert done.returncode == 0, done.stderr
    return events_of(done.stdout)


def test_events_are_complete_and_in_order(processed, bundle):
    assert [processed[0].type, processed[-1].type] == ["status", "status"]
    assert (processed[0].status, processed[-1].status) == ("started", "stopped")
    emotions = [event for event in processed if isinstance(event, EmotionEvent)]
    assert {event.type for event in emotions} == {"provisional", "final"}
    for event in emotions:
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-3)
        if event.type == "final":
            assert event.label == max(event.probabilities, key=event.probabilities.__getitem__)
        # Events carry four digits: a confidence on the threshold itself may fall either way.
        if abs(event.confidence - bundle.manifest.threshold) > 1e-4:
            assert event.uncertain == (event.confidence < bundle.manifest.threshold)
        assert event.model == bundle.hash[:12]
        assert event.latency_ms >= 0
    assert [event.end for event in emotions] == sorted(event.end for event in emotions)
    # Nine seconds in segments of at most six.
    assert [(event.start, event.end) for event in emotions if event.type == "final"] == [(0, 6), (6, 9)]


@pytest.mark.parametrize("gate", [[], ["--no-vad"]])
def test_paced_and_fast_give_the_same_events(bundle_dir, clip, gate, tmp_path):
    soundfile.write(tmp_path / "short.wav", read_audio(clip)[:56_000], 16_000)
    common = ("listen", bundle_dir, "--source", tmp_path / "short.wav", "--json", *gate)
    fast = edgeemo(*common)
    before = time.monotonic()
    paced = edgeemo(*common, "--paced")
    assert time.monotonic() - before >= 3.5
    assert finals_of(events_of(fast.stdout))
    assert without_clock(events_of(paced.stdout)) == without_clock(events_of(fast.stdout))


def test_pipe_gives_the_same_events(processed, bundle_dir, clip):
    done = edgeemo("listen", bundle_dir, "--source", "-", "--no-vad", stdin=clip.read_bytes())
    assert without_clock(events_of(done.stdout)) == without_clock(processed)


def test_final_event_is_the_clip_score_of_bench(bundle, engine, corpus_dir):
    for path in sorted((corpus_dir / "r02").glob("*.flac"))[:5]:
        clip_score = score_clips(engine.outputs, [path], bundle.manifest.window)
        wanted = clip_score.probabilities(bundle.manifest.temperature)[0]
        (final,) = finals_of(Listener(bundle, engine, PLAIN).listen(FileSource(path)))
        assert list(final.probabilities.values()) == pytest.approx(wanted, abs=1e-4)
        assert final.windows == len(clip_score.owner)


def test_a_gap_is_reported_and_no_window_spans_it(bundle, engine, clip):
    pcm = read_audio(clip)[: 4 * 16_000]
    half = len(pcm) // 2
    source = LaidOut(Block(pcm[:half], 0, 0.0), Block(pcm[half:], 4_000, 0.0))
    events = list(Listener(bundle, engine, PLAIN).listen(source))
    (gap,) = [event for event in events if event.type == "status" and event.status == "gap"]
    assert gap.start == pytest.approx(2.25)
    assert gap.dropped_samples == 4_000
    finals = finals_of(events)
    assert [(event.start, event.end) for event in finals] == [(0, 2), (2.25, 4.25)]
    assert [event.dropped_samples for event in finals] == [0, 4_000]


def test_too_little_speech_is_uncertain(bundle, engine, clip):
    source = LaidOut(Block(read_audio(clip)[:6_000], 0, time.monotonic()))
    events = list(Listener(bundle, engine, PLAIN).listen(source))
    (final,) = finals_of(events)
    assert final.uncertain


def test_int8_trt_form_runs_as_a_simulation(bundle_dir, clip):
    """Not fused: the numbers are those of the Q/DQ nodes taken one by one, in float."""
    import onnxruntime

    bundle = load_bundle(bundle_dir)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    literal = onnxruntime.InferenceSession(str(bundle.graph("int8-trt")), options)
    pcm = read_audio(clip)[:16_000]
    wanted = literal.run(["logits"], {"pcm": pcm[None], "reference": bundle.reference()})[0][0]
    assert np.array_equal(OnnxEngine.of(bundle, "int8-trt").score(pcm).logits, wanted)
    done = edgeemo("listen", bundle_dir, "--source", clip, "--precision", "int8-trt", "--no-vad")
    assert events_of(done.stdout)[1].backend.endswith("int8-trt")


SILENCE = np.zeros(16_000, np.float32)


class TestSpeech:
    """With the speech gate, as `listen` works by default."""

    def test_each_utterance_is_one_final_event(self, bundle, engine, corpus_dir):
        clips = [read_audio(path) for path in sorted((corpus_dir / "r02").glob("*.flac"))[:3]]
        pcm = np.concatenate([part for clip in clips for part in (SILENCE, clip)] + [SILENCE])
        events = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm))))
        finals = finals_of(events)
        assert len(finals) == 3
        begin = 0
        for clip, final in zip(clips, finals, strict=True):
            begin += 1.0
            end = begin + len(clip) / 16_000
            assert begin - 0.3 <= final.start <= begin + 0.4
            assert end - 0.5 <= final.end <= end + 0.4
            assert final.speech_ratio > 0.5
            begin = end

    def test_silence_and_noise_give_nothing(self, bundle, engine):
        noise = np.random.default_rng(0).normal(0, 0.01, 20 * 16_000).astype(np.float32)
        for pcm in (np.tile(SILENCE, 5), noise):
            events = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm))))
            assert [event for event in events if event.type != "status"] == []

    def test_a_final_event_is_the_score_of_what_it_covers(self, bundle, engine, clip):
        pcm = read_audio(clip)
        for final in finals_of(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm)))):
            processed = pcm[round(final.start * 16_000) : round(final.end * 16_000)]
            (alone,) = finals_of(Listener(bundle, engine, PLAIN).listen(LaidOut(*in_blocks(processed))))
            assert list(alone.probabilities.values()) == pytest.approx(list(final.probabilities.values()), abs=1e-4)

    def test_a_finer_hop_gives_more_provisional_events(self, bundle, engine, clip):
        counts = []
        for hop in (0.5, 0.25):
            settings = ListenSettings(decision=DecisionSettings(hop_seconds=hop))
            events = Listener(bundle, engine, settings).listen(FileSource(clip))
            counts.append(sum(event.type == "provisional" for event in events))
        assert counts[1] > 1.5 * counts[0]


class TestTrouble:
    def test_an_engine_that_raises_costs_its_window_only(self, bundle, clip):
        engine = OnnxEngine.of(bundle)
        calls = iter(range(1_000))
        real = engine.score

        def sometimes(pcm, reference=None):
            if next(calls) in (3, 4, 5):
                raise RuntimeError("the driver is not there")
            return real(pcm, reference)

        engine.score = sometimes
        monitor = Monitor()
        events = list(Listener(bundle, engine, PLAIN, monitor).listen(FileSource(clip)))
        assert len(finals_of(events)) == 2
        # Once when it begins, once when it ends.
        reported = [event.detail for event in events if event.type == "status" and event.status == "engine"]
        assert len(reported) == 2
        assert "the driver is not there" in reported[0]
        assert "again" in reported[1]
        assert monitor.snapshot().failures == 3
        assert monitor.snapshot().failures_in_row == 0
        assert statuses_of(events)[-1] == "stopped"

    def test_an_engine_that_fails_for_ever_is_reported_once_and_counted(self, bundle, clip):
        engine, monitor = OnnxEngine.of(bundle), Monitor()
        engine.score = Mock(side_effect=RuntimeError("gone"))
        events = list(Listener(bundle, engine, PLAIN, monitor).listen(FileSource(clip)))
        assert statuses_of(events) == ["started", "engine", "stopped"]
        assert monitor.snapshot().failures_in_row > 10

    def test_a_source_that_fails_still_gives_its_last_final_event(self, bundle, engine, clip):
        pcm = read_audio(clip)[: 3 * 16_000]

        class Breaks(LaidOut):
            def blocks(self):
                yield from self._blocks
                raise EdgeemoError("the disk is full")

        events = []
        with pytest.raises(EdgeemoError, match="the disk is full"):
            events.extend(event for event in Listener(bundle, engine).listen(Breaks(*in_blocks(pcm))))
        assert events[-2].type == "final"
        assert (events[-1].status, events[-1].detail) == ("stopped", "the disk is full")

    def test_an_engine_that_gives_no_numbers_is_ignored(self, bundle, clip):
        engine = OnnxEngine.of(bundle)
        real = engine.score
        engine.score = lambda pcm, reference=None: real(pcm)._replace(logits=np.full(4, np.nan, np.float32))
        events = list(Listener(bundle, engine, PLAIN).listen(FileSource(clip)))
        assert {event.type for event in events} == {"status"}
        assert "engine" in statuses_of(events)

    def test_samples_that_are_no_numbers_are_reported_once_and_taken_for_silence(self, bundle, engine, clip):
        pcm = read_audio(clip)[: 4 * 16_000]
        bad = pcm.copy()
        bad[20_000:24_000:7] = np.nan
        bad[24_000:26_000:5] = np.inf
        clean = np.where(np.isfinite(bad), bad, 0).astype(np.float32)
        sources = (LaidOut(*in_blocks(each)) for each in (bad, clean))
        events, wanted = (list(Listener(bundle, engine, PLAIN).listen(source)) for source in sources)
        assert statuses_of(events).count("bad-audio") == 1
        rest = [event for event in events if event.type != "status" or event.status != "bad-audio"]
        # What covers them is uncertain, and all else as if they had been silence.
        marked = [
            event.model_copy(update={"uncertain": True})
            if event.type != "status" and event.start < 26_000 / 16_000 and event.end > 20_000 / 16_000
            else event
            for event in wanted
        ]
        assert without_clock(rest) == without_clock(marked)
        assert without_clock(rest) != without_clock(wanted)

    def test_digital_silence_without_vad_is_finite_and_uncertain(self, bundle, engine):
        monitor = Monitor()
        events = list(Listener(bundle, engine, PLAIN, monitor).listen(LaidOut(*in_blocks(np.zeros(160_000, "f4")))))
        emotions = [event for event in events if event.type != "status"]
        assert emotions
        assert all(event.uncertain and np.isfinite(event.confidence) for event in emotions)
        assert monitor.snapshot().failures == 0

    def test_a_graph_that_gives_nan_for_silence_stays_healthy(self, bundle, engine):
        """Graphs of old bundles do; the engine here does so in their place."""

        class Old:
            backend = engine.backend
            history = engine.history

            def score(self, pcm):
                scores = engine.score(pcm)
                return scores if pcm.any() else scores._replace(logits=scores.logits * np.nan)

        monitor = Monitor()
        events = list(Listener(bundle, Old(), PLAIN, monitor).listen(LaidOut(*in_blocks(np.zeros(80_000, "f4")))))
        assert all(event.uncertain for event in finals_of(events))
        assert finals_of(events)
        assert monitor.snapshot().failures_in_row == 0

    def test_a_large_offset_is_removed_and_reported_once(self, bundle, engine, clip):
        pcm = read_audio(clip)
        clean = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm))))
        events = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm + np.float32(0.3)))))
        assert statuses_of(events).count("bad-audio") == 1
        assert "offset of +0.30" in next(
            event.detail for event in events if event.type == "status" and "off" in event.detail
        )
        assert [each.label for each in finals_of(events)] == [each.label for each in finals_of(clean)]
        for one, other in zip(finals_of(events), finals_of(clean), strict=True):
            assert abs(one.confidence - other.confidence) < 0.1

    def test_strong_rumble_is_removed_and_reported_once(self, bundle, engine, clip):
        pcm = read_audio(clip)
        clean = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm))))
        events = list(Listener(bundle, engine).listen(LaidOut(*in_blocks(pcm + rumble(len(pcm))))))
        assert statuses_of(events).count("bad-audio") == 1
        assert any("rumble below 50 Hz" in event.detail for event in events if event.type == "status")
        ours, theirs = finals_of(events), finals_of(clean)
        assert len(ours) == len(theirs)
        # The first two seconds have the rumble still.
        for one, other in list(zip(ours, theirs, strict=True))[1:]:
            assert abs(one.confidence - other.confidence) < 0.15

    def test_digital_silence_is_reported_and_its_end(self, bundle, engine, clip):
        settings = ListenSettings(watch=WatchSettings(silence_seconds=2))
        pcm = np.concatenate([read_audio(clip)[:32_000], np.tile(SILENCE, 5), read_audio(clip)[:32_000]])
        events = list(Listener(bundle, engine, settings).listen(LaidOut(*in_blocks(pcm))))
        assert statuses_of(events) == ["started", "silence", "audio-back", "stopped"]
        assert [event.start for event in events if event.type == "status"][1:3] == pytest.approx([4, 7.1], abs=0.2)

    def test_no_frames_are_reported_and_their_return(self, bundle, engine, clip):
        pcm = read_audio(clip)[:32_000]
        nothing = np.zeros(0, np.float32)
        later = [Block(nothing, 0, 100.0 + seconds / 2) for seconds in range(20)]
        blocks = [Block(pcm, 0, 100.0), *later, Block(pcm, 0, 111.0)]
        monitor = Monitor()
        states, events = [], []
        for event in Listener(bundle, engine, monitor=monitor).listen(LaidOut(*blocks)):
            events.append(event)
            states.append(monitor.snapshot().state)
        assert statuses_of(events) == ["started", "no-audio", "audio-back", "stopped"]
        assert "no-audio" in states
        assert states[-1] == "stopped"

    def test_the_clock_of_the_device_may_jump(self, bundle, engine, clip, monkeypatch):
        wanted = without_clock(Listener(bundle, engine).listen(FileSource(clip)))
        hours = iter(range(10**6))

        class Jumping(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime(2026, 6, 1, tzinfo=tz) - datetime.timedelta(hours=next(hours))

        monkeypatch.setattr("edge_runtime.events.datetime", Jumping)
        monkeypatch.setattr(time, "time", lambda: 1e9 - 3600 * next(hours))
        events = list(Listener(bundle, engine).listen(FileSource(clip)))
        assert [event.time for event in events] == sorted((event.time for event in events), reverse=True)
        assert without_clock(events) == wanted
        assert all(event.latency_ms < 60_000 for event in events if event.type != "status")
