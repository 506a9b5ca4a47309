"""Fit the speaker model (`edge_runtime.bundles.speaker_model`) in closed form to labelled statistics.

Each statistic of an utterance is the sum of the offset of its speaker, the mean of its class, the speaker's own way of
expressing the class, and the rest. Least squares gives offsets and class means, and their covariances follow. Corpora
and classes have equal weight, however many utterances they have.

The model is restricted to few directions: those in which classes differ relative to the covariance ``W + t B`` within a
speaker (W) and between speakers (B), for several ``t``. With t = 0 the speaker is known, with t = 1 unknown, and the
others lie between. All covariances are shrunk (Friedman, "Regularized Discriminant Analysis", 1989), so that the model
does not rely on directions that the training speakers hardly vary in.

Speakers of an unseen corpus lie further from the mean of n training corpora than the training speakers do: the variance
of their offsets is ``(1 + 1 / n) / (1 - 1 / n)`` times as large, where it is the corpora that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from distill.evaluation.metrics import Floats, Ints
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.errors import EdgeemoError

SHARES = (0.0, 0.1, 0.5, 3.0)
"""Values of t."""
SOFTNESS = 16.0
"""Temperature of the probabilities of latent classes. From 10 to 25 the accuracy on left-out corpora hardly differs;
with 1 or 3 it is two to five points lower, since a wrong class confirms itself."""
_ROUNDS = 8
"""Of the alternation between offsets and class means; one is exact where all speakers have all classes."""
_SMALLEST = 1e-5
"""Directions with a smaller share of the largest variance are numerical noise."""
_LEAST_VARIANCE = 1e-3
"""Of a speaker's own class means, relative to the variance of an utterance."""


class SpeakerRows(NamedTuple):
    """Some utterances.

    Attributes:
        statistics: ``[B, D]``, standardised.
        classes: ``[B]`` class indices.
        speakers: of each utterance; one in another copy, with another voice and room, is another speaker.
        corpora: of each utterance.
        weights: ``[B]`` of the corpora.
    """

    statistics: Floats
    classes: Ints
    speakers: Sequence[str]
    corpora: Sequence[str]
    weights: Floats


class _Moments(NamedTuple):
    """Moments of the training speech.

    Attributes:
        within: ``[D, D]`` covariance within classes of a speaker, about the offset and the common class mean.
        offsets: ``[S, D]`` weighted offsets of the speakers, whose products add up to their covariance.
        own: ``[S C, D]`` the same of the speakers' own class means.
        own_noise: share of ``within`` in their covariance, since each is the mean of a few utterances.
        means: ``[C, D]`` class means.
        origin: ``[D]`` the mean offset.
        groups: how many corpora there are; of a single corpus, how many speakers.
    """

    within: Floats
    offsets: Floats
    own: Floats
    own_noise: float
    means: Floats
    origin: Floats
    groups: int


def fit_speaker_model(
    rows: Callable[[], Iterator[SpeakerRows]], classes: int, shrinkages: Sequence[float]
) -> Iterator[SpeakerModel]:
    """Yield a speaker model for each shrinkage; its projection is of standardised statistics.

    Args:
        rows: returns an iterator over all utterances each time, block by block.
        classes: how many classes there are; each occurs.
        shrinkages: each above 0 to 1.

    Raises:
        EdgeemoError: no speaker has two classes, so that offsets and class means cannot be told apart.
    """
    moments = _moments(rows, classes)
    deviation = np.sqrt(np.diag(moments.within) + np.square(moments.means).mean(axis=0))
    deviation = np.maximum(deviation, 1e-6 * deviation.max())
    scaled = moments._replace(
        within=moments.within / np.outer(deviation, deviation),
        offsets=moments.offsets / deviation,
        own=moments.own / deviation,
        means=moments.means / deviation,
        origin=moments.origin / deviation,
    )
    for shrinkage in shrinkages:
        yield _model(scaled, deviation, shrinkage)


def prior_head(model: SpeakerModel) -> tuple[Floats, Floats]:
    """Return weight ``[C, D]`` and bias ``[C]`` of the logits that a speaker model gives where nothing is known.

    The covariance is then the same for all classes, and the logits are linear.
    """
    covariance = np.eye(len(model.between)) + model.between + np.diag(model.interaction[0])
    solved = linalg.solve(covariance, model.class_means.T, assume_a="pos").T
    return solved @ model.projection, -0.5 * (solved * model.class_means).sum(axis=1)


