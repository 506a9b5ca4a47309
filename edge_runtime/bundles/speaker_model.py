"""Speaker model: what is not yet known about a speaker, and how each utterance reduces it.

Voice, room and microphone move all statistics of a speaker's speech. The model describes them in a few directions, in
which the covariance within a class of a speaker is the identity. Statistics ``x`` of class c are

    x = m_c + o + d_c + e,    o ~ N(0, B),  d_c ~ N(0, diag(v)),  e ~ N(0, I)

with the class means ``m``, the speaker's offset ``o`` and the speaker's own way ``d_c`` of expressing the class. This
is two-covariance PLDA (Ioffe, "Probabilistic Linear Discriminant Analysis", 2006) with one more random effect, by class
and speaker. All of it is Gaussian, so that the posterior is in closed form where the classes of the utterances are
given. Where they are not, they are latent and estimated in turn (EM), with probabilities far softer than those of a
single utterance: a student that is wrong about an unknown speaker is wrong about several utterances at once.

The variance that remains is part of each score. While a speaker is unknown, directions in which speakers differ hardly
count, and with nothing known the scores are those of LDA with the covariance ``I + B + diag(v)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.decision import softmax
from edge_runtime.errors import EdgeemoError

Floats = npt.NDArray[np.floating]
Exact = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

ROUNDS = 4
"""Of the estimation of latent classes; more changed no decision in a hundred."""
_SMALLEST = 1e-9
"""Share of the largest variance between speakers; below, a covariance of float32 is as good as singular."""


@dataclass(frozen=True)
class Posterior:
    """The distribution of a speaker's class means.

    Attributes:
        means: ``[C, k]`` expected class means of the speaker.
        covariances: ``[C, k, k]`` their uncertainty.
        known: how well the speaker's offset is known: the share of its prior variance that is gone, 0 to below 1.
    """

    means: Exact
    covariances: Exact
    known: float

    def logits(self, reduced: Floats) -> Exact:
        """Return the log-likelihood ``[N, C]`` of each class for reduced statistics ``[N, k]``, up to a constant.

        Each class has its own covariance: that of an utterance plus the uncertainty of the speaker's class mean.
        """
        found = np.empty((len(reduced), len(self.means)))
        for number, (inverse, constant) in enumerate(self._factors):
            scaled = (np.asarray(reduced, np.float64) - self.means[number]) @ inverse.T
            found[:, number] = constant - 0.5 * np.square(scaled).sum(axis=1)
        return found

    @cached_property
    def _factors(self) -> list[tuple[Exact, float]]:
        size = self.means.shape[1]
        factors = []
        for covariance in self.covariances:
            lower = np.linalg.cholesky(covariance + np.eye(size))
            factors.append((np.linalg.inv(lower), -float(np.log(np.diag(lower)).sum())))
        return factors


@dataclass(frozen=True)
class SpeakerModel:
    """The Gaussian model of all speakers.

    Attributes:
        projection: ``[k, D]`` from statistics to reduced statistics.
        origin: ``[D]`` the training mean, which is projected to zero.
        class_means: ``[C, k]``.
        between: ``[k, k]`` covariance B of the speakers' offsets, positive definite.
        interaction: ``[C, k]`` variances v of the speakers' own class means, positive.
        softness: temperature of the probabilities of latent classes.
    """

    projection: Floats
    origin: Floats
    class_means: Exact
    between: Exact
    interaction: Exact
    softness: float

    @cached_property
    def _precision(self) -> Exact:
        return np.asarray(np.linalg.inv(self.between), np.float64)

    def reduced(self, statistics: Floats) -> Exact:
        """Return reduced statistics ``[..., k]`` of statistics ``[..., D]``."""
        return np.asarray((np.asarray(statistics, np.float64) - self.origin) @ self.projection.T, np.float64)

    def prior(self) -> Posterior:
        """Return the distribution for an unknown speaker."""
        return self.given(np.zeros((0, self.class_means.shape[1])), np.zeros((0, len(self.class_means))))

    def adapted(self, utterances: Floats, clips: Floats | None = None, classes: Ints | None = None) -> Posterior:
        """Return the distribution after utterances of unknown classes and clips of known ones.

        Args:
            utterances: ``[N, k]`` reduced statistics.
            clips: ``[M, k]`` those of labelled clips; none if not given.
            classes: ``[M]`` their classes.
        """
        count = len(self.class_means)
        size = self.class_means.shape[1]
        known = np.zeros((0, size)) if clips is None else np.asarray(clips, np.float64)
        labels = np.eye(count)[np.zeros(0, int) if classes is None else classes]
        rows = np.concatenate([known, np.asarray(utterances, np.float64).reshape(-1, size)])
        # Without clips, all classes are equally likely at first: the posterior of a plain mean of the utterances.
        start = self.given(known, labels) if len(known) else None
        latent = np.full((len(rows) - len(known), count), 1.0 / count)
        for _ in range(ROUNDS + 1 if len(latent) else 1):
            if start is not None and len(latent):
                latent = softmax(start.logits(rows[len(known) :]), self.softness)
            start = self.given(rows, np.concatenate([labels, latent]))
        assert start is not None
        return start

    def given(self, rows: Floats, classes: Floats) -> Posterior:
        """Return the distribution given reduced statistics ``[N, k]`` and probabilities ``[N, C]`` of their classes.

        With ``n_c`` utterances of class c and their mean ``r_c`` relative to ``m_c``, each class observes the offset
        with the covariance ``diag(v) + I / n_c``, and the class mean lies between offset and ``r_c`` by the gain
        ``g = v / (v + 1 / n_c)``.
        """
        precision = self._precision.copy()
        counts = classes.sum(axis=0)
        sums = classes.T @ rows - counts[:, None] * self.class_means
        means = np.divide(sums, counts[:, None], out=np.zeros_like(sums), where=counts[:, None] > 1e-9)
        gains = self.interaction * counts[:, None] / (self.interaction * counts[:, None] + 1.0)
        weights = counts[:, None] / (self.interaction * counts[:, None] + 1.0)
        precision[np.diag_indices(len(precision))] += weights.sum(axis=0)
        weighted = (weights * means).sum(axis=0)
        covariance = np.linalg.inv(precision)
        offset = covariance @ weighted
        rest = 1.0 - gains
        found = rest[:, :, None] * covariance * rest[:, None, :]
        places = np.arange(len(offset))
        found[:, places, places] += rest * self.interaction
        known = 1.0 - float(np.trace(self._precision @ covariance)) / len(offset)
        return Posterior(self.class_means + rest * offset + gains * means, found, min(max(known, 0.0), 1.0))

    def with_classes(self, count: int) -> SpeakerModel:
        """Return the model with so many more classes, of which nothing is known but that they are classes.

        Their means lie around the mean of all classes, with the variance of the classes added to that of speakers.
        """
        if not count:
            return self
        spread = np.square(self.class_means - self.class_means.mean(axis=0)).mean(axis=0)
        means = np.repeat(self.class_means.mean(axis=0)[None], count, axis=0)
        wide = np.repeat((self.interaction.mean(axis=0) + spread)[None], count, axis=0)
        return SpeakerModel(
            self.projection,
            self.origin,
            np.concatenate([self.class_means, means]),
            self.between,
            np.concatenate([self.interaction, wide]),
            self.softness,
        )

    def dump(self) -> bytes:
        """Return the content of the bundle's file (`edge_runtime.bundles.manifest.SpeakerEntry`)."""
        parts = (self.projection, self.class_means, self.between, self.interaction[0])
        return b"".join(np.asarray(part, "<f4").tobytes() for part in parts)


