"""Recognises training speech under other names: a few bytes of each fingerprint go with the run and its bundle.

Of each utterance two frames are kept, those whose bits have the smallest value of two hash functions (min-hash; Broder,
"On the resemblance and containment of documents", 1997): a copy has the same ones if the frames survive without a bit
error. So 8 bytes an utterance recognise every plain copy, about half of the utterances in mu-law and a tenth of those
in MP3 or Opus (`benchmarks/results/leakage.csv`), enough for a corpus of copies. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.checks.audio_scan import scan
from distill.checks.fingerprint import Fingerprint
from distill.checks.same_recording import MIN_FRAMES
from edge_runtime.files import replacing

TRAINING_SPEECH = "training-speech.u32"
"""Name of the file in a run and in a bundle: two words an utterance."""

MOST_SKETCHES = 3_500
"""Utterances in a file, 28 kB: of more, some are chosen at random."""

_FACTORS = (0x9E3779B1, 0x85EBCA77)
_MIN_COUNT, _MIN_SHARE = 3, 0.04
_MIN_SURE_SHARE = 0.01

Words = npt.NDArray[np.uint32]


def sketches_of(paths: Sequence[Path], cache: Path) -> Words:
    """Return two words ``[N, 2]`` for each utterance that is long enough for a fingerprint.

    Args:
        paths: of the utterances.
        cache: directory of the cache of `scan`.
    """
    rows = []
    for found in scan(paths, cache):
        words, active = Fingerprint.decode(found.fingerprint)
        if active.sum() >= MIN_FRAMES:
            loud = words[active]
            rows.append([loud[_hash(loud, factor).argmin()] for factor in _FACTORS])
    return np.array(rows, np.uint32).reshape(-1, 2)


def _hash(words: Words, factor: int) -> Words:
    """Return a hash of each word, another one for another factor."""
    mixed = (words ^ (words >> 16)) * np.uint32(factor)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return np.asarray(mixed ^ (mixed >> 16), np.uint32)


def write_sketches(folder: Path, sketches: Words, unlabelled: Words | None = None) -> None:
    """Write ``training-speech.u32`` into a directory; unlabelled speech takes the room that labelled speech leaves."""
    sketches = _some(sketches, MOST_SKETCHES)
    if unlabelled is not None:
        sketches = np.concatenate([sketches, _some(unlabelled, MOST_SKETCHES - len(sketches))])
    with replacing(folder / TRAINING_SPEECH) as temporary:
        temporary.write_bytes(np.ascontiguousarray(sketches, "<u4").tobytes())


def _some(sketches: Words, count: int) -> Words:
    if len(sketches) <= count:
        return sketches
    return sketches[np.sort(np.random.default_rng(0).permutation(len(sketches))[:count])]


def recognised(content: bytes, sketches: Words) -> int:
    """Return how many utterances share a word with training speech; 0 where so few do as by chance.

    Of unrelated corpora 1 % of the utterances do at most, and none shares both words.

    Args:
        content: of ``training-speech.u32``.
        sketches: ``[N, 2]`` of the utterances in question.
    """
    known = np.frombuffer(content[: len(content) // 8 * 8], "<u4").reshape(-1, 2)
    shared = np.stack([np.isin(sketches[:, place], known[:, place]) for place in range(2)], axis=1)
    one, both = int(shared.any(axis=1).sum()), int(shared.all(axis=1).sum())
    sure = both >= max(1.0, _MIN_SURE_SHARE * len(sketches))
    return one if sure or one >= max(_MIN_COUNT, _MIN_SHARE * len(sketches)) else 0
