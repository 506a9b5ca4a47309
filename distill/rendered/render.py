"""Render the built-in corpus: speakers, sentences, and the prosody of each emotion.

Every emotion is carried by the words, by the prosody, or by both, so that a teacher of words and a teacher of
prosody each have information that the other lacks (column ``carrier`` of the metadata):

========  ==================  =================  =====
carrier   words               prosody            label
========  ==================  =================  =====
words     emotional           neutral            of the words
prosody   neutral             emotional          of the prosody
both      emotional           the same emotion   the emotion
none      neutral             neutral            neutral
========  ==================  =================  =====

Each utterance has targets of arousal, valence and dominance, which show the chain for continuous dimensions and claim
nothing about people (`targets`). They follow from how the utterance is rendered: the speaking rate, pitch, range and
effort relative to the speaker's own, which vary from utterance to utterance, and for valence the emotion of words and
prosody.
"""

from __future__ import annotations

import csv
import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from distill.rendered.espeak import Prosody, Synthesiser
from distill.rendered.sentences import SHARE, Sentence, sentences
from edge_runtime.dimensions import HIGHEST, LOWEST, Dimension
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm

EMOTIONS = ("angry", "happy", "neutral", "sad")
NOTE = "Rendered speech (espeak-ng), for showing and testing the chain: no evidence of accuracy on people."


class Voice(NamedTuple):
    """One speaker: an espeak-ng voice with a variant, and how this speaker differs from it."""

    espeak: str
    pitch: int
    rate: float


class Style(NamedTuple):
    """How an emotion sounds: factors and offsets on the speaker's own prosody.

    ``effort`` is the coefficient of a first-order filter ``y[n] = x[n] - effort * x[n-1]``: positive brightens the
    voice as raised vocal effort does, negative dulls it.
    """

    rate: float
    pitch: int
    pitch_range: float
    effort: float


# Fold k of n takes every n-th speaker by name; the order keeps sexes and accents mixed in each of five folds.
SPEAKERS = {
    f"r{number:02d}": Voice(espeak, pitch, rate)
    for number, (espeak, pitch, rate) in enumerate(
        [
            ("en-us+m3", 45, 1.00),
            ("en+f2", 55, 1.05),
            ("en-gb-x-rp+m1", 50, 0.95),
            ("en-us+f4", 50, 1.00),
            ("en-gb-scotland+m4", 45, 0.98),
            ("en-gb-scotland+f1", 50, 0.95),
            ("en-us-nyc+m7", 52, 1.05),
            ("en-us+f3", 55, 1.00),
            ("en+m2", 48, 1.00),
            ("en-us-nyc+f2", 48, 0.96),
            ("en-gb-x-rp+m6", 47, 1.03),
            ("en+f4", 48, 1.02),
            ("en-us+m5", 55, 1.08),
            ("en-gb-x-rp+f5", 45, 1.00),
            ("en-us+m1", 50, 0.97),
            ("en-us-nyc+f1", 52, 1.06),
            ("en+m8", 47, 0.97),
            ("en-gb-scotland+f4", 46, 1.04),
            ("en-gb-x-rp+m3", 55, 1.02),
            ("en-us+f2", 50, 0.98),
        ],
        start=1,
    )
}

# After the direction of the effects in Banse & Scherer (1996) and Juslin & Laukka (2003): anger fast, bright, wide;
# happiness high, wide, fast; sadness slow, low, narrow, dull.
STYLES = {
    "angry": Style(rate=1.16, pitch=2, pitch_range=1.45, effort=0.45),
    "happy": Style(rate=1.08, pitch=18, pitch_range=1.60, effort=0.10),
    "neutral": Style(rate=1.00, pitch=0, pitch_range=1.00, effort=0.0),
    "sad": Style(rate=0.84, pitch=-12, pitch_range=0.50, effort=-0.40),
}

_VALENCE = {"angry": -0.3, "happy": 0.3, "neutral": 0.0, "sad": -0.3}

