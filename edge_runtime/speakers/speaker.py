"""Whose usual voice results are relative to, and what is learnt of it while it is listened to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.bundles.voice import VoiceSpace
from edge_runtime.config import SpeakerSettings
from edge_runtime.reference import SpeakerReference
from edge_runtime.speakers.profile_keeper import ProfileKeeper
from edge_runtime.speakers.recent_voice import Utterance, Voices

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
        space: tells voices apart, so that a change of speaker is noticed; None where it is not.
        strangers: whether other voices than that one are learnt too, until the end.
    """

    def __init__(
        self,
        known: SpeakerReference | None,
        keeper: ProfileKeeper | None = None,
        space: VoiceSpace | None = None,
        *,
        strangers: bool = False,
    ) -> None:
        self._voices = None if known is None else Voices(space, known, strangers=strangers)
        self._keeper = keeper
        self._told: list[str] = []

    def usual(self) -> Usual:
        """Return what the next segment is to be scored with, from its first window to its final result."""
        known = self._voices.usual() if self._voices else None
        if known is None:
            return Usual()
        name = self._keeper.name if self._keeper and self._is_kept() else None
        return Usual(known.reference() if known.count else None, known.weight, name)

    def learn(self, statistics: Floats, probabilities: Floats) -> None:
        """Take in a segment that was decided on; what is no number, or none of a voice, is not believed.

        Args:
            statistics: ``[windows, D]`` of the windows that its result is the mean of.
            probabilities: ``[classes]`` calibrated, of the result.
        """
        # NaN fails too.
        believed = (np.abs(statistics) <= LARGEST_STATISTIC).all() and np.isfinite(probabilities).all()
        if self._voices is None or not believed:
            return
        mean = np.asarray(statistics, np.float64).mean(axis=0)
        heard = self._voices.hear(Utterance(mean, probabilities))
        if heard.turned:
            self._told.append(self._who())
        if self._keeper and heard.kept:
            self._go_on(self._keeper.learnt(self._voices.kept, heard.kept))

    def news(self) -> list[str]:
        """Return what happened to the profile and who speaks since it was last asked, a sentence each."""
        told, self._told = self._told, []
        return [*told, *(self._keeper.news() if self._keeper else [])]

    def close(self) -> None:
        """Save what was learnt; what could not be is told by `news`. Again, it does nothing."""
        if not self._keeper or self._voices is None:
            return
        if kept := self._voices.close():
            self._go_on(self._keeper.learnt(self._voices.kept, kept))
        if self._voices is not None:
            self._go_on(self._keeper.close(self._voices.kept))

    def _go_on(self, known: SpeakerReference | None) -> None:
        """Go on from what the keeper says is known: nothing where the profile was removed."""
        if known is None:
            self._voices = None
        elif self._voices is not None and known is not self._voices.kept:
            self._voices.go_on_from(known)

    def _is_kept(self) -> bool:
        return self._voices is not None and self._voices.now is self._voices.kept

    def _who(self) -> str:
        if not self._keeper:
            return "another voice speaks: what was learnt of the one before is kept aside"
        if self._is_kept():
            return f"the voice of the profile '{self._keeper.name}' speaks again: the profile is used"
        return f"another voice speaks: the profile '{self._keeper.name}' is paused, and learns nothing of it"


def open_speaker(bundle: Bundle, settings: SpeakerSettings) -> Speaker:
    """Return the speaker that settings name: of a profile, of this session, or none that anything is learnt of.

    Raises:
        WrongUseError: a profile is named, and the bundle's student can know no speaker.
        EdgeemoError: the profile that is there cannot be used.
    """
    session = settings.session if settings.session is not None else bundle.voices is not None
    if settings.profile is not None:
        keeper = ProfileKeeper(bundle, settings.profile)
        return Speaker(keeper.known(), keeper, bundle.voices, strangers=session)
    entry = bundle.manifest.speaker
    if session and entry is not None:
        return Speaker(SpeakerReference(bundle.reference(), entry.trust), None, bundle.voices, strangers=True)
    return Speaker(None)
