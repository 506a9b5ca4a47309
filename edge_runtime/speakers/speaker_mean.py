"""The speaker mean: a running mean of the statistics of a speaker's utterances, and its weight against the prior.

The mean of a few utterances, or of many with one emotion, describes these utterances more than the speaker. The graph
therefore gets a mixture of the training mean and the speaker's mean. Its weight is that of an estimate from ``m``
utterances beside a prior worth ``trust`` utterances (James and Stein): ``w = m / (m + trust)``. Utterances count fully
where they show all emotions equally, and not at all where they show one. With V the number of emotions that they show,
the exponential of the entropy of their mean probabilities, ``m = n (V - 1) / (C - 1)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

MEMORY = 200.0
"""Utterances after which an old one counts 1/e of a new one: voices, rooms and microphones change."""


class SpeakerMean:
    """The running mean of one speaker, and the ``reference`` input of the graph that follows from it.

    Args:
        default: ``[1, D]`` the training mean, used as long as there is no utterance.
        trust: number of utterances that the training mean is worth.
        mean: ``[D]`` of the statistics of earlier utterances.
        emotion_shares: ``[classes]`` the mean of their probabilities.
        count: number of earlier utterances.
    """

    def __init__(
        self,
        default: Floats,
        trust: float,
        *,
        mean: Floats | None = None,
        emotion_shares: Floats | None = None,
        count: float = 0.0,
    ) -> None:
        self._default = np.asarray(default, np.float32)
        self._trust = trust
        self.mean = np.zeros(default.shape[1]) if mean is None else np.asarray(mean, np.float64)
        self.emotion_shares = np.zeros(0) if emotion_shares is None else np.asarray(emotion_shares, np.float64)
        self.count = count

    @property
    def variety(self) -> float:
        """How evenly the utterances cover the emotions: 0 for one emotion, 1 for all equally."""
        if not self.count or len(self.emotion_shares) < 2:
            return 0.0
        shares = self.emotion_shares[self.emotion_shares > 0]
        shares = shares / shares.sum()
        emotions = float(np.exp(-(shares * np.log(shares)).sum()))
        return min(1.0, max(0.0, (emotions - 1.0) / (len(self.emotion_shares) - 1)))

    @property
    def weight(self) -> float:
        """Weight of the speaker's mean in the mixture, 0 to below 1."""
        effective = self.count * self.variety
        return effective / (effective + self._trust)

    def empty(self) -> SpeakerMean:
        """Return the mean of a speaker without utterances."""
        return SpeakerMean(self._default, self._trust)

    def copy(self) -> SpeakerMean:
        """Return an independent copy."""
        return SpeakerMean(
            self._default, self._trust, mean=self.mean, emotion_shares=self.emotion_shares, count=self.count
        )

    def update(self, statistics: Floats, probabilities: Floats) -> None:
        """Add one utterance: statistics ``[D]``, the mean over its windows, and probabilities ``[classes]``."""
        if not len(self.emotion_shares):
            self.emotion_shares = np.zeros(len(probabilities))
        # Up to MEMORY a plain mean, then an exponential one.
        self.count = min(self.count + 1.0, MEMORY)
        self.mean = self.mean + (np.asarray(statistics, np.float64) - self.mean) / self.count
        self.emotion_shares = (
            self.emotion_shares + (np.asarray(probabilities, np.float64) - self.emotion_shares) / self.count
        )

    def reference(self) -> npt.NDArray[np.float32]:
        """Return the ``reference`` input of the graph, ``[1, D]``."""
        if not self.count:
            return self._default
        weight = self.weight
        return np.asarray((1.0 - weight) * self._default + weight * self.mean, np.float32)
