"""From audio to events: one code path for file, pipe and microphone."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from edge_runtime.audio import read_audio
from edge_runtime.bundle import load_bundle
from edge_runtime.clips import score_clips
from edge_runtime.engine import OnnxEngine
from edge_runtime.events import EmotionEvent, StatusEvent
from edge_runtime.listener import Listener
from edge_runtime.sources import Block, FileSource
from tests.conftest import edgeemo


def events_of(text):
    rows = [json.loads(line) for line in text.splitlines()]
    return [(StatusEvent if row["type"] == "status" else EmotionEvent).model_validate(row) for row in rows]


def without_clock(events):
    return [event.model_dump(exclude={"latency_ms", "detail"}) for event in events]


@pytest.fixture(scope="module")
def heard(bundle_dir, clip):
    done = edgeemo("listen", bundle_dir, "--source", clip, "--json")
    assert done.returncode == 0, done.stderr
    return events_of(done.stdout)


def test_events_are_complete_and_in_order(heard, bundle_dir):
    bundle = load_bundle(bundle_dir)
    assert [heard[0].type, heard[-1].type] == ["status", "status"]
    assert (heard[0].status, heard[-1].status) == ("started", "stopped")
    emotions = [event for event in heard if isinstance(event, EmotionEvent)]
    assert {event.type for event in emotions} == {"provisional", "final"}
    for event in emotions:
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert event.label == max(event.probabilities, key=event.probabilities.__getitem__)
        # Events carry four digits: a confidence on the threshold itself may fall either way.
        if abs(event.confidence - bundle.manifest.threshold) > 1e-4:
            assert event.uncertain == (event.confidence < bundle.manifest.threshold)
        assert event.model == bundle.hash[:12]
        assert event.latency_ms >= 0
    assert [event.end for event in emotions] == sorted(event.end for event in emotions)
    # Nine seconds in segments of at most six.
    assert [(event.start, event.end) for event in emotions if event.type == "final"] == [(0, 6), (6, 9)]


def test_paced_and_fast_give_the_same_events(heard, bundle_dir, clip):
    before = time.monotonic()
    done = edgeemo("listen", bundle_dir, "--source", clip, "--json", "--paced")
    assert time.monotonic() - before >= 9
    assert without_clock(events_of(done.stdout)) == without_clock(heard)


def test_pipe_gives_the_same_events(heard, bundle_dir, clip):
    done = edgeemo("listen", bundle_dir, "--source", "-", stdin=clip.read_bytes())
    assert without_clock(events_of(done.stdout)) == without_clock(heard)


def test_final_event_is_the_clip_score_of_bench(bundle_dir, corpus_dir):
    bundle = load_bundle(bundle_dir)
    engine = OnnxEngine.of(bundle)
    for path in sorted((corpus_dir / "r02").glob("*.flac"))[:5]:
        clip_score = score_clips(engine.score_windows, [path], bundle.manifest.window)
        wanted = clip_score.probabilities(bundle.manifest.temperature)[0]
        events = list(Listener(bundle, engine).listen(FileSource(path)))
        (final,) = [event for event in events if event.type == "final"]
        assert list(final.probabilities.values()) == pytest.approx(wanted, abs=1e-4)
        assert final.windows == len(clip_score.owner)


class _Interrupted:
    """A source that loses samples in the middle, as a microphone may."""

    name = "interrupted"

    def __init__(self, pcm):
        self._pcm = pcm

    def blocks(self):
        half = len(self._pcm) // 2
        yield Block(self._pcm[:half], 0, time.monotonic())
        yield Block(self._pcm[half:], 4_000, time.monotonic())

    def close(self):
        pass


def test_a_gap_is_told_and_no_window_spans_it(bundle_dir, clip):
    bundle = load_bundle(bundle_dir)
    pcm = read_audio(clip)[: 4 * 16_000]
    events = list(Listener(bundle, OnnxEngine.of(bundle)).listen(_Interrupted(pcm)))
    (gap,) = [event for event in events if event.type == "status" and event.status == "gap"]
    assert gap.start == pytest.approx(2.25)
    assert gap.dropped_samples == 4_000
    finals = [event for event in events if event.type == "final"]
    assert [(event.start, event.end) for event in finals] == [(0, 2), (2.25, 4.25)]
    assert [event.dropped_samples for event in finals] == [0, 4_000]


def test_too_little_speech_is_uncertain(bundle_dir, clip):
    bundle = load_bundle(bundle_dir)

    class Short(_Interrupted):
        def blocks(self):
            yield Block(self._pcm, 0, time.monotonic())

    source = Short(read_audio(clip)[:6_000])
    events = list(Listener(bundle, OnnxEngine.of(bundle)).listen(source))
    (final,) = [event for event in events if event.type == "final"]
    assert final.uncertain


def test_stereo_44100_hears_the_same(bundle_dir, clip, tmp_path):
    import soundfile
    import soxr

    pcm = read_audio(clip)
    up = soxr.resample(pcm, 16_000, 44_100)
    soundfile.write(tmp_path / "cd.wav", np.stack([up, up], axis=1), 44_100)
    bundle = load_bundle(bundle_dir)
    engine = OnnxEngine.of(bundle, "fp32")
    finals = [
        [event for event in Listener(bundle, engine).listen(FileSource(path)) if event.type == "final"]
        for path in (clip, tmp_path / "cd.wav")
    ]
    for ours, theirs in zip(*finals, strict=True):
        assert list(theirs.probabilities.values()) == pytest.approx(list(ours.probabilities.values()), abs=0.05)


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
    done = edgeemo("listen", bundle_dir, "--source", clip, "--precision", "int8-trt")
    assert events_of(done.stdout)[1].backend.endswith("int8-trt")


def test_sigterm_flushes_the_last_final_event(bundle_dir, clip):
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "listen", bundle_dir, "--source", clip, "--paced", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert json.loads(first)["status"] == "started"
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    events = events_of(rest)
    assert events[-1].type == "status"
    assert events[-2].type == "final"
    assert events[-2].end < 4


def test_a_reader_that_leaves_ends_it_quietly(bundle_dir, clip):
    command = f"{sys.executable} -m edge_runtime listen {bundle_dir} --source {clip} --json | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_and_start_stay_within_the_design(bundle_dir, clip):
    """150 MB resident while listening; two seconds to the first scored window (of a file, at once)."""
    code = (
        "import sys, time; began = time.monotonic()\n"
        "from pathlib import Path\n"
        "from edge_runtime.bundle import load_bundle; from edge_runtime.engine import OnnxEngine\n"
        "from edge_runtime.listener import Listener; from edge_runtime.sources import FileSource\n"
        "import edge_runtime.listen_command\n"
        f"bundle = load_bundle(Path({str(bundle_dir)!r})); engine = OnnxEngine.of(bundle)\n"
        f"events = Listener(bundle, engine).listen(FileSource(Path({str(clip)!r})))\n"
        "next(events); next(events); first = time.monotonic() - began; list(events)\n"
        "rss = next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1]\n"
        "print(first, int(rss) / 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, megabytes = map(float, done.stdout.split())
    assert first <= 2.0
    assert megabytes <= 150
