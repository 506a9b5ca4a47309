"""Evaluate a student that adapts to speakers: each utterance is scored after other utterances of its speaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from distill.corpus import Utterance
from distill.evaluation.changes import Changes
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.speaker_draws import Draws, Stream
from edge_runtime.bundles.speaker_model import Posterior, SpeakerModel
from edge_runtime.bundles.speaker_projection import SpeakerProjection
from edge_runtime.clips import ClipResult, ScoreOne, score_clip
from edge_runtime.decision import softmax
from edge_runtime.sources.audio import Pcm, read_audio
from edge_runtime.speakers.speaker import Speaker, utterance_of
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation
from edge_runtime.windows import WindowPolicy


@dataclass(frozen=True)
class Speakers:
    """A scoring function on some utterances, and the speaker model.

    Attributes:
        score: of an engine, or of a student.
        items: the utterances.
        labels: class names.
        policy: the student's window.
        temperature: calibration temperature.
        model: the speaker model.
        projection: speaker-embedding projection; None without one.
        keep_audio: decode each file once and keep it, 64 kB a second.
    """

    score: ScoreOne
    items: Sequence[Utterance]
    labels: tuple[str, ...]
    policy: WindowPolicy
    temperature: float
    model: SpeakerModel
    projection: SpeakerProjection | None = None
    keep_audio: bool = False
    _audio: dict[int, Pcm] = field(default_factory=dict, init=False, repr=False)

    def plain(self, change: Callable[[Pcm, int], Pcm] | None = None) -> list[ClipResult]:
        """Score all utterances, each of an unknown speaker.

        Args:
            change: returns another waveform for one and its number; as recorded if not given.
        """
        prior = self.model.prior()
        found = []
        for number in range(len(self.items)):
            pcm = self._pcm(number)
            pcm = pcm if change is None else change(pcm, number)
            clip = score_clip(self.score, pcm, self.policy, temperature=self.temperature)
            found.append(clip._replace(probabilities=self._probabilities(prior, clip)))
        return found

    def drawn(
        self,
        clips: Sequence[ClipResult],
        draws: Draws,
        tick: Callable[[], None] = lambda: None,
        *,
        behind: Sequence[ClipResult] | None = None,
        labelled: bool = False,
    ) -> Evaluation:
        """Score each utterance after others of its own.

        Args:
            clips: what `plain` returned for the same utterances.
            draws: the utterances that each one is scored after.
            tick: called after each utterance.
            behind: what `plain` returned for the utterances drawn, where it is something else, as by telephone.
            labelled: they are given with their labels.
        """
        reduced = self._reduced(clips if behind is None else behind)
        classes = np.array([self.labels.index(item.emotion) for item in self.items])
        rows = []
        for number, others in enumerate(draws):
            if not others:
                rows.append(clips[number].probabilities)
            elif labelled:
                posterior = self.model.adapted(reduced[:0], reduced[others], classes[others])
                rows.append(self._probabilities(posterior, clips[number]))
            else:
                rows.append(self._probabilities(self.model.adapted(reduced[others]), clips[number]))
            tick()
        return self.evaluation(rows)

    def online(
        self,
        streams: Sequence[Stream],
        clips: Sequence[ClipResult],
        tick: Callable[[], None] = lambda: None,
        *,
        known: Sequence[ClipResult] | None = None,
        adapt_to_others: bool = True,
    ) -> tuple[Evaluation, Changes]:
        """Score utterances in turn as the runtime does: classify each one, then add it to the speaker.

        Args:
            streams: each utterance is in one of them.
            clips: what `plain` returned.
            tick: called after each utterance.
            known: what `plain` returned for the utterances of the profiles that streams begin with; ``clips`` if not
                given.
            adapt_to_others: keep other speakers than that of the profile too, as in a session.
        """
        rows: dict[int, Floats] = {}
        changes: list[Changes] = []
        for stream in streams:
            profile = [
                utterance_of((known or clips)[each].statistics, self.model, self.projection) for each in stream.known
            ]
            adaptation = SpeakerAdaptation(self.model, profile)
            speaker = Speaker(self.labels, adaptation, None, self.projection, adapt_to_others=adapt_to_others)
            turned: list[bool] = []
            for number in stream.order:
                state = speaker.state().adaptation
                assert state is not None
                rows[number] = self._probabilities(state.posterior, clips[number])
                speaker.update(clips[number].statistics)
                turned.append(bool(speaker.notices()))
                tick()
            who = [self.items[number].speaker for number in stream.order]
            before = self.items[stream.known[0]].speaker if stream.known else who[0]
            changes.append(Changes.of(before, who, turned))
        return self.evaluation([rows[number] for number in range(len(self.items))]), Changes.sum(changes)

    def evaluation(self, rows: Sequence[Floats]) -> Evaluation:
        """Return an evaluation of probabilities, one row an utterance."""
        return Evaluation(self.items, self.labels, np.stack(rows))

    def _probabilities(self, posterior: Posterior, clip: ClipResult) -> npt.NDArray[np.float64]:
        logits = posterior.logits(self.model.reduced(clip.statistics))
        return np.asarray(softmax(logits, self.temperature).mean(axis=0), np.float64)

    def _reduced(self, clips: Sequence[ClipResult]) -> Floats:
        return self.model.reduced(np.stack([clip.statistics.mean(axis=0) for clip in clips]))

    def _pcm(self, number: int) -> Pcm:
        if number in self._audio:
            return self._audio[number]
        pcm = read_audio(self.items[number].path)
        if self.keep_audio:
            self._audio[number] = pcm
        return pcm
