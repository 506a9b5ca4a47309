"""Whose usual voice results are relative to, and what is learnt of it while it is listened to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.config import SpeakerSettings
from edge_runtime.manifest import LARGEST_STATISTIC
from edge_runtime.profile_keeper import ProfileKeeper
from edge_runtime.reference import SpeakerReference

Floats = npt.NDArray[np.floating]


class Usual(NamedTuple):
    """The usual voice that one segment is scored with.

    Attributes:
        reference: ``[1, D]`` for the graph; None for the training mean.
        weight: how far the speaker's own voice is in it, 0 to below 1.
        profile: name of the profile that it is from.
    """

    reference: npt.NDArray[np.float32] | None = None
    weight: float = 0.0
    profile: str | None = None


class Speaker:
    """The speaker of a stream: gives the reference for a segment, and learns from its final result.

    Args:
        known: what is known of the voice; None where nothing is to be learnt.
        keeper: keeps the profile; None to forget it all at the end.
    """

    def __init__(self, known: SpeakerReference | None, keeper: ProfileKeeper | None = None) -> None:
        self._known = known
        self._keeper = keeper

    def usual(self) -> Usual:
        """Return what the next segment is to be scored with, from its first window to its final result."""
        if self._known is None:
            return Usual()
        name = self._keeper.name if self._keeper else None
        return Usual(self._known.reference() if self._known.count else None, self._known.weight, name)

    def learn(self, statistics: Floats, probabilities: Floats) -> None:
        """Take in a segment that was decided on; what is no number, or none of a voice, is not believed.

        Args:
            statistics: ``[windows, D]`` of the windows that its result is the mean of.
            probabilities: ``[classes]`` calibrated, of the result.
        """
        # NaN fails too.
        believed = (np.abs(statistics) <= LARGEST_STATISTIC).all() and np.isfinite(probabilities).all()
        if self._known is None or not believed:
            return
        self._known.learn(np.asarray(statistics, np.float64).mean(axis=0), probabilities)
        if self._keeper:
            self._known = self._keeper.learnt(self._known)

    def news(self) -> list[str]:
        """Return what happened to the profile since it was last asked, a sentence each."""
        return self._keeper.news() if self._keeper else []

    def close(self) -> None:
        """Save what was learnt; what could not be is told by `news`. Again, it does nothing."""
        if self._keeper and self._known is not None:
            self._known = self._keeper.close(self._known)


def open_speaker(bundle: Bundle, settings: SpeakerSettings) -> Speaker:
    """Return the speaker that settings name: of a profile, of this session, or none that anything is learnt of.

    Raises:
        WrongUseError: a profile is named, and the bundle's student can know no speaker.
        EdgeemoError: the profile that is there cannot be used.
    """
    if settings.profile is not None:
        keeper = ProfileKeeper(bundle, settings.profile)
        return Speaker(keeper.known(), keeper)
    entry = bundle.manifest.speaker
    if settings.session and entry is not None:
        return Speaker(SpeakerReference(bundle.reference(), entry.trust))
    return Speaker(None)
