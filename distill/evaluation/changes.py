"""Changes of speaker: how soon they are detected, and how many are false."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Changes(NamedTuple):
    """Changes of speaker in some streams.

    Attributes:
        utterances: of the streams.
        real: number of changes to another speaker.
        waits: of each change that was detected before the next one: utterances of the new speaker until then.
        false: number of detected changes that were none.
    """

    utterances: int
    real: int
    waits: tuple[int, ...]
    false: int

    @classmethod
    def of(cls, before: str, speakers: Sequence[str], turned: Sequence[bool]) -> Changes:
        """Return the changes of one stream.

        Args:
            before: the speaker known at the start.
            speakers: of each utterance.
            turned: whether a change was detected after each.
        """
        real, false, began = 0, 0, -1
        waits: list[int] = []
        for number, (last, speaker) in enumerate(zip([before, *speakers], speakers, strict=False)):
            if speaker != last:
                real, began = real + 1, number
            if turned[number] and began >= 0:
                waits.append(number - began + 1)
                began = -1
            elif turned[number]:
                false += 1
        return cls(len(speakers), real, tuple(waits), false)

    @classmethod
    def sum(cls, parts: Iterable[Changes]) -> Changes:
        """Return those of several streams together."""
        each = list(parts)
        return cls(
            utterances=sum(part.utterances for part in each),
            real=sum(part.real for part in each),
            waits=tuple(wait for part in each for wait in part.waits),
            false=sum(part.false for part in each),
        )

    def figures(self) -> dict[str, float]:
        """Return them as named numbers: counts, false ones a hundred utterances, and the mean wait."""
        found = {
            "changes": float(self.real),
            "changes noticed": float(len(self.waits)),
            "false changes per 100 utterances": 100 * self.false / max(1, self.utterances),
        }
        return found | ({"utterances until noticed": sum(self.waits) / len(self.waits)} if self.waits else {})
