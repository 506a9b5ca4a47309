"""Known answers: a few seconds of synthetic signal, and the logits that exact arithmetic gives for it.

A bundle contains both, and each engine is tested with them before use (`edge_runtime/engines/known_answer_test.py`).
The signal is stored, not generated again: random generators change between versions of NumPy. `KNOWN_ANSWERS` holds it
as little-endian 16-bit PCM at 16 kHz, mono; ``bundle.json`` lists its stretches and the logits of each graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.manifest import (
    KNOWN_ANSWERS,
    LONGEST_KNOWN_SECONDS,
    KnownAnswersEntry,
    Manifest,
    Precision,
    StretchEntry,
)
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.windows import SHORTEST

_FULL_SCALE = 32768.0
_WHISPER_DB = -55.0
"""Level of the whispered stretch, in dB of full scale; close speech is at about -26."""


@dataclass(frozen=True)
class KnownAnswers:
    """The signal of a bundle's known answers, and the logits of its graphs.

    Attributes:
        windows: ``[samples]`` each, 16 kHz, -1..1.
        logits: ``[windows, classes]`` by precision, for every exported graph.
        tolerance: root mean square error of the logits above which decisions change.
        dimensions: ``[windows, K]`` by precision; empty for a bundle without dimensions.
        dimension_tolerance: root mean square error of the dimensions that an engine may have.
    """

    windows: tuple[Pcm, ...]
    logits: dict[Precision, npt.NDArray[np.float32]]
    tolerance: float
    dimensions: dict[Precision, npt.NDArray[np.float32]] = field(default_factory=dict)
    dimension_tolerance: float = 0.0


def known_answers(content: bytes, manifest: Manifest, where: str) -> KnownAnswers:
    """Return the known answers of a bundle.

    Raises:
        EdgeemoError: they are too long, do not fit the file or the window, or have another number of classes.
    """
    entry = manifest.known_answers
    assert entry is not None
    longest, classes = manifest.window.samples, len(manifest.labels)
    if sum(each.samples for each in entry.stretches) > LONGEST_KNOWN_SECONDS * SAMPLE_RATE:
        raise too_long(where)
    sound = np.frombuffer(content[: len(content) // 2 * 2], "<i2")
    for each in entry.stretches:
        if each.start + each.samples > len(sound) or not SHORTEST <= each.samples <= longest:
            raise EdgeemoError(
                f"{where}: the known answers for '{each.sound}' do not fit {KNOWN_ANSWERS} or the window; "
                "export the bundle again"
            )
    predicted = manifest.dimensions
    dimensions = predicted.known_answers if predicted else {}
    for answers, size, what in ((entry.logits, classes, "logits"), (dimensions, _count_of(manifest), "dimensions")):
        for precision, rows in answers.items():
            if len(rows) != len(entry.stretches) or any(len(row) != size for row in rows):
                raise EdgeemoError(
                    f"{where}: the known answers of {precision} are not {len(entry.stretches)} times {size} {what}; "
                    "export the bundle again"
                )
    return KnownAnswers(
        windows_of(sound, entry.stretches),
        {precision: np.array(rows, np.float32) for precision, rows in entry.logits.items()},
        entry.tolerance,
        {precision: np.array(rows, np.float32) for precision, rows in dimensions.items()},
        predicted.tolerance if predicted else 0.0,
    )


def _count_of(manifest: Manifest) -> int:
    return len(manifest.dimensions.names) if manifest.dimensions else 0


def too_long(where: str) -> EdgeemoError:
    """Return the error for known answers that are too long."""
    return EdgeemoError(
        f"{where}: its known answers are longer than {LONGEST_KNOWN_SECONDS} s; export the bundle again"
    )


def synthetic_signal(longest: int, chunk: int = 0) -> tuple[npt.NDArray[np.int16], tuple[StretchEntry, ...]]:
    """Return three seconds of signal ``[samples]`` at 16 kHz, and its stretches of at most ``longest`` samples.

    For a graph in chunks of so many samples also a stretch of two chunks and a rest, which depend on one another.
    """
    random = np.random.default_rng(0)

    def time(seconds: float) -> npt.NDArray[np.float64]:
        return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE

    def voice(seconds: float, pitch: float, slope: float) -> npt.NDArray[np.float64]:
        """Harmonics of a moving pitch, in syllables, over breath."""
        at = time(seconds)
        phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.15 * np.sin(2 * np.pi * 3 * at))) / SAMPLE_RATE
        sound: npt.NDArray[np.float64] = sum(
            (np.sin(harmonic * phase) / harmonic**slope for harmonic in range(1, 20)), np.zeros(len(at))
        )
        return sound * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * at)) * 0.1 + random.normal(0, 0.005, len(at))

    half = round(0.2 * SAMPLE_RATE)
    stretches = {
        "noise": random.normal(0, 0.05, len(time(0.4))),
        "tones": 0.2 * np.sin(2 * np.pi * 440 * time(0.4)) + 0.1 * np.sin(2 * np.pi * 3100 * time(0.4)),
        "silence": np.zeros(len(time(0.3))),
        "step": np.concatenate([np.zeros(half), np.full(half, 0.5)]),
        "full scale": random.uniform(-1, 1, len(time(0.4))),
        "whisper": random.normal(0, 10 ** (_WHISPER_DB / 20), len(time(0.4))),
        "voice": voice(0.7, 170, 0.9),
    }
    if chunk:
        long = voice(2 * chunk / SAMPLE_RATE + 0.3, 140, 1.1)
        stretches["rising voice"] = long * np.linspace(0.1, 1, len(long))
    entries, start = [], 0
    for name, sound in stretches.items():
        entries.append(StretchEntry(sound=name, start=start, samples=min(len(sound), longest)))
        start += len(sound)
    scaled = np.round(np.concatenate(list(stretches.values())) * _FULL_SCALE)
    return np.clip(scaled, -32768, 32767).astype(np.int16), tuple(entries)


def windows_of(sound: npt.NDArray[np.int16], stretches: Iterable[StretchEntry]) -> tuple[Pcm, ...]:
    """Return the stretches of a 16-bit signal as float32 in -1..1, the input of engines."""
    scaled = sound.astype(np.float32) / np.float32(_FULL_SCALE)
    return tuple(scaled[each.start : each.start + each.samples] for each in stretches)


def entry_of(
    stretches: tuple[StretchEntry, ...], logits: dict[Precision, npt.NDArray[np.float32]], tolerance: float
) -> KnownAnswersEntry:
    """Return the entry of ``bundle.json`` for known answers.

    Args:
        stretches: from `synthetic_signal`.
        logits: ``[stretches, classes]`` of each graph, in exact arithmetic.
        tolerance: root mean square error above which decisions change.
    """
    return KnownAnswersEntry(
        stretches=stretches,
        logits={precision: rounded(rows) for precision, rows in logits.items()},
        tolerance=float(f"{tolerance:.4g}"),
    )


def rounded(rows: npt.NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    """Return the answers of a graph as ``bundle.json`` holds them, with six digits."""
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in rows)
