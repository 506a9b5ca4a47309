"""Whether a system decides better than by chance on the speech that it is tested on. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

SHUFFLES = 2000
LEVEL = 0.025
"""Of the one-sided test: the part of a 95 % interval's draws below its lower end."""


class Chance(BaseModel, extra="forbid", frozen=True):
    """Unweighted accuracy of chance, and whether that of a system is beyond it.

    Attributes:
        ua: one by the number of tested emotions, which the same decision for all utterances reaches.
        p: of a permutation test over utterances, where there are too few speakers for an interval.
        at_chance: the lower end of the interval of the system's unweighted accuracy is not above `ua`; without an
            interval, `p` is not below 0.025.
    """

    ua: float
    p: float | None = None
    at_chance: bool

    def warning(self, system: str, ua: float) -> str:
        """Return a sentence on a system that is at chance level."""
        test = "" if self.p is None else f", p = {self.p:.2f} in a permutation test over utterances"
        return (
            f"the {system} is at chance level: UA {ua:.3f} on the tested speech, where chance has {self.ua:.3f}{test}; "
            "edgeemo export refuses it"
        )

    @classmethod
    def of(
        cls,
        truth: npt.NDArray[np.integer],
        decided: npt.NDArray[np.integer],
        speakers: Sequence[str],
        ua_low: float | None,
    ) -> Chance:
        """Compare decisions with chance.

        Args:
            truth: ``[N]`` class indices.
            decided: ``[N]``.
            speakers: ``[N]``.
            ua_low: lower end of the interval over speakers of the unweighted accuracy; None where there is none.
        """
        ua = 1 / len(np.unique(truth))
        if ua_low is not None:
            return cls(ua=ua, at_chance=ua_low <= ua + 1e-9)
        p = permutation_p(truth, decided, speakers)
        return cls(ua=ua, p=p, at_chance=not p < LEVEL)


def permutation_p(
    truth: npt.NDArray[np.integer], decided: npt.NDArray[np.integer], speakers: Sequence[str], seed: int = 0
) -> float:
    """Return how often decisions in random order reach the unweighted accuracy of these, the observed order included.

    The decisions on each speaker are exchanged among the utterances of that speaker, so that a system that recognises
    speakers, but no emotions, is at chance. This covers other utterances of these speakers, not other speakers.

    Source: Phipson and Smyth, "Permutation P-values Should Never Be Zero" (2010).
    """
    order = np.argsort(np.asarray(speakers), kind="stable")
    truth, decided = truth[order], decided[order]
    _, counts = np.unique(np.asarray(speakers)[order], return_counts=True)
    random = np.random.default_rng(seed)
    shuffled = np.concatenate(
        [random.permuted(np.tile(own, (SHUFFLES, 1)), axis=1) for own in np.split(decided, np.cumsum(counts)[:-1])],
        axis=1,
    )
    every = np.concatenate([decided[None], shuffled])
    ua = np.mean([(every[:, truth == label] == label).mean(axis=1) for label in np.unique(truth)], axis=0)
    return float((ua >= ua[0] - 1e-9).sum() / (SHUFFLES + 1))