_BASE_RATE = 170
_BASE_RANGE = 48
_PAUSE_SECONDS = 0.12


class Line(NamedTuple):
    """One utterance to render."""

    sentence: Sentence
    prosody: str
    take: int

    @property
    def emotion(self) -> str:
        """The label: the emotion that is not neutral, if there is one."""
        return self.prosody if self.sentence.emotion == "neutral" else self.sentence.emotion

    @property
    def carrier(self) -> str:
        """What carries the emotion: ``words``, ``prosody``, ``both`` or ``none``."""
        words, prosody = self.sentence.emotion != "neutral", self.prosody != "neutral"
        return {(True, True): "both", (True, False): "words", (False, True): "prosody"}.get((words, prosody), "none")

    @property
    def name(self) -> str:
        """Name within a speaker's utterances."""
        return f"{self.sentence.name}-{self.prosody}-{self.take}"


def script(speaker: int, share: int = 2) -> list[Line]:
    """Return the utterances of one speaker in a fixed order, the four classes of about equal size.

    Args:
        speaker: number of the speaker, from 0.
        share: each speaker speaks one in ``share`` sentences of each emotion, drawn by the speaker's number.
    """
    random = np.random.default_rng(speaker)
    lines: list[Line] = []
    for number, sentence in enumerate(_draw(random, share)):
        if sentence.emotion == "neutral":
            takes = [(prosody, 0) for prosody in EMOTIONS] + [("neutral", 1)]
        else:
            # Every other sentence also with its own prosody, so that no carrier outnumbers the others.
            takes = [("neutral", 0)] + ([(sentence.emotion, 0)] if number % 2 else [])
        lines += [Line(sentence, prosody, take) for prosody, take in takes]
    return lines


