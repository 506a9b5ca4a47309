"""Detects changes of speaker, and keeps what is known of each speaker of a stream.

The speaker embedding of one utterance is unreliable, that of several is reliable. The most recent utterances are
therefore pending. Results use them at once, but a speaker gets them for good only after they have left the group of
recent utterances, provided that the group matched this speaker all the time. A group that does not match
belongs to an earlier speaker, or to a new one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.bundles.speaker_projection import cosine
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation, Utterance

MAX_PENDING = 5
"""Most utterances of the group that is compared."""
MIN_PENDING = 3
"""Fewest utterances of that group; fewer do not identify a speaker."""
MIN_ENROLLED = 5
"""Fewest utterances of a speaker that can be compared; a speaker with fewer takes every utterance."""
MAX_SPEAKERS = 8
"""Most speakers in memory; the one that has been silent longest is dropped."""


class TrackerUpdate(NamedTuple):
    """The effect of one utterance: how many the enrolled speaker got for good, and whether the speaker changed."""

    enrolled: int = 0
    changed: bool = False


class SpeakerTracker:
    """The speakers of a stream, one of whom is speaking.

    Args:
        threshold: cosine below which two embeddings belong to different speakers; None to treat all speech as one
            speaker's.
        enrolled: the first speaker, who is never dropped.
        unknown: the model of other speakers.
        adapt_to_others: whether other speakers are kept too.

    Attributes:
        current: the current speaker; None for another speaker that is not kept.
    """

    def __init__(
        self, threshold: float | None, enrolled: SpeakerAdaptation, unknown: SpeakerModel, *, adapt_to_others: bool
    ) -> None:
        self._threshold = threshold
        self._unknown = unknown
        self._adapt_to_others = adapt_to_others
        self._enrolled = enrolled
        # In order of their last utterance, the most recent speaker last.
        self._speakers = [enrolled]
        self._pending: list[Utterance] = []
        self.current: SpeakerAdaptation | None = enrolled

    @property
    def enrolled(self) -> SpeakerAdaptation:
        """The enrolled speaker."""
        return self._enrolled

    def replace_enrolled(self, speaker: SpeakerAdaptation) -> None:
        """Replace the enrolled speaker, as when another program changed the profile."""
        self._speakers = [speaker if each is self._enrolled else each for each in self._speakers]
        self.current = speaker if self.current is self._enrolled else self.current
        self._enrolled = speaker

    def current_speaker(self) -> SpeakerAdaptation | None:
        """Return the current speaker, pending utterances included; None where there is none."""
        if self.current is None or not self._pending:
            return self.current
        return self.current.with_utterances(self._pending)

    def update(self, utterance: Utterance) -> TrackerUpdate:
        """Add an utterance: to the current speaker, to the pending ones, or with a change of speaker."""
        self._pending.append(utterance)
        if self._threshold is None or (self.current is not None and self.current.count < MIN_ENROLLED):
            return TrackerUpdate(self._commit(len(self._pending)))
        if len(self._pending) < MIN_PENDING:
            return TrackerUpdate()
        match = self._best_match(self._pending[-MAX_PENDING:])
        if match is not None and match is self.current:
            return TrackerUpdate(self._commit(len(self._pending) - MAX_PENDING))
        return self._change_to(match)

    def close(self) -> int:
        """Add the pending utterances if they identify the current speaker; return how many the enrolled one got."""
        if (
            len(self._pending) < MIN_PENDING
            or self.current is None
            or self._best_match(self._pending) is not self.current
        ):
            return 0
        return self._commit(len(self._pending))

    def _best_match(self, group: list[Utterance]) -> SpeakerAdaptation | None:
        """Return the speaker whose embedding is closest to that of a group; None where none is close enough."""
        assert self._threshold is not None
        embedding = np.mean([each.embedding for each in group], axis=0)
        scores = [
            (cosine(embedding, speaker.embedding), number)
            for number, speaker in enumerate(self._speakers)
            if speaker.count >= MIN_ENROLLED
        ]
        best, number = max(scores, default=(-1.0, 0))
        return self._speakers[number] if scores and best >= self._threshold else None

    def _change_to(self, match: SpeakerAdaptation | None) -> TrackerUpdate:
        if match is None and not self._adapt_to_others:
            changed, self.current = self.current is not None, None
            self._pending = self._pending[-MAX_PENDING:]
            return TrackerUpdate(changed=changed)
        # Older ones may still be the previous speaker's.
        self._pending = self._pending[-MIN_PENDING:]
        self.current = SpeakerAdaptation(self._unknown) if match is None else match
        self._speakers = [*(each for each in self._speakers if each is not self.current), self.current]
        if len(self._speakers) > MAX_SPEAKERS:
            del self._speakers[next(n for n, each in enumerate(self._speakers) if each is not self._enrolled)]
        if match is None:
            self._commit(len(self._pending))
        return TrackerUpdate(changed=True)

    def _commit(self, count: int) -> int:
        """Add the oldest pending utterances to the current speaker; return how many the enrolled one got."""
        if self.current is None or count <= 0:
            return 0
        for each in self._pending[:count]:
            self.current.update(each)
        del self._pending[:count]
        return count if self.current is self._enrolled else 0