def _moments(rows: Callable[[], Iterator[SpeakerRows]], classes: int) -> _Moments:
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    corpus_of: dict[str, str] = {}
    weight_of: dict[str, float] = {}
    for block in rows():
        every = zip(block.statistics, block.classes, block.speakers, block.corpora, block.weights, strict=True)
        for row, number, speaker, corpus, weight in every:
            if speaker not in sums:
                sums[speaker] = np.zeros((classes, len(row)))
                counts[speaker] = np.zeros(classes)
                corpus_of[speaker] = corpus
            sums[speaker][number] += row
            counts[speaker][number] += 1
            weight_of[corpus] = float(weight)
    speakers = list(sums)
    count = np.stack([counts[name] for name in speakers])
    if (count > 0).sum(axis=1).max() < 2:
        raise EdgeemoError(
            "student.speaker: each speaker of the training part shows a single emotion, so that speakers and emotions "
            "cannot be told apart; leave this table out, or give speech in which speakers show several"
        )
    mean = np.stack([sums[name] for name in speakers]) / np.maximum(count, 1)[:, :, None]
    corpora = np.array([corpus_of[name] for name in speakers])
    # Of an utterance, by its corpus and its class; then of a speaker.
    totals = {name: np.maximum(count[corpora == name].sum(axis=0), 1) for name in weight_of}
    utterance = np.stack([weight_of[name] / totals[name] for name in corpora])
    of_speaker = np.array([weight_of[name] / (corpora == name).sum() for name in corpora])
    of_speaker /= of_speaker.sum()
    centres, means = _least_squares(mean, count, count * utterance)
    origin = of_speaker @ centres
    own = (mean - centres[:, None] - means)[count > 0]
    of_own = np.repeat(of_speaker[:, None], classes, axis=1)[count > 0]
    of_own *= classes / max(classes - 1, 1) / of_own.sum()
    number_of = {name: number for number, name in enumerate(speakers)}
    within: Floats = np.zeros((mean.shape[2], mean.shape[2]))
    total = 0.0
    for block in rows():
        who = np.array([number_of[name] for name in block.speakers])
        share = utterance[who, block.classes]
        rest = (block.statistics - centres[who] - means[block.classes]) * np.sqrt(share)[:, None]
        within += rest.T @ rest
        total += float(share.sum())
    return _Moments(
        within / total,
        (centres - origin) * np.sqrt(of_speaker)[:, None],
        # Deviations from the mean of C classes have a variance that is (C - 1) / C too small.
        own * np.sqrt(of_own)[:, None],
        float((of_own / count[count > 0]).sum()),
        means,
        origin,
        len(weight_of) if len(weight_of) > 1 else len(speakers),
    )


def _least_squares(mean: Floats, count: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return offsets ``[S, D]`` of speakers and class means ``[C, D]`` with mean zero.

    Args:
        mean: ``[S, C, D]`` of each speaker and class.
        count: ``[S, C]`` utterances.
        weights: ``[S, C]``.
    """
    seen = (count > 0).astype(float)
    means: Floats = np.zeros(mean.shape[1:])
    centres: Floats = np.zeros((len(mean), mean.shape[2]))
    for _ in range(_ROUNDS):
        centres = np.einsum("sc,scd->sd", seen, mean - means) / seen.sum(axis=1)[:, None]
        apart = np.einsum("sc,scd->cd", weights, mean - centres[:, None])
        means = apart / weights.sum(axis=0)[:, None]
        means -= means.mean(axis=0)
    return centres, means


def _model(moments: _Moments, deviation: Floats, shrinkage: float) -> SpeakerModel:
    """Return the model of moments that are divided by the deviation ``[D]`` of the statistics."""
    within, offsets, own, noise, means, origin, groups = moments
    size = len(within)

    def ridge(trace: float) -> float:
        return max(shrinkage * trace / size, 1e-9)

    base, spread = ridge(float(np.trace(within))), float(np.square(offsets).sum())
    found = []
    for share in SHARES:
        covariance = (1.0 - shrinkage) * (within + share * offsets.T @ offsets)
        covariance[np.diag_indices(size)] += base + ridge(share * spread)
        directions = linalg.solve(covariance, means.T, assume_a="pos", overwrite_a=True, check_finite=False)
        # The means sum to zero: one is the rest.
        found.append(directions[:, :-1] / np.linalg.norm(directions[:, :-1], axis=0))
    chosen = np.concatenate(found, axis=1)
    # A basis in which the covariance within a speaker is the identity ...
    projected = (1.0 - shrinkage) * chosen.T @ within @ chosen + base * chosen.T @ chosen
    values, vectors = np.linalg.eigh(projected)
    kept = values > _SMALLEST * values.max()
    chosen = chosen @ (vectors[:, kept] / np.sqrt(values[kept]))
    # ... and that of the speakers' own class means is diagonal.
    own_covariance = _shrunk(own @ chosen, chosen, float(np.square(own).sum()) / size, shrinkage)
    own_covariance -= noise * (1.0 - shrinkage) * chosen.T @ within @ chosen
    variances, vectors = np.linalg.eigh(own_covariance)
    chosen = chosen @ vectors
    between = _shrunk(offsets @ chosen, chosen, spread / size, shrinkage) * (groups + 1) / max(groups - 1, 1)
    return SpeakerModel(
        projection=np.asarray(chosen.T / deviation, np.float32),
        origin=np.zeros(size),
        class_means=(means + origin) @ chosen,
        between=between,
        interaction=np.repeat(np.maximum(variances, _LEAST_VARIANCE)[None], len(means), axis=0),
        softness=SOFTNESS,
    )


def _shrunk(rows: Floats, chosen: Floats, mean_variance: float, shrinkage: float) -> npt.NDArray[np.float64]:
    found = (1.0 - shrinkage) * rows.T @ rows + max(shrinkage * mean_variance, 1e-9) * chosen.T @ chosen
    return np.asarray((found + found.T) / 2, np.float64)
