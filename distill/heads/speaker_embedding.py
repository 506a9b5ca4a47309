"""Speaker-embedding projection, by which the runtime detects changes of speaker.

Linear discriminant analysis with a class for each training speaker (Fisher, "The Use of Multiple Measurements in
Taxonomic Problems", 1936): emotions vary within a speaker, so directions along which they move statistics get little
weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

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
"""Share of a speaker's own groups that may be mistaken for another speaker's.

With 0.02, changes were detected more often for validation speakers who kept to one emotion, which cost more UA than
it gained where the speaker did change.
"""
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
        validation: tuple[Sequence[str], Floats] | None,
    ) -> tuple[Floats, float] | None:
        """Return the projection ``[k, D]`` and the threshold; None where there are too few speakers for one of them.

        Args:
            rows: yields all training utterances block by block, with the number of the speaker as their class.
            speakers: how many training speakers there are.
            validation: names of the speakers ``[N]`` and standardised statistics ``[N, D]`` of validation utterances;
                None to keep the threshold that was chosen before.
        """
        if speakers < MIN_SPEAKERS or (validation is None and self._threshold is None):
            return None
        projection = fit_projection(rows, speakers)
        if validation is not None:
            names, statistics = validation
            self._threshold = choose_threshold(by_speaker(names, statistics @ projection.T))
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


def choose_threshold(embeddings: Mapping[str, Floats]) -> float | None:
    """Return the cosine that `FALSE_CHANGES` of groups of `GROUP` fall below, against `COMPARED` others of the speaker.

    Args:
        embeddings: ``[N, k]`` of the utterances of each validation speaker, as recorded.

    Returns:
        The threshold; None where fewer than `MIN_VALIDATION_SPEAKERS` speakers have enough utterances.
    """
    random = np.random.default_rng(0)
    found: list[float] = []
    speakers = 0
    for name in sorted(embeddings):
        own = embeddings[name]
        if len(own) < GROUP + MIN_COMPARED:
            continue
        speakers += 1
        for _ in range(_DRAWS):
            order = random.permutation(len(own))
            compared = own[order[GROUP : GROUP + COMPARED]]
            found.append(cosine(own[order[:GROUP]].mean(axis=0), compared.mean(axis=0)))
    return float(np.quantile(found, FALSE_CHANGES)) if speakers >= MIN_VALIDATION_SPEAKERS else None


def by_speaker(names: Sequence[str], embeddings: Floats) -> dict[str, Floats]:
    """Return the embeddings ``[n, k]`` of each speaker, of ``[N, k]`` and the speaker of each."""
    speakers = np.asarray(names)
    return {name: embeddings[speakers == name] for name in dict.fromkeys(names)}
