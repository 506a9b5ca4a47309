"""Measure a student that knows its speaker: each utterance scored relative to a reference made of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.corpus import Utterance
from distill.evaluation import Evaluation
from distill.metrics import Floats
from distill.reference_draws import Draws
from edge_runtime.audio import Pcm, read_audio
from edge_runtime.clips import HeardClip, ScoreOne, hear_clip
from edge_runtime.reference import SpeakerReference
from edge_runtime.windows import WindowPolicy


@dataclass(frozen=True)
class Speakers:
    """A scoring function on some utterances, with what references are made by.

    Attributes:
        score: an engine's, or a student's.
        items: the utterances.
        labels: class names.
        policy: the student's window.
        temperature: calibration temperature.
        default: ``[1, D]`` default reference.
        trust: utterances that it is worth.
    """

    score: ScoreOne
    items: Sequence[Utterance]
    labels: tuple[str, ...]
    policy: WindowPolicy
    temperature: float
    default: Floats
    trust: float

    def plain(self) -> list[HeardClip]:
        """Score all utterances relative to the default reference."""
        return [self._hear(read_audio(item.path), None) for item in self.items]

    def drawn(self, heard: Sequence[HeardClip], draws: Draws, tick: Callable[[], None] = lambda: None) -> Evaluation:
        """Score all utterances relative to a reference each.

        Args:
            heard: the same utterances as `plain` gave them, of which references are made.
            draws: the utterances behind each reference.
            tick: called after each utterance.
        """
        rows = []
        for number, (item, behind) in enumerate(zip(self.items, draws, strict=True)):
            speaker = self._nobody()
            for each in behind:
                speaker.learn(heard[each].statistics, heard[each].probabilities)
            rows.append(
                self._hear(read_audio(item.path), speaker.reference()).probabilities
                if behind
                else heard[number].probabilities
            )
            tick()
        return self.evaluation(rows)

    def online(self, orders: Sequence[Sequence[int]], tick: Callable[[], None] = lambda: None) -> Evaluation:
        """Score each speaker's utterances in turn, each relative to those before it: classify first, then learn."""
        rows: dict[int, Floats] = {}
        for order in orders:
            speaker = self._nobody()
            for number in order:
                found = self._hear(read_audio(self.items[number].path), speaker.reference())
                rows[number] = found.probabilities
                speaker.learn(found.statistics, found.probabilities)
                tick()
        return self.evaluation([rows[number] for number in range(len(self.items))])

    def evaluation(self, rows: Sequence[Floats]) -> Evaluation:
        """Return an evaluation of probabilities, one row an utterance."""
        return Evaluation(self.items, self.labels, np.stack(rows))

    def _nobody(self) -> SpeakerReference:
        return SpeakerReference(self.default, self.trust)

    def _hear(self, pcm: Pcm, reference: Floats | None) -> HeardClip:
        chosen = None if reference is None else np.asarray(reference, np.float32)
        return hear_clip(self.score, pcm, self.policy, temperature=self.temperature, reference=chosen)
