"""A labelled timeline of utterances and non-speech sounds, as an audio source for the runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.bench.accuracy.playback import sounding
from distill.corpus import Utterance
from distill.speech.acoustics import pink_noise, white_noise
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio
from edge_runtime.sources.interface import BLOCK_SECONDS, Block

PAUSES = (1.0, 3.0)
"""Seconds between two recordings, at least and at most."""
FLOOR_DB = -70.0
"""Level of the pink noise under the whole timeline, relative to an RMS of 1, as rooms and microphones have it."""
_LOUD_DB = -40.0
_FLOOR_SECONDS = 10

Floats = npt.NDArray[np.floating]
Make = Callable[[int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Stretch:
    """A part of the timeline, in samples since it began.

    Attributes:
        kind: ``utterance``, ``pause``, or the kind of non-speech sound.
        start: first sample.
        end: sample after the last one.
        item: the utterance; None for other stretches.
        first: first sample of the utterance's sound.
        last: sample after the end of the utterance's sound.
    """

    kind: str
    start: int
    end: int
    item: Utterance | None = None
    first: int = 0
    last: int = 0


def _quiet(samples: int, _random: np.random.Generator) -> Floats:
    return np.zeros(samples)


def _hum(samples: int, random: np.random.Generator) -> Floats:
    """A motor or a transformer: 100 Hz and some harmonics."""
    at = np.arange(samples) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * 100 * k * at + random.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3, 5)]
    return np.asarray(np.sum(tones, axis=0))


def _knocks(samples: int, random: np.random.Generator) -> Floats:
    """Typing, steps, dishes: short decaying noise, two or three times a second."""
    sound = np.zeros(samples)
    decay = np.exp(-np.arange(SAMPLE_RATE // 10) / (0.01 * SAMPLE_RATE))
    place = 0
    while (place := place + int(random.uniform(0.1, 0.7) * SAMPLE_RATE)) < samples:
        rest = sound[place : place + len(decay)]
        rest += 10.0 * random.uniform(0.3, 1.0) * (random.standard_normal(len(decay)) * decay)[: len(rest)]
    return sound


def _tones(samples: int, random: np.random.Generator) -> Floats:
    """Ringing, or a plain melody: notes of some tenths of a second with four harmonics."""
    sound = np.zeros(samples)
    place = 0
    while place < samples:
        length = int(random.uniform(0.15, 0.5) * SAMPLE_RATE)
        at = np.arange(length) / SAMPLE_RATE
        pitch = 220.0 * 2 ** (int(random.integers(24)) / 12)
        note = np.sum([np.sin(2 * np.pi * pitch * k * at) / k for k in range(1, 5)], axis=0) * np.exp(-3 * at)
        sound[place : place + length] = note[: samples - place]
        place += length
    return sound


NO_SPEECH: dict[str, Make] = {
    "quiet": _quiet,
    "white noise": white_noise,
    "pink noise": pink_noise,
    "hum": _hum,
    "knocks": _knocks,
    "tones": _tones,
}
"""Synthetic non-speech sounds; all but quiet at an RMS of -40 dB."""


@dataclass
class Timeline:
    """Each utterance once, speaker by speaker in random order with pauses, followed by non-speech sounds.

    A timeline is played once. `stretches` and `position` grow while it plays.

    Attributes:
        utterances: to play.
        seed: of the order, the pauses and the sounds.
        no_speech_seconds: of non-speech sounds, in equal shares; 0 for none.
        stretches: played so far, in order.
        position: samples played so far.
    """

    utterances: Sequence[Utterance]
    seed: int
    no_speech_seconds: float = 0.0
    stretches: list[Stretch] = field(default_factory=list)
    position: int = 0
    _closed: bool = False

    name = "a timeline of test utterances"
    live = False

    def blocks(self) -> Iterator[Block]:
        """Yield the timeline in blocks of 100 ms, at once."""
        size = round(BLOCK_SECONDS * SAMPLE_RATE)
        held = np.zeros(0, np.float32)
        for part in self._parts():
            held = np.concatenate([held, part])
            while len(held) >= size and not self._closed:
                yield self._block(held[:size])
                held = held[size:]
            if self._closed:
                return
        if len(held):
            yield self._block(held)

    def close(self) -> None:
        """End `blocks` at the next block."""
        self._closed = True

    def _block(self, pcm: Pcm) -> Block:
        self.position += len(pcm)
        return Block(np.ascontiguousarray(pcm), 0, time.monotonic())

    def _parts(self) -> Iterator[Pcm]:
        random = np.random.default_rng(self.seed)
        floor = pink_noise(_FLOOR_SECONDS * SAMPLE_RATE, random) * 10 ** (FLOOR_DB / 20)
        played = 0

        def on_floor(pcm: Floats) -> Pcm:
            return np.asarray(pcm + np.resize(np.roll(floor, -played), len(pcm)), np.float32)

        for item in self._order(random):
            pause = round(random.uniform(*PAUSES) * SAMPLE_RATE)
            self.stretches.append(Stretch("pause", played, played + pause))
            yield on_floor(np.zeros(pause))
            played += pause
            pcm = read_audio(item.path)
            first, last = sounding(pcm)
            self.stretches.append(Stretch("utterance", played, played + len(pcm), item, played + first, played + last))
            yield on_floor(pcm)
            played += len(pcm)
        # A pause, so that the last utterance ends before the stream does.
        kinds: dict[str, tuple[Make, float]] = {"pause": (_quiet, PAUSES[1])}
        if self.no_speech_seconds:
            kinds |= {kind: (make, self.no_speech_seconds / len(NO_SPEECH)) for kind, make in NO_SPEECH.items()}
        for kind, (make, seconds) in kinds.items():
            sound = make(round(seconds * SAMPLE_RATE), random)
            level = float(np.sqrt(np.square(sound).mean()))
            self.stretches.append(Stretch(kind, played, played + len(sound)))
            yield on_floor(sound * 10 ** (_LOUD_DB / 20) / max(level, 1e-20))
            played += len(sound)

    def _order(self, random: np.random.Generator) -> Iterator[Utterance]:
        for speaker in sorted({item.speaker for item in self.utterances}):
            own = [item for item in self.utterances if item.speaker == speaker]
            for number in random.permutation(len(own)):
                yield own[int(number)]
