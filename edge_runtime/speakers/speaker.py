"""Speaker normalisation of a stream: the speaker mean that each segment is scored with, and its updates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.bundles.speaker_projection import SpeakerProjection
from edge_runtime.config import SpeakerSettings
from edge_runtime.speakers.profile_keeper import ProfileKeeper
from edge_runtime.speakers.speaker_mean import SpeakerMean
from edge_runtime.speakers.speaker_tracker import SpeakerTracker, Utterance

Floats = npt.NDArray[np.floating]


class SpeakerState(NamedTuple):
    """The speaker normalisation of one segment.

    Attributes:
        reference: ``[1, D]`` for the graph; None for the training mean.
        weight: weight of the speaker's own mean in it, 0 to below 1.
        profile: name of the profile that it comes from.
    """

    reference: npt.NDArray[np.float32] | None = None
    weight: float = 0.0
    profile: str | None = None


class Speaker:
    """The speaker of a stream: gives the state for each segment, and is updated with its final result.

    Args:
        mean: of the enrolled speaker; None for no speaker normalisation.
        keeper: saves the profile; None to keep the mean in memory only.
        projection: gives speaker embeddings, so that a change of speaker is detected; None for no detection.
        adapt_to_others: whether there are means of other speakers too, in memory only.
    """

    def __init__(
        self,
        mean: SpeakerMean | None,
        keeper: ProfileKeeper | None = None,
        projection: SpeakerProjection | None = None,
        *,
        adapt_to_others: bool = False,
    ) -> None:
        self._tracker = None if mean is None else SpeakerTracker(projection, mean, adapt_to_others=adapt_to_others)
        self._keeper = keeper
        self._notices: list[str] = []

    def state(self) -> SpeakerState:
        """Return the normalisation for the next segment, from its first window to its final result."""
        mean = self._tracker.current_mean() if self._tracker else None
        if mean is None:
            return SpeakerState()
        name = self._keeper.name if self._keeper and self._is_enrolled() else None
        return SpeakerState(mean.reference() if mean.count else None, mean.weight, name)

    def update(self, statistics: Floats, probabilities: Floats) -> None:
        """Add a segment with its result; values that are not numbers, or implausible, are ignored.

        Args:
            statistics: ``[windows, D]`` of the windows that the result is the mean of.
            probabilities: ``[classes]`` calibrated, of the result.
        """
        # NaN fails too.
        plausible = (np.abs(statistics) <= LARGEST_STATISTIC).all() and np.isfinite(probabilities).all()
        if self._tracker is None or not plausible:
            return
        mean = np.asarray(statistics, np.float64).mean(axis=0)
        effect = self._tracker.update(Utterance(mean, probabilities))
        if effect.changed:
            self._notices.append(self._change_notice())
        if self._keeper and effect.enrolled:
            self._continue_from(self._keeper.updated(self._tracker.enrolled, effect.enrolled))

    def notices(self) -> list[str]:
        """Return a sentence for each change of profile or speaker since the last call."""
        notices, self._notices = self._notices, []
        return [*notices, *(self._keeper.notices() if self._keeper else [])]

    def close(self) -> None:
        """Save the profile; `notices` reports a failure. A second call does nothing."""
        if not self._keeper or self._tracker is None:
            return
        if count := self._tracker.close():
            self._continue_from(self._keeper.updated(self._tracker.enrolled, count))
        if self._tracker is not None:
            self._continue_from(self._keeper.close(self._tracker.enrolled))

    def _continue_from(self, mean: SpeakerMean | None) -> None:
        """Continue from the mean that the keeper returns; None where the profile was removed."""
        if mean is None:
            self._tracker = None
        elif self._tracker is not None and mean is not self._tracker.enrolled:
            self._tracker.replace_enrolled(mean)

    def _is_enrolled(self) -> bool:
        return self._tracker is not None and self._tracker.current is self._tracker.enrolled

    def _change_notice(self) -> str:
        if not self._keeper:
            return "another speaker: the mean of the one before is set aside"
        if self._is_enrolled():
            return f"the speaker of the profile '{self._keeper.name}' again: the profile is used"
        return f"another speaker: the profile '{self._keeper.name}' is paused and not updated"


def open_speaker(bundle: Bundle, settings: SpeakerSettings) -> Speaker:
    """Return the speaker of the settings: with a profile, for this session only, or without normalisation.

    Raises:
        WrongUseError: a profile is named, and the bundle's student has no speaker normalisation.
        EdgeemoError: the profile cannot be used.
    """
    projection = bundle.speaker_projection
    session = settings.session if settings.session is not None else projection is not None
    if settings.profile is not None:
        keeper = ProfileKeeper(bundle, settings.profile)
        return Speaker(keeper.speaker_mean(), keeper, projection, adapt_to_others=session)
    entry = bundle.manifest.speaker
    if session and entry is not None:
        return Speaker(SpeakerMean(bundle.reference(), entry.trust), None, projection, adapt_to_others=True)
    return Speaker(None)
