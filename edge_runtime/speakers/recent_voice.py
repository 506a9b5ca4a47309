"""Whose voice is it by now? Notices that somebody else speaks, and keeps what is learnt of each voice apart.

One utterance says little of who it is, some say enough. So the last ones are pending: results are relative to them too,
but a voice learns them for good only when they have left the group of the last ones, which was like that voice all the
time that they were in it. A group that is not like it is of another voice that was heard before, or of a new one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.bundles.voice import VoiceSpace, likeness
from edge_runtime.reference import SpeakerReference

Floats = npt.NDArray[np.floating]

PENDING = 5
"""Utterances of the group that is compared, at most."""
ENOUGH = 3
"""And at least: fewer say nothing of who speaks."""
FEW = 5
"""A voice of fewer utterances cannot be compared: it learns what comes."""
VOICES = 8
"""In memory at most; the one that was not heard for longest is forgotten."""


class Utterance(NamedTuple):
    """Statistics ``[D]`` of one utterance, and what was decided on it, ``[classes]``."""

    statistics: Floats
    probabilities: Floats


class Heard(NamedTuple):
    """What taking in an utterance did.

    Attributes:
        kept: how many utterances the voice that is kept learnt for good.
        turned: another voice speaks now.
    """

    kept: int = 0
    turned: bool = False


class Voices:
    """The voices of a stream, one of which speaks.

    Args:
        space: tells voices apart; None to take all for one.
        kept: the voice that speaks at first, and is never forgotten.
        strangers: whether other voices than that one are learnt.

    Attributes:
        now: the voice that speaks; None for somebody of whom nothing is to be learnt.
    """

    def __init__(self, space: VoiceSpace | None, kept: SpeakerReference, *, strangers: bool) -> None:
        self._space = space
        self._strangers = strangers
        self._kept = kept
        # The one that spoke last comes last.
        self._voices = [kept]
        self._pending: list[Utterance] = []
        self.now: SpeakerReference | None = kept

    @property
    def kept(self) -> SpeakerReference:
        """The voice that is kept."""
        return self._kept

    def go_on_from(self, kept: SpeakerReference) -> None:
        """Exchange the voice that is kept, as where another program changed it."""
        self._voices = [kept if each is self._kept else each for each in self._voices]
        self.now = kept if self.now is self._kept else self.now
        self._kept = kept

    def usual(self) -> SpeakerReference | None:
        """Return what is known of whoever speaks, pending utterances included; None where nothing is."""
        if self.now is None or not self._pending:
            return self.now
        known = self.now.copy()
        for each in self._pending:
            known.learn(*each)
        return known

    def hear(self, utterance: Utterance) -> Heard:
        """Take in an utterance: learn it, or what is pending, or turn to another voice."""
        self._pending.append(utterance)
        if self._space is None or (self.now is not None and self.now.count < FEW):
            return Heard(self._learn(len(self._pending)))
        if len(self._pending) < ENOUGH:
            return Heard()
        found = self._like(self._pending[-PENDING:])
        if found is not None and found is self.now:
            return Heard(self._learn(len(self._pending) - PENDING))
        return self._turn(found)

    def close(self) -> int:
        """Learn what is pending, if it is enough to say whose it is; return how many the voice that is kept learnt."""
        if len(self._pending) < ENOUGH or self.now is None or self._like(self._pending) is not self.now:
            return 0
        return self._learn(len(self._pending))

    def _like(self, group: list[Utterance]) -> SpeakerReference | None:
        """Return the voice that a group is most like; None where it is like none."""
        assert self._space is not None
        place = np.mean([self._space.place(each.statistics) for each in group], axis=0)
        likely = [
            (likeness(place, self._space.place(voice.mean)), number)
            for number, voice in enumerate(self._voices)
            if voice.count >= FEW
        ]
        best, number = max(likely, default=(-1.0, 0))
        return self._voices[number] if likely and best >= self._space.threshold else None

    def _turn(self, found: SpeakerReference | None) -> Heard:
        if found is None and not self._strangers:
            turned, self.now = self.now is not None, None
            self._pending = self._pending[-PENDING:]
            return Heard(turned=turned)
        # Older ones may still be of whoever spoke before.
        self._pending = self._pending[-ENOUGH:]
        self.now = self._kept.begun() if found is None else found
        self._voices = [*(each for each in self._voices if each is not self.now), self.now]
        if len(self._voices) > VOICES:
            del self._voices[next(n for n, each in enumerate(self._voices) if each is not self._kept)]
        if found is None:
            self._learn(len(self._pending))
        return Heard(turned=True)

    def _learn(self, count: int) -> int:
        """Teach the voice that speaks the oldest pending ones; return how many the voice that is kept learnt."""
        if self.now is None or count <= 0:
            return 0
        for each in self._pending[:count]:
            self.now.learn(*each)
        del self._pending[:count]
        return count if self.now is self._kept else 0
