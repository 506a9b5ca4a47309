"""The speaker of a stream: what each segment is scored with, and what its result adds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import LARGEST_STATISTIC
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.bundles.speaker_projection import SpeakerProjection
from edge_runtime.config import SpeakerSettings
from edge_runtime.engines.engine import Scores
from edge_runtime.speakers.profile_keeper import ProfileKeeper
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation, Utterance
from edge_runtime.speakers.speaker_tracker import SpeakerTracker

Floats = npt.NDArray[np.floating]


class SpeakerState(NamedTuple):
    """What one segment is scored with.

    Attributes:
        adaptation: of the speaker; None to take the graph's logits.
        labels: class names of the logits.
        profile: name of the profile that it comes from.
    """

    adaptation: SpeakerAdaptation | None
    labels: tuple[str, ...]
    profile: str | None = None

    @property
    def known(self) -> float:
        """How well the speaker is known, 0 to below 1."""
        return self.adaptation.posterior.known if self.adaptation else 0.0

    def logits(self, scores: Scores) -> Floats:
        """Return the logits ``[classes]`` of a window for this speaker."""
        if self.adaptation is None:
            return scores.logits
        reduced = self.adaptation.model.reduced(scores.statistics)[None]
        return np.asarray(self.adaptation.posterior.logits(reduced)[0])


class Speaker:
    """The speaker of a stream: gives the state for each segment, and is updated with its statistics.

    Args:
        labels: class names of the bundle, then those that the profile adds.
        adaptation: of the enrolled speaker; None for no adaptation to speakers.
        unknown: the model of other speakers, with the classes of the bundle; that of the enrolled one if not given.
        keeper: saves the profile; None to keep what is known in memory only.
        projection: gives speaker embeddings, so that a change of speaker is detected; None for no detection.
        adapt_to_others: whether other speakers are kept too, in memory only.

    Attributes:
        labels: as given, or those after another program changed the profile.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        adaptation: SpeakerAdaptation | None,
        keeper: ProfileKeeper | None = None,
        projection: SpeakerProjection | None = None,
        *,
        unknown: SpeakerModel | None = None,
        adapt_to_others: bool = False,
    ) -> None:
        self.labels = labels
        self._projection = projection
        self._model: SpeakerModel | None = None
        self._tracker: SpeakerTracker | None = None
        if adaptation is not None:
            self._model = unknown or adaptation.model
            threshold = projection.threshold if projection else None
            self._tracker = SpeakerTracker(threshold, adaptation, self._model, adapt_to_others=adapt_to_others)
        self._keeper = keeper
        self._notices: list[str] = []

    def state(self) -> SpeakerState:
        """Return what the next segment is scored with, from its first window to its final result."""
        speaker = self._tracker.current_speaker() if self._tracker else None
        if speaker is None and self._model is not None:
            speaker = SpeakerAdaptation(self._model)
        name = self._keeper.name if self._keeper and self._is_enrolled() else None
        classes = len(speaker.model.class_means) if speaker else len(self.labels)
        return SpeakerState(speaker, self.labels[:classes], name)

    def update(self, statistics: Floats) -> None:
        """Add a segment; values that are not numbers, or implausible, are ignored.

        Args:
            statistics: ``[windows, D]`` of the windows that its result is the mean of.
        """
        if self._tracker is None or self._model is None or not _plausible(statistics):
            return
        utterance = utterance_of(statistics, self._model, self._projection)
        # A profile with larger numbers could be saved, and not be read again.
        if not all(map(_plausible, utterance)):
            return
        effect = self._tracker.update(utterance)
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

    @property
    def lost(self) -> str | None:
        """Why the last changes of the profile could not be saved, after `close`."""
        return self._keeper.lost if self._keeper else None

    def _continue_from(self, speaker: SpeakerAdaptation | None) -> None:
        """Continue from what the keeper returns; None where the profile was removed."""
        if speaker is None:
            self._tracker = None
        elif self._tracker is not None and speaker is not self._tracker.enrolled:
            self._tracker.replace_enrolled(speaker)
            if self._keeper and self._model is not None:
                self.labels = (*self.labels[: len(self._model.class_means)], *self._keeper.added)

    def _is_enrolled(self) -> bool:
        return self._tracker is not None and self._tracker.current is self._tracker.enrolled

    def _change_notice(self) -> str:
        if not self._keeper:
            return "another speaker: what is known of the one before is set aside"
        if self._is_enrolled():
            return f"the speaker of the profile '{self._keeper.name}' again: the profile is used"
        return f"another speaker: the profile '{self._keeper.name}' is paused and not updated"


def _plausible(values: Floats) -> bool:
    # NaN fails too.
    return bool((np.abs(values) <= LARGEST_STATISTIC).all())


def utterance_of(statistics: Floats, model: SpeakerModel, projection: SpeakerProjection | None) -> Utterance:
    """Return an utterance of the statistics ``[windows, D]`` of its windows."""
    mean = np.asarray(statistics, np.float64).mean(axis=0)
    return Utterance(model.reduced(mean), projection.embed(mean) if projection else np.zeros(0))


def open_speaker(bundle: Bundle, settings: SpeakerSettings) -> Speaker:
    """Return the speaker of the settings: with a profile, for this session only, or without adaptation.

    Raises:
        WrongUseError: a profile is named, and the bundle has no speaker model.
        EdgeemoError: the profile cannot be used.
    """
    model, projection, labels = bundle.speaker_model, bundle.speaker_projection, bundle.manifest.labels
    session = settings.session if settings.session is not None else projection is not None
    if settings.profile is not None:
        keeper = ProfileKeeper(bundle, settings.profile)
        named = (*labels, *keeper.added)
        return Speaker(named, keeper.adaptation(), keeper, projection, unknown=model, adapt_to_others=session)
    if session and model is not None:
        return Speaker(labels, SpeakerAdaptation(model), None, projection, adapt_to_others=True)
    return Speaker(labels, None)
