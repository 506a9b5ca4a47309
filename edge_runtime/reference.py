"""A speaker's usual voice: a running mean of an utterance's statistics, and how far it is to be trusted.

The mean of a few utterances, or of many in one mood, says more of those utterances than of the speaker. So the graph is
given a mixture of the training mean and the speaker's mean, whose weight is that of an estimate from so many utterances
beside a prior worth ``trust`` of them (James and Stein): ``w = m / (m + trust)``. Utterances count in full where they
show all emotions alike and not at all where they show one: with V the number of emotions that they show, the
exponential of the entropy of the mean of their probabilities, ``m = n (V - 1) / (C - 1)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

MEMORY = 200.0
"""Utterances after which an old one counts 1/e of a new one: a voice changes with the day, the room and the years."""


class SpeakerReference:
    """What was heard of one speaker, and the reference that follows from it.

    Args:
        default: ``[1, D]`` the training mean, which the speaker is taken for as long as nothing is known.
        trust: utterances that the training mean is worth.
        mean: ``[D]`` of the statistics of earlier utterances.
        shown: ``[classes]`` the mean of their probabilities.
        count: how many they were.
    """

    def __init__(
        self,
        default: Floats,
        trust: float,
        *,
        mean: Floats | None = None,
        shown: Floats | None = None,
        count: float = 0.0,
    ) -> None:
        self._default = np.asarray(default, np.float32)
        self._trust = trust
        self.mean = np.zeros(default.shape[1]) if mean is None else np.asarray(mean, np.float64)
        self.shown = np.zeros(0) if shown is None else np.asarray(shown, np.float64)
        self.count = count

    @property
    def variety(self) -> float:
        """How evenly the utterances show the emotions: 0 for one alone, 1 for all alike."""
        if not self.count or len(self.shown) < 2:
            return 0.0
        shares = self.shown[self.shown > 0]
        shares = shares / shares.sum()
        emotions = float(np.exp(-(shares * np.log(shares)).sum()))
        return min(1.0, max(0.0, (emotions - 1.0) / (len(self.shown) - 1)))

    @property
    def weight(self) -> float:
        """How far the speaker's mean is trusted, 0 to below 1."""
        counting = self.count * self.variety
        return counting / (counting + self._trust)

    def begun(self) -> SpeakerReference:
        """Return one of a speaker of whom nothing is known."""
        return SpeakerReference(self._default, self._trust)

    def copy(self) -> SpeakerReference:
        """Return another one that knows the same."""
        return SpeakerReference(self._default, self._trust, mean=self.mean, shown=self.shown, count=self.count)

    def learn(self, statistics: Floats, probabilities: Floats) -> None:
        """Take in one utterance.

        Args:
            statistics: ``[D]`` as the graph gives them, the mean over its windows.
            probabilities: ``[classes]`` what was decided on it.
        """
        if not len(self.shown):
            self.shown = np.zeros(len(probabilities))
        # Up to MEMORY a plain mean, then an exponential one.
        self.count = min(self.count + 1.0, MEMORY)
        self.mean = self.mean + (np.asarray(statistics, np.float64) - self.mean) / self.count
        self.shown = self.shown + (np.asarray(probabilities, np.float64) - self.shown) / self.count

    def reference(self) -> npt.NDArray[np.float32]:
        """Return the reference ``[1, D]`` for the graph."""
        if not self.count:
            return self._default
        weight = self.weight
        return np.asarray((1.0 - weight) * self._default + weight * self.mean, np.float32)
