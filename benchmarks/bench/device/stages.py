"""Time of each stage of the runtime for a hop of audio, from the microphone to a label."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.bench.device.device_sections import Stage
from benchmarks.bench.device.latency import Latency
from edge_runtime.bundles.manifest import Manifest
from edge_runtime.config import DecisionSettings, VadSettings
from edge_runtime.decision import decision_on, softmax
from edge_runtime.loop.hysteresis import LabelHysteresis
from edge_runtime.loop.vad import VadIterator
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.interface import BLOCK_SECONDS, Converter
from edge_runtime.sources.silero import FRAME, SileroDetector

MICROPHONE_RATE = 48_000
"""Sample rate of most microphones."""
_WARM_UP = 5


def measure_stages(
    manifest: Manifest, speech: Sequence[Pcm], engine: Latency, engine_name: str, *, calls: int = 200
) -> list[Stage]:
    """Time resampling, voice activity detection and the decision; add the engine and the wait for a block."""
    hop = manifest.window.hop_seconds
    stream = np.concatenate(speech)
    return [
        Stage(
            stage="capture",
            unit=f"a block of {BLOCK_SECONDS * 1000:.0f} ms fills; a wait, given by the design",
            calls=0,
            calls_per_hop=round(hop / BLOCK_SECONDS, 3),
            p50_ms=BLOCK_SECONDS * 1000,
        ),
        _stage(
            "resample",
            f"a block of {BLOCK_SECONDS * 1000:.0f} ms from {MICROPHONE_RATE // 1000} kHz",
            _time(_resample(stream), calls),
            hop / BLOCK_SECONDS,
        ),
        *_gate(stream, hop, calls),
        # In chunks, a hop costs its share of the window.
        _stage(
            "engine",
            f"a window, {engine_name}",
            engine.milliseconds,
            hop / manifest.window.seconds if manifest.window.chunk else 1.0,
        ),
        _stage("decision", "logits of a window to a label", _time(_decide(manifest), calls), 1.0),
    ]


def _resample(stream: Pcm) -> Callable[[int], object]:
    converter = Converter(MICROPHONE_RATE)
    # Repeated samples: the time does not depend on the signal.
    frames = np.repeat(stream, MICROPHONE_RATE // SAMPLE_RATE)[:, None]
    blocks = _pieces(frames, round(BLOCK_SECONDS * MICROPHONE_RATE))
    return lambda number: converter.convert(blocks[number % len(blocks)])


def _gate(stream: Pcm, hop: float, calls: int) -> list[Stage]:
    vad = VadIterator(VadSettings(), SileroDetector())
    # As many frames as a block of the microphone completes.
    size = round(BLOCK_SECONDS * SAMPLE_RATE) // FRAME * FRAME
    pieces = _pieces(stream, size)

    def detect(number: int) -> object:
        return [vad.process(each) for each in vad.probabilities(pieces[number % len(pieces)])]

    unit = f"{size // FRAME} frames of {FRAME * 1000 // SAMPLE_RATE} ms"
    return [_stage("voice activity detection", unit, _time(detect, calls), hop * SAMPLE_RATE / size)]


def _decide(manifest: Manifest) -> Callable[[int], object]:
    logits = np.random.default_rng(0).normal(0, 2, (64, len(manifest.labels))).astype(np.float32)
    steady = LabelHysteresis(DecisionSettings())

    def decide(number: int) -> object:
        shown, probabilities = steady.update(softmax(logits[number % len(logits)], manifest.temperature))
        return decision_on(probabilities, manifest.labels, manifest.threshold, label_index=shown)

    return decide


def _pieces(samples: Pcm, size: int) -> list[Pcm]:
    return [samples[at : at + size] for at in range(0, len(samples) - size + 1, size)]


def _time(call: Callable[[int], object], calls: int) -> tuple[float, ...]:
    times = []
    for number in range(_WARM_UP + calls):
        began = time.perf_counter_ns()
        call(number)
        times.append((time.perf_counter_ns() - began) / 1e6)
    return tuple(times[_WARM_UP:])


def _stage(name: str, unit: str, times: tuple[float, ...], per_hop: float) -> Stage:
    found = Latency(times, _WARM_UP, 1.0)
    tail = found.percentile(90)
    return Stage(
        stage=name,
        unit=unit,
        calls=len(times),
        calls_per_hop=round(per_hop, 3),
        p50_ms=round(found.median, 4),
        p90_ms=None if tail is None else round(tail, 4),
        max_ms=round(max(times), 4),
        per_hop_ms=round(found.median * per_hop, 4),
    )