def model_size(directions: int, statistics: int, classes: int) -> int:
    """Return the number of values in the file of a speaker model."""
    return directions * (statistics + classes + directions + 1)


def read_model(content: bytes, origin: Exact, classes: int, softness: float, where: str) -> SpeakerModel:
    """Return the speaker model in the content of a bundle's file, which has the right size.

    Args:
        content: of the file.
        origin: ``[D]`` the training mean.
        classes: number of classes.
        softness: temperature of the probabilities of latent classes.
        where: the file, for errors.

    Raises:
        EdgeemoError: a value is not a number, implausible, or not a variance.
    """
    values = np.frombuffer(content, "<f4").astype(np.float64)
    # k (D + C + k + 1) values.
    other = len(origin) + classes + 1
    size = round((np.sqrt(other**2 + 4 * len(values)) - other) / 2)
    # NaN fails too.
    if not (np.abs(values) <= LARGEST_STATISTIC).all():
        raise EdgeemoError(
            f"{where}: holds a value that is not a number or is beyond {LARGEST_STATISTIC:g}; do not trust this bundle"
        )
    places = np.cumsum([size * len(origin), classes * size, size * size])
    projection, means, between, interaction = np.split(values, places)
    given = between.reshape(size, size)
    # Of the matrix that is used: one that is only nearly symmetric may have other eigenvalues.
    covariance = (given + given.T) / 2
    variances = np.linalg.eigvalsh(covariance)
    symmetric = np.allclose(given, given.T, rtol=1e-3, atol=1e-6 * np.abs(given).max())
    if not (symmetric and (interaction > 0).all() and variances[0] > _SMALLEST * variances[-1]):
        raise EdgeemoError(f"{where}: its variances are not positive; do not trust this bundle")
    return SpeakerModel(
        projection.reshape(size, -1).astype(np.float32),
        origin,
        means.reshape(classes, size),
        covariance,
        np.repeat(interaction[None], classes, axis=0),
        softness,
    )