def _draw(random: np.random.Generator, share: int) -> list[Sentence]:
    drawn: list[Sentence] = []
    for _, group in itertools.groupby(sentences(), key=lambda sentence: sentence.emotion):
        each = list(group)
        drawn += [each[index] for index in sorted(random.permutation(len(each))[: len(each) // share])]
    return drawn


def targets(line: Line, voice: Voice, prosody: Prosody, effort: float) -> dict[Dimension, float]:
    """Return the targets of a rendered utterance, each from 0 to 1; rendered, no claim about people.

    With the deviations from the speaker's own neutral prosody ``r`` (rate, relative), ``p`` (pitch, in espeak-ng's
    hundred steps), ``w`` (range, relative) and the effort ``e``:

    * arousal is ``0.5 + 0.75 r + 0.4 p + 0.2 w + 0.3 e``;
    * valence is ``0.5 + p + v / 2``, where ``v`` is -0.3 (angry, sad), 0 or 0.3 (happy) of the words plus that of the
      prosody;
    * dominance is ``0.5 + 0.7 e - p + 0.5 r``.
    """
    r = prosody.rate / (_BASE_RATE * voice.rate) - 1
    p = (prosody.pitch - voice.pitch) / 100
    w = prosody.pitch_range / _BASE_RANGE - 1
    values: dict[Dimension, float] = {
        "arousal": 0.5 + 0.75 * r + 0.4 * p + 0.2 * w + 0.3 * effort,
        "valence": 0.5 + p + (_VALENCE[line.prosody] + _VALENCE[line.sentence.emotion]) / 2,
        "dominance": 0.5 + 0.7 * effort - p + 0.5 * r,
    }
    return {name: min(max(value, LOWEST), HIGHEST) for name, value in values.items()}


class _Spoken(NamedTuple):
    pcm: Pcm
    targets: dict[Dimension, float]


def _speak(line: Line, voice: Voice, synthesiser: Synthesiser, seed: tuple[int, ...]) -> _Spoken:
    random = np.random.default_rng(seed)
    style = STYLES[line.prosody]
    prosody = Prosody(
        rate=round(_BASE_RATE * voice.rate * style.rate * random.uniform(0.92, 1.08)),
        pitch=round(np.clip(voice.pitch + style.pitch + random.uniform(-6, 6), 0, 99)),
        pitch_range=round(np.clip(_BASE_RANGE * style.pitch_range * random.uniform(0.8, 1.2), 0, 99)),
    )
    raw = synthesiser.render(line.sentence.text, prosody, seed=int(random.integers(1 << 30)))
    pcm = soxr.resample(raw, synthesiser.sample_rate, SAMPLE_RATE).astype(np.float32)
    effort = style.effort + random.uniform(-0.15, 0.15)
    pcm = pcm - effort * np.concatenate([np.zeros(1, np.float32), pcm[:-1]])
    pause = np.zeros(int(_PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    pcm = np.concatenate([pause, pcm, pause])
    # A random level and a floor of noise, so that neither gives the label away.
    level = 10 ** (random.uniform(-30, -18) / 20)
    pcm = pcm * (level / np.sqrt(np.mean(pcm**2)))
    noise = random.standard_normal(len(pcm)) * level * 10 ** (-random.uniform(25, 40) / 20)
    return _Spoken(np.asarray(np.clip(pcm + noise, -1, 1), np.float32), targets(line, voice, prosody, effort))


def _render_speaker(speaker: str, root: Path, seed: int, share: int) -> list[dict[str, str]]:
    voice = SPEAKERS[speaker]
    synthesiser = Synthesiser(voice.espeak)
    number = list(SPEAKERS).index(speaker)
    rows = []
    (root / speaker).mkdir(parents=True)
    for position, line in enumerate(script(number, share)):
        spoken = _speak(line, voice, synthesiser, (seed, number, position))
        name = f"{speaker}/{line.name}.flac"
        soundfile.write(root / name, spoken.pcm, SAMPLE_RATE, subtype="PCM_16")
        rows.append(
            {
                "file": name,
                "speaker": speaker,
                "emotion": line.emotion,
                "language": "en",
                "transcript": line.sentence.text,
                "sentence": line.sentence.name,
                "carrier": line.carrier,
                **{str(name): f"{value:.4f}" for name, value in spoken.targets.items()},
            }
        )
    return rows


def render_corpus(
    root: Path,
    *,
    seed: int = 0,
    speakers: int = len(SPEAKERS),
    share: int = SHARE,
    workers: int | None = None,
    progress: Callable[[str], None] = lambda speaker: None,
) -> None:
    """Render the corpus into a new directory with a ``metadata.csv`` and a ``corpus.json``.

    The directory appears only when all of it is there. The same seed gives the same samples, whatever the number of
    workers.

    Args:
        root: directory to make; must not exist yet.
        seed: seed of prosody, level and noise.
        speakers: how many speakers, 1..20.
        share: each speaker speaks one in ``share`` sentences; a higher number makes a smaller corpus.
        workers: processes; the number of cores if not given.
        progress: called with the speaker's name when a speaker is done.

    Raises:
        EdgeemoError: the directory exists, or espeak-ng failed.
        MissingPartError: the package ``espeakng-loader`` is not installed.
    """
    if root.exists():
        raise EdgeemoError(f"{root}: exists already; give a new directory or remove it")
    names = list(SPEAKERS)[:speakers]
    part = root.with_name(f".{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    try:
        # espeak-ng keeps state: a process of its own for every speaker makes the samples independent of `workers`.
        with multiprocessing.get_context("spawn").Pool(workers or os.cpu_count(), maxtasksperchild=1) as pool:
            tasks = [pool.apply_async(_render_speaker, (name, part, seed, share)) for name in names]
            for name, task in zip(names, tasks, strict=True):
                rows += task.get()
                progress(name)
        with (part / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        facts = {"name": "rendered", "kind": "rendered", "licence": "CC0-1.0", "note": NOTE}
        (part / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        part.rename(root)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
