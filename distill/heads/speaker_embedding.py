"""Speaker-embedding projection, by which the runtime detects changes of speaker.

Linear discriminant analysis with a class for each training speaker (Fisher, "The Use of Multiple Measurements in
Taxonomic Problems", 1936): emotions vary within a speaker, so directions along which they move statistics get little
weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from distill.evaluation.metrics import Floats
from distill.heads.lda import LabelledRows, fit_lda
from edge_runtime.bundles.speaker_projection import cosine
from edge_runtime.speakers.speaker_tracker import MIN_ENROLLED, MIN_PENDING

MAX_SIZE = 40
"""Of the embedding; more dimensions did not separate held-out speakers better."""
SHRINKAGE = 0.9
MIN_SPEAKERS = 3
MIN_VALIDATION_SPEAKERS = 2
GROUP, COMPARED, MIN_COMPARED = MIN_PENDING, 10, MIN_ENROLLED
"""Utterances of a group that is compared, the fewest that the device compares, and of those that it is compared with,
at most and at least: with larger numbers, fewer groups are mistaken for another speaker's."""
FALSE_CHANGES = 0.01
"""Share of a speaker's own groups that may be mistaken for another speaker's."""
_DRAWS = 200
"""Groups that are drawn of each speaker for the threshold."""


class SpeakerEmbeddingFit:
    """Fits the projection, and the threshold on validation speakers.

    The threshold is kept: a projection fitted to training and validation speakers together gets the one that was chosen
    on validation speakers before.
    """

    def __init__(self) -> None:
        self._threshold: float | None = None

    def __call__(
        self,
        rows: Callable[[], Iterator[LabelledRows]],
        speakers: int,
        validation: tuple[Sequence[str], Sequence[str], Floats] | None,
    ) -> tuple[Floats, float] | None:
        """Return the projection ``[k, D]`` and the threshold; None where there are too few speakers for one of them.

        Args:
            rows: yields all training utterances block by block, with the number of the speaker as their class.
            speakers: how many training speakers there are.
            validation: speakers and emotions ``[N]`` and standardised statistics ``[N, D]`` of validation utterances;
                None to keep the threshold that was chosen before.
        """
        if speakers < MIN_SPEAKERS or (validation is None and self._threshold is None):
            return None
        projection = fit_projection(rows, speakers)
        if validation is not None:
            names, emotions, statistics = validation
            self._threshold = choose_threshold(names, emotions, statistics @ projection.T)
        return None if self._threshold is None or not len(projection) else (projection, self._threshold)


def fit_projection(rows: Callable[[], Iterator[LabelledRows]], speakers: int) -> Floats:
    """Return the projection ``[k, D]`` on the directions in which speakers differ most, relative to their own variance.

    With centred speaker means ``M`` ``[S, D]`` and the shrunk covariance ``C`` within speakers they are the leading
    eigenvectors of ``C^-1 M' M``. Those of ``M C^-1 M'`` ``[S, S]`` give them without a decomposition of size D: for
    an eigenvector v with eigenvalue l, ``C^-1 M' v / sqrt(l)``, of length 1 by ``C``.

    Args:
        rows: yields all utterances block by block, with the number of the speaker as their class.
        speakers: how many there are, `MIN_SPEAKERS` at least; each occurs.
    """
    (head,) = fit_lda(rows, speakers, (SHRINKAGE,))
    sums: Floats = np.zeros_like(head.weight)
    counts: Floats = np.zeros(speakers)
    for block in rows():
        np.add.at(sums, block.classes, block.statistics * block.weights[:, None])
        np.add.at(counts, block.classes, block.weights)
    means = sums / counts[:, None]
    # LDA is linear in the means, so that they can be centred after the inverse.
    inverse = head.weight - head.weight.mean(axis=0)
    values, vectors = np.linalg.eigh((means - means.mean(axis=0)) @ inverse.T)
    leading = np.argsort(values)[::-1][: min(MAX_SIZE, speakers - 1)]
    leading = leading[values[leading] > 1e-9 * values.max()]
    return np.asarray((vectors[:, leading] / np.sqrt(values[leading])).T @ inverse, np.float32)


def choose_threshold(speakers: Sequence[str], emotions: Sequence[str], embeddings: Floats) -> float | None:
    """Return the cosine that `FALSE_CHANGES` of groups of `GROUP` fall below, against `COMPARED` others of the speaker.

    A group has one emotion, and what it is compared with has a single other one, where the speaker shows enough of it:
    a change of emotion is no change of speaker. A mixture of other emotions would be too easy to match.

    Args:
        speakers: ``[N]`` of the validation utterances, as recorded.
        emotions: ``[N]``.
        embeddings: ``[N, k]``.

    Returns:
        The threshold; None where fewer than `MIN_VALIDATION_SPEAKERS` speakers have enough utterances.
    """
    random = np.random.default_rng(0)
    names, shown = np.asarray(speakers), np.asarray(emotions)
    found: list[float] = []
    enough = 0
    for name in sorted(set(speakers)):
        own, own_shown = embeddings[names == name], shown[names == name]
        if len(own) < GROUP + MIN_COMPARED:
            continue
        enough += 1
        for _ in range(_DRAWS):
            order = random.permutation(len(own))
            same = own_shown[order] == own_shown[order[0]]
            group = order[same][:GROUP]
            others = Counter(own_shown[order][~same].tolist())
            enough_of = [emotion for emotion, count in sorted(others.items()) if count >= MIN_COMPARED]
            if enough_of:
                rest = order[own_shown[order] == random.choice(enough_of)]
            else:
                rest = np.concatenate([order[~same], order[same][GROUP:]])
            if len(group) == GROUP and len(rest) >= MIN_COMPARED:
                found.append(cosine(own[group].mean(axis=0), own[rest[:COMPARED]].mean(axis=0)))
    return float(np.quantile(found, FALSE_CHANGES)) if found and enough >= MIN_VALIDATION_SPEAKERS else None
