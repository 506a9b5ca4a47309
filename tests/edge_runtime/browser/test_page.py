"""The page of the default bundle in Chromium: files, a fake microphone, and what it may not do."""

import json
import shutil
import time

import pytest

from tests.conftest import need

need("playwright")

from playwright.sync_api import expect  # noqa: E402

from benchmarks.lab.browser import ALONE  # noqa: E402
from benchmarks.lab.browser_page import finals, open_page, served  # noqa: E402
from edge_runtime.api import score_file  # noqa: E402
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle  # noqa: E402
from edge_runtime.events import EmotionEvent, StatusEvent  # noqa: E402
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio  # noqa: E402
from edge_runtime.sources.silero import FRAME  # noqa: E402
from tests.browser import PHONE  # noqa: E402

FRAME_SECONDS = FRAME / SAMPLE_RATE
OF_A_FILE = 0.08
"""Largest difference of a probability that edge_runtime/BROWSER.md states."""
OF_A_MICROPHONE = 0.2
"""Where audio was resampled twice, and cut into frames from another sample on."""

OPEN_SOCKET = """(url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = socket.onerror = ({type}) => done(type);
})"""


@pytest.fixture(scope="module")
def runtime_events(speech):
    """The final events of the runtime, without adaptation to speakers."""
    events = score_file(speech, settings=ALONE)
    assert len(events) == 3
    return events


def assert_close(events, wanted, *, probability, boundary=FRAME_SECONDS + 1e-6):
    assert len(events) == len(wanted)
    for found, right in zip(events, wanted, strict=True):
        difference = max(abs(found.probabilities[name] - right.probabilities[name]) for name in right.probabilities)
        assert difference <= probability
        # Nearly as probable ones may change places.
        assert right.probabilities[found.label] >= right.confidence - 2 * probability
        assert abs(found.end - found.start - (right.end - right.start)) <= 2 * boundary
        assert found.windows == right.windows
        assert found.speech_ratio == pytest.approx(right.speech_ratio, abs=0.05)


def test_a_file_gives_the_events_of_the_runtime(default_page, speech, runtime_events):
    with open_page(default_page) as opened:
        assert opened.status() == "Ready"
        events = opened.score(speech)
        again = opened.score(speech)
        assert opened.faults == []
        assert [url for url in opened.requests if not url.startswith((opened.address, f"blob:{opened.address}"))] == []
        expect(opened.page.locator("#finals tr")).to_have_count(6)
        expect(opened.page.locator("#latency")).to_contain_text("windows: median")
        assert len(opened.windows()) >= len(runtime_events)
    assert_close(finals(events), runtime_events, probability=OF_A_FILE)
    for found, right in zip(finals(events), runtime_events, strict=True):
        assert abs(found.start - right.start) <= FRAME_SECONDS
    assert [each.probabilities for each in finals(again)] == [each.probabilities for each in finals(events)]
    assert [event.status for event in events if isinstance(event, StatusEvent)] == ["started", "stopped"]
    bundle = load_bundle(DEFAULT_BUNDLE)
    assert {event.model for event in events} == {bundle.hash[:12]}
    emotions = [event for event in events if isinstance(event, EmotionEvent)]
    assert any(event.type == "provisional" for event in emotions)
    for event in emotions:
        assert list(event.probabilities) == list(bundle.manifest.labels)
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=0.001)
        assert event.uncertain or event.confidence >= bundle.manifest.threshold


def test_a_microphone_gives_the_events_of_the_runtime(default_page, speech, runtime_events):
    seconds = len(read_audio(speech)) / SAMPLE_RATE
    with open_page(default_page, microphone=f"{speech}%noloop") as opened:
        page = opened.page
        expect(page.locator("#state")).to_have_text("stopped")
        page.get_by_role("button", name="Listen to the microphone").click()
        expect(page.locator("#state")).to_have_text("listening")
        expect(page).to_have_title("listening – edgeemo")
        expect(page.locator("#file")).to_be_disabled()
        expect(page.locator("#speech-text")).to_have_text("Speech", timeout=20_000)
        expect(page.locator("#finals tr")).to_have_count(len(runtime_events), timeout=1000 * (seconds + 30))
        page.get_by_role("button", name="Stop listening").click()
        opened.wait_until_stopped()
        expect(page.locator("#state")).to_have_text("stopped")
        expect(page).to_have_title("edgeemo")
        events = opened.events()
        assert opened.faults == []
    assert_close(finals(events), runtime_events, probability=OF_A_MICROPHONE)
    assert all(event.dropped_samples == 0 for event in events)
    # From the last sample to the event: no longer than a page may wait before it loses audio.
    assert all(0 <= event.latency_ms < 10_000 for event in finals(events))


