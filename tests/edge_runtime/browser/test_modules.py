"""The page's modules against those of the runtime that they are ports of, in Chromium."""

import json

import numpy as np
import pytest
import soxr

from benchmarks.lab.browser_page import served
from edge_runtime.browser.page import settings_of, write_page
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import DecisionSettings, VadSettings
from edge_runtime.decision import softmax
from edge_runtime.loop.hysteresis import LabelHysteresis
from edge_runtime.loop.segments import SpeechSegmenter, Window
from edge_runtime.loop.vad import VadIterator
from edge_runtime.sources.silero import FRAME
from edge_runtime.windows import WindowPolicy
from tests.plain_bundles import save_plain_bundle

POLICY = WindowPolicy(seconds=2.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=5.0)
SEGMENTS = """async ({settings, policy, steps}) => {
    const {SpeechSegmenter, WindowPolicy} = await import("./static/segments.js");
    const {VadIterator} = await import("./static/vad.js");
    const detector = {probabilities: async (pcm) => pcm.filter((_, i) => i % 512 === 0), reset() {}};
    const vad = new VadIterator(settings, 16000, detector);
    const segmenter = new SpeechSegmenter(new WindowPolicy(policy, 16000), vad);
    const found = [];
    const take = async (outputs) => {
        for await (const {kind, start, end, pcm, windows, speech, segmentStart} of outputs) {
            const sum = pcm.reduce((total, value) => total + value, 0);
            found.push([kind, start, end, pcm.length, sum, windows ?? segmentStart, speech]);
        }
    };
    for (const {skip, probabilities} of steps) {
        if (skip) await take(segmenter.skip(skip));
        const audio = new Float32Array(probabilities.length * 512);
        probabilities.forEach((value, i) => audio.fill(value, i * 512, (i + 1) * 512));
        for (let at = 0; at < audio.length; at += 1600) await take(segmenter.feed(audio.slice(at, at + 1600)));
    }
    await take(segmenter.close());
    return found;
}"""


class SampleDetector:
    """Stands for Silero's network: the probability of a frame is its first sample."""

    def probabilities(self, pcm):
        return pcm[::FRAME].tolist()

    def reset(self):
        pass


@pytest.fixture(scope="module")
def modules(browser, tmp_path_factory):
    """A document of the page's server; it needs no ONNX Runtime, since no worker is started."""
    folder = tmp_path_factory.mktemp("modules")
    write_page(load_bundle(save_plain_bundle(folder / "bundle")), folder / "page", dict)
    with served(folder / "page") as address:
        page = browser.new_page()
        page.goto(f"{address}licences.txt")
        yield page
        page.close()


def outputs_of(segmenter, steps):
    """Return what the runtime's segmenter yields for the same steps, in the form of `SEGMENTS`."""
    found = []

    def take(outputs):
        for each in outputs:
            window = isinstance(each, Window)
            more = each.segment_start if window else [list(span) for span in each.windows]
            kind = "window" if window else "end"
            found.append(
                [kind, each.start, each.end, len(each.pcm), float(each.pcm.sum(dtype=float)), more, each.speech]
            )

    for step in steps:
        if step["skip"]:
            take(segmenter.skip(step["skip"]))
        audio = np.repeat(np.array(step["probabilities"], np.float32), FRAME)
        for at in range(0, len(audio), 1600):
            take(segmenter.feed(audio[at : at + 1600]))
    take(segmenter.close())
    return found


