"""Speaker means for the training of branches and head on a frozen encoder's statistics.

They follow the rule of the device (`edge_runtime.speakers.speaker_mean`), computed anew for each utterance of each
epoch, so that only a few rows are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.metrics import Floats
from distill.evaluation.speaker_mean_draws import Drawn, TrainingDraws
from distill.recipe import Speaker
from edge_runtime.speakers.speaker_mean import SpeakerMean

_UNSURE = 0.5
"""A device takes the emotions behind a speaker mean from the student's own predictions. Of utterances of one emotion it
predicts several, and the speaker mean gets too much weight. The same is done here, with up to this share of uniform
probabilities."""

_SEED = 0


class TrainingSpeakerMeans:
    """Makes a speaker mean for each of some utterances from other ones.

    Args:
        utterances: all of them.
        labels: class names.
        row: returns the statistics ``[D]`` of an utterance in one of its copies.
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

    def fixed(self, index: int, *, given: bool) -> Floats:
        """Return the speaker mean ``[D]`` of a validation utterance: of up to 30 others as recorded, or the default.

        Args:
            index: number of the utterance.
            given: make it of others of the speaker.
        """
        if not given:
            return self._default
        drawn = self._draws.most(index, _SEED)
        return self._mean(drawn, [self._row(self._utterances[each], 0) for each in drawn.behind])

    def drawn(self, index: int, random: np.random.Generator) -> Floats:
        """Draw the speaker mean ``[D]`` of the utterance with the number ``index`` in training."""
        drawn = self._draws.draw(index, random)
        rows = [self._row(self._utterances[each], self._copy(random)) for each in drawn.behind]
        if drawn.kind == "noise":
            noise = self._noise(random)
            rows = [row + noise for row in rows]
        unsure = random.uniform(0.0, _UNSURE) if drawn.kind == "emotion" else 0.0
        return self._mean(drawn, rows, unsure)

    def _mean(self, drawn: Drawn, rows: Sequence[Floats], unsure: float = 0.0) -> Floats:
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
        """Return the difference of two utterances, ``[D]``: noise in a room moves statistics about as unevenly."""
        one, other = (
            self._row(self._utterances[int(random.integers(len(self._utterances)))], self._copy(random))
            for _ in range(2)
        )
        return one - other

    def _copy(self, random: np.random.Generator) -> int:
        return int(random.integers(self._copies))
