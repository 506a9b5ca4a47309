"""Fit the speaker projection, with which the device detects changes of speaker.

Linear discriminant analysis with a class for each speaker (Fisher, "The Use of Multiple Measurements in Taxonomic
Problems", 1936): emotions vary within a speaker, so the directions that they move are kept down, and what is left is
who it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from distill.evaluation.metrics import Floats
from distill.frozen.discriminant import LabelledRows, fit_discriminants
from edge_runtime.bundles.speaker_projection import cosine
from edge_runtime.speakers.speaker_tracker import MIN_ENROLLED, MIN_PENDING

DIRECTIONS = 40
"""At most; on held-out speakers more of them told no more."""
SHRINKAGE = 0.9
FEWEST_SPEAKERS = 3
FEWEST_VALIDATION = 2
GROUP, BEHIND, FEWEST_BEHIND = MIN_PENDING, 10, MIN_ENROLLED
"""Utterances of a group that is compared, the fewest that the device compares, and of the voice that it is compared
with, wanted and at least: of a larger group or a voice that is known for longer, fewer are taken for somebody else's.
"""
MISSED = 0.01
"""Share of a speaker's own groups that may be taken for somebody else's.

With 0.02 a validation speaker who stayed in one mood for long was taken for somebody else more often, which cost more
than it gave where somebody else did speak.
"""
_DRAWS = 200
"""Groups that are drawn of each speaker for the threshold."""


class SpeakerTracker(NamedTuple):
    """A map ``[k, D]`` of standardised statistics, and the cosine under which two voices are of two people."""

    directions: Floats
    threshold: float


def fit_directions(rows: Callable[[], Iterator[LabelledRows]], speakers: int) -> Floats:
    """Return the directions ``[k, D]`` in which speakers differ most, measured by how much each one varies.

    With centred speaker means ``M`` ``[S, D]`` and the shrunk covariance ``C`` within speakers they are the leading
    eigenvectors of ``C^-1 M' M``. Those of ``M C^-1 M'`` ``[S, S]`` give them without a decomposition of size D: for
    an eigenvector v with eigenvalue l, ``C^-1 M' v / sqrt(l)``, of length 1 by ``C``.

    Args:
        rows: gives all utterances block by block, with the number of the speaker as their class.
        speakers: how many there are, `FEWEST_SPEAKERS` at least; each occurs.
    """
    (solved,) = fit_discriminants(rows, speakers, (SHRINKAGE,))
    sums: Floats = np.zeros_like(solved.weight)
    counts: Floats = np.zeros(speakers)
    for block in rows():
        np.add.at(sums, block.classes, block.statistics * block.weights[:, None])
        np.add.at(counts, block.classes, block.weights)
    means = sums / counts[:, None]
    # The map is linear, so that it can be centred after the inverse.
    inverse = solved.weight - solved.weight.mean(axis=0)
    values, vectors = np.linalg.eigh((means - means.mean(axis=0)) @ inverse.T)
    leading = np.argsort(values)[::-1][: min(DIRECTIONS, speakers - 1)]
    leading = leading[values[leading] > 1e-9 * values.max()]
    return np.asarray((vectors[:, leading] / np.sqrt(values[leading])).T @ inverse, np.float32)


def choose_threshold(places: Mapping[str, Floats]) -> float | None:
    """Return the cosine under which `MISSED` of groups of `GROUP` fall, compared with `BEHIND` others of the speaker.

    Args:
        places: ``[N, k]`` of the utterances of each validation speaker, as recorded.

    Returns:
        The threshold; None where fewer than `FEWEST_VALIDATION` speakers have enough utterances.
    """
    random = np.random.default_rng(0)
    found: list[float] = []
    speakers = 0
    for name in sorted(places):
        own = places[name]
        if len(own) < GROUP + FEWEST_BEHIND:
            continue
        speakers += 1
        for _ in range(_DRAWS):
            order = random.permutation(len(own))
            behind = own[order[GROUP : GROUP + BEHIND]]
            found.append(cosine(own[order[:GROUP]].mean(axis=0), behind.mean(axis=0)))
    return float(np.quantile(found, MISSED)) if speakers >= FEWEST_VALIDATION else None


def grouped(names: Sequence[str], places: Floats) -> dict[str, Floats]:
    """Return the places ``[n, k]`` of each speaker, of ``[N, k]`` and the name of each."""
    who = np.asarray(names)
    return {name: places[who == name] for name in dict.fromkeys(names)}