def test_a_microphone_that_is_refused_is_reported(default_page):
    with open_page(default_page) as opened:
        opened.page.get_by_role("button", name="Listen to the microphone").click()
        expect(opened.page.locator("#connection-text")).to_contain_text("The microphone cannot be used")
        expect(opened.page.locator("#listen")).to_be_enabled()
        expect(opened.page.locator("#state")).to_have_text("stopped")


def test_a_file_without_audio_is_reported(default_page, tmp_path, speech):
    (tmp_path / "notes.wav").write_text("no audio")
    with open_page(default_page) as opened:
        opened.page.set_input_files("#file", tmp_path / "notes.wav")
        expect(opened.page.locator("#connection-text")).to_contain_text("notes.wav cannot be decoded")
        assert finals(opened.score(speech))


def test_neither_page_nor_worker_reaches_another_server(default_page, tmp_path):
    """The policy of the page is that of the worker too, which processes the audio."""
    ask = "(url) => fetch(url).then(() => 'reached', (error) => error.name)"
    with served(tmp_path) as other, open_page(default_page) as opened:
        (worker,) = opened.page.workers
        for place in (opened.page, worker):
            assert place.evaluate(ask, f"{opened.address}page.json") == "reached"
            assert place.evaluate(ask, other) == "TypeError"
        assert opened.page.evaluate(OPEN_SOCKET, other.replace("http", "ws")) == "error"
        assert "Content Security Policy" in " ".join(opened.faults)


def test_a_graph_that_fails_the_known_answer_test_is_not_used(default_page, tmp_path):
    folder = shutil.copytree(default_page, tmp_path / "page")
    settings = json.loads((folder / "page.json").read_text())
    for stretch in settings["known_answers"]["stretches"]:
        stretch["logits"] = [value + 10 for value in stretch["logits"]]
    (folder / "page.json").write_text(json.dumps(settings))
    with open_page(folder) as opened:
        assert "fails its known-answer test" in opened.status()
        expect(opened.page.locator("#listen")).to_be_disabled()
        expect(opened.page.locator("#file")).to_be_disabled()


def test_what_cannot_be_loaded_is_reported(default_page, tmp_path):
    folder = shutil.copytree(default_page, tmp_path / "page")
    (folder / "silero-vad.onnx").unlink()
    with open_page(folder) as opened:
        assert opened.status() == "silero-vad.onnx cannot be loaded (404)"


def test_audio_that_waits_too_long_is_lost_and_reported(default_page, speech):
    """A worker that is busy, as on a device that is too slow: the page keeps ten seconds."""
    with open_page(default_page, microphone=speech) as opened:
        page, (worker,) = opened.page, opened.page.workers
        page.get_by_role("button", name="Listen to the microphone").click()
        expect(page.locator("#state")).to_have_text("listening")
        worker.evaluate("() => { const end = Date.now() + 12500; while (Date.now() < end); }")
        deadline = time.monotonic() + 30
        gaps = []
        while not gaps and time.monotonic() < deadline:
            page.wait_for_timeout(200)
            gaps = [event for event in opened.events() if isinstance(event, StatusEvent) and event.status == "gap"]
        assert gaps
        assert 8_000 < gaps[0].dropped_samples < 60_000


def test_it_fits_a_phone_and_states_what_it_does(default_page):
    with open_page(default_page) as opened:
        page = opened.page
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        expect(page.get_by_text("Emotion recognition by voice.")).to_be_visible()
        page.get_by_text("Uses that are excluded, and limits").click()
        expect(page.get_by_text("lie detection")).to_be_visible()
        for name in ("Model card", "licences"):
            link = page.get_by_role("link", name=name).get_attribute("href")
            assert page.request.get(opened.address + link).ok
