"""One person under two names: speakers whose voices differ by no more than two halves of one speaker's speech.

A voice is the mean of the speaker embeddings of some utterances, by the bundle that is installed with the runtime. Its
projection is fitted to what differs between speakers, not to emotions. The distance of two voices is the mean over
directions of ``(a - b)^2 / (w (1/n + 1/m))``, for means ``a`` and ``b`` of ``n`` and ``m`` utterances and the variance
``w`` within speakers: a ratio of variances, about 1 for one person. `benchmarks/results/voices.csv` has how often one
person is found, and how often two people are taken for one. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.caching.arrays import write_array
from distill.checks.audio_scan import AudioScan
from distill.checks.finding import NAMED, Finding
from distill.corpus import Utterance, spread
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.console import advance, progress_bar
from edge_runtime.decision import Floats
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.files import digest_of
from edge_runtime.sources.audio import read_audio

ALIKE = 1.3
"""Distance under which two voices count as one person's; set with `benchmarks/results/voices.csv` in sight."""
UTTERANCES = 16
"""Utterances of each speaker, at most."""
FEWEST = 8
"""Speakers with fewer utterances are not compared."""
MOST_SPEAKERS = 200
"""Of more, some are compared."""
_SHORTEST_SECONDS = 1.0


class Voice(NamedTuple):
    """Embeddings ``[N, k]`` of length 1 of some utterances of a speaker."""

    speaker: str
    embeddings: Floats


def check_voices(items: Sequence[Utterance], scans: Sequence[AudioScan], cache: Path) -> list[Finding]:
    """Return a warning about speakers who may be one person.

    Args:
        items: usable utterances of one corpus.
        scans: of these.
        cache: directory of the cache, for the embeddings.
    """
    voices = voices_of(items, scans, cache)
    pairs = [
        (distance, one, other)
        for one, row in enumerate(distances(voices))
        for other, distance in enumerate(row[:one])
        if distance < ALIKE
    ]
    if not pairs:
        return []
    names = [f"'{voices[other].speaker}' and '{voices[one].speaker}'" for _, one, other in sorted(pairs)]
    more = f" and {len(names) - NAMED} more pairs" if len(names) > NAMED else ""
    message = (
        f"Speakers {', '.join(names[:NAMED])}{more} have one voice: listen to them. One person under two names is in "
        "training and in test, and figures are too good; if it is one, write one name in the metadata."
    )
    return [Finding(check="voices", level="warning", message=message)]


def voices_of(items: Sequence[Utterance], scans: Sequence[AudioScan], cache: Path) -> list[Voice]:
    """Return the voices of all speakers with enough utterances, from the cache where they have been computed before."""
    groups: dict[str, list[tuple[Utterance, AudioScan]]] = {}
    for item, found in sorted(zip(items, scans, strict=True), key=lambda pair: pair[0].name):
        if found.seconds >= _SHORTEST_SECONDS:
            groups.setdefault(item.speaker, []).append((item, found))
    groups = {speaker: spread(each, UTTERANCES) for speaker, each in groups.items() if len(each) >= FEWEST}
    if len(groups) < 2:
        return []
    chosen = dict(spread(sorted(groups.items()), MOST_SPEAKERS))
    pairs = [pair for each in chosen.values() for pair in each]
    rows = _embeddings([item.path for item, _ in pairs], [found.identity for _, found in pairs], cache)
    ends = np.cumsum([len(each) for each in chosen.values()])
    return [Voice(speaker, part) for speaker, part in zip(chosen, np.split(rows, ends[:-1]), strict=True)]


def distances(voices: Sequence[Voice]) -> Floats:
    """Return the distances ``[S, S]`` of voices."""
    if not voices:
        return np.zeros((0, 0))
    means = np.stack([each.embeddings.mean(axis=0) for each in voices])
    within = np.mean([each.embeddings.var(axis=0, ddof=1) for each in voices], axis=0)
    shares = np.array([1 / len(each.embeddings) for each in voices])
    apart = np.square(means[:, None] - means[None]) / within
    return np.asarray(apart.mean(axis=2) / (shares[:, None] + shares[None]))


def _embeddings(paths: Sequence[Path], identities: Sequence[str], cache: Path) -> Floats:
    """Return the embeddings ``[N, k]``, of length 1."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    projection = bundle.speaker_projection
    assert projection is not None
    path = cache / "voices" / f"{digest_of([bundle.hash, *identities], 24)}.npy"
    if path.is_file():
        return np.asarray(np.load(path))
    engine, longest = OnnxEngine.of(bundle), bundle.manifest.window.samples
    rows = []
    with progress_bar("voices", total=len(paths)) as bar:
        for each in paths:
            rows.append(projection.embed(engine.score(read_audio(each)[:longest]).statistics))
            advance(bar)
    found = np.stack(rows)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_array(path, found)
    return found