def random_steps(random):
    """Return stretches of high and low probabilities of random lengths, with gaps: `{skip, probabilities}`."""

    def stretch(high):
        values = random.normal(0.8 if high else 0.15, 0.2, random.integers(1, 260 if random.random() < 0.2 else 40))
        return np.clip(values, 0, 1).astype(np.float32).tolist()

    return [
        {"skip": int(random.integers(0, 3) * 700), "probabilities": [p for i in range(6) for p in stretch(i % 2)]}
        for _ in range(4)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_segments_and_windows_are_those_of_the_runtime(modules, seed):
    settings = VadSettings(speech_pad=0.2 + 0.05 * seed, min_speech_duration=0.1 * (seed % 4))
    steps = random_steps(np.random.default_rng(seed))
    wanted = outputs_of(SpeechSegmenter(POLICY, VadIterator(settings, SampleDetector())), steps)
    given = {"settings": settings.model_dump(), "policy": POLICY.model_dump(), "steps": steps}
    found = modules.evaluate(SEGMENTS, given)
    assert {each[0] for each in wanted} == {"window", "end"}
    assert [[*each[:4], *each[5:]] for each in found] == [[*each[:4], *each[5:]] for each in wanted]
    assert np.allclose([each[4] for each in found], [each[4] for each in wanted], rtol=1e-5)


def test_decisions_are_those_of_the_runtime(modules):
    random = np.random.default_rng(0)
    settings = DecisionSettings()
    logits = random.normal(0, 1, (40, 4)) + np.repeat(np.eye(4) * 2, 10, axis=0)
    hysteresis = LabelHysteresis(settings)
    wanted = [hysteresis.update(row) for row in softmax(logits, 1.7)]
    found = modules.evaluate(
        """async ({settings, logits}) => {
            const {LabelHysteresis, softmax} = await import("./static/decision.js");
            const hysteresis = new LabelHysteresis(settings);
            return logits.map((row) => hysteresis.update(softmax(row, 1.7)));
        }""",
        {"settings": settings.model_dump(), "logits": logits.tolist()},
    )
    assert len({label for label, _ in wanted}) > 2
    assert [label for label, _ in found] == [label for label, _ in wanted]
    assert np.allclose([row for _, row in found], [row for _, row in wanted])


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 8_000])
def test_resampled_audio_is_close_to_that_of_the_runtime(modules, rate):
    """Speech-like noise below 3 kHz; soxr's and ours differ in their filters only."""
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.normal(0, 0.1, rate))
    spectrum[3_000:] = 0
    samples = np.fft.irfft(spectrum, rate).astype(np.float32)
    found = modules.evaluate(
        """async ({samples, rate, size}) => {
            const {Resampler} = await import("./static/resample.js");
            const resampler = new Resampler(rate, 16000);
            const found = [];
            for (let at = 0; at < samples.length; at += size) {
                found.push(...resampler.process(Float32Array.from(samples.slice(at, at + size))));
            }
            return [...found, ...resampler.process(new Float32Array(0), true)];
        }""",
        {"samples": samples.tolist(), "rate": rate, "size": 1_237},
    )
    wanted = soxr.resample(samples, rate, 16_000)
    assert len(found) == len(wanted) == 16_000
    inner = slice(400, -400)
    error = np.subtract(found, wanted)[inner]
    assert np.sqrt(np.square(error).mean() / np.square(wanted[inner]).mean()) < 1e-3


def test_what_would_alias_is_removed(modules):
    tone = np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000)
    loudest = modules.evaluate(
        """async (samples) => {
            const {Resampler} = await import("./static/resample.js");
            const found = new Resampler(48000, 16000).process(Float32Array.from(samples));
            return Math.max(...found.slice(100).map(Math.abs));
        }""",
        tone.tolist(),
    )
    assert loudest < 1e-3


def test_the_page_has_the_settings_of_the_runtime(tmp_path):
    bundle = load_bundle(save_plain_bundle(tmp_path / "bundle"))
    found = json.loads(json.dumps(settings_of(bundle, "fp32")))
    assert VadSettings(**found["vad"]) == VadSettings()
    assert DecisionSettings(**found["decision"]) == DecisionSettings()
    assert WindowPolicy(**found["window"]).model_dump() == bundle.manifest.window.model_dump()
    assert tuple(found["labels"]) == bundle.manifest.labels
