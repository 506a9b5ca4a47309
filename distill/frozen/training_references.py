"""Speaker means for training branches and head on the statistics of a frozen encoder.

They follow the rule of the device (`edge_runtime.speakers.speaker_mean`), computed anew for each utterance of each
epoch, so that only a few rows are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats
from distill.evaluation.reference_draws import Drawn, TrainingDraws
from distill.recipe import Speaker
from edge_runtime.speakers.speaker_mean import SpeakerMean

_UNSURE = 0.5
"""On a device the student itself says which emotions it heard. In utterances of one emotion it finds others too, and
the reference gets a weight that it should not have. So it does here, up to this share of even probabilities."""

_SEED = 0


class TrainingReferences:
    """Makes a reference for each of some utterances out of the others.

    Args:
        utterances: all of them.
        labels: class names.
        row: gives the statistics ``[D]`` of an utterance in one of its copies.
        copies: how many copies there are.
        default: ``[D]`` the training mean.
        how: the speaker's table of the recipe.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: Sequence[str],
        row: Callable[[Utterance, int], Floats],
        copies: int,
        default: Floats,
        how: Speaker,
    ) -> None:
        self._utterances = utterances
        self._classes = [list(labels).index(item.emotion) for item in utterances]
        self._count = len(labels)
        self._row = row
        self._copies = copies
        self._default = np.asarray(default, np.float32)
        self._trust = how.trust
        self._draws = TrainingDraws(utterances, how.share, how.poor)

    def known(self, index: int, *, given: bool) -> Floats:
        """Return the reference ``[D]`` of an utterance in validation: of up to 30 others as recorded, or the default.

        Args:
            index: number of the utterance.
            given: make it of others of the speaker.
        """
        if not given:
            return self._default
        drawn = self._draws.most(index, _SEED)
        return self._made_of(drawn, [self._row(self._utterances[each], 0) for each in drawn.behind])

    def drawn(self, index: int, random: np.random.Generator, moved: Floats | None = None) -> Floats:
        """Draw the reference ``[D]`` of an utterance in training.

        Args:
            index: number of the utterance.
            random: all that is drawn comes from it.
            moved: ``[D]`` what was added to the utterance to give it another voice, and so to others of the speaker.
        """
        drawn = self._draws.draw(index, random)
        rows = [self._row(self._utterances[each], self._copy(random)) for each in drawn.behind]
        if drawn.kind == "other" or moved is None:
            moved = np.zeros(1, np.float32)
        if drawn.kind == "noise":
            moved = moved + self._noise(random)
        unsure = random.uniform(0.0, _UNSURE) if drawn.kind == "emotion" else 0.0
        return self._made_of(drawn, [row + moved for row in rows], unsure)

    def _made_of(self, drawn: Drawn, rows: Sequence[Floats], unsure: float = 0.0) -> Floats:
        if not rows:
            return self._default
        shares = np.bincount([self._classes[each] for each in drawn.behind], minlength=self._count) / len(rows)
        speaker = SpeakerMean(
            self._default[None],
            self._trust,
            mean=np.mean(rows, axis=0, dtype=np.float64),
            emotion_shares=(1.0 - unsure) * shares + unsure / self._count,
            count=len(rows),
        )
        return np.asarray(speaker.reference()[0])

    def _noise(self, random: np.random.Generator) -> Floats:
        """Return what tells two utterances apart, ``[D]``, since noise in a room moves statistics about as unevenly."""
        one, other = (
            self._row(self._utterances[int(random.integers(len(self._utterances)))], self._copy(random))
            for _ in range(2)
        )
        return one - other

    def _copy(self, random: np.random.Generator) -> int:
        return int(random.integers(self._copies))
