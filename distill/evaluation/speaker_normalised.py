"""Evaluate a student with speaker normalisation: each utterance is scored with a speaker mean of other utterances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill.corpus import Utterance
from distill.evaluation.changes import Changes
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Floats
from distill.evaluation.speaker_mean_draws import Draws, Stream
from edge_runtime.bundles.speaker_projection import SpeakerProjection
from edge_runtime.clips import ClipResult, ScoreOne, score_clip
from edge_runtime.sources.audio import Pcm, read_audio
from edge_runtime.speakers.speaker import Speaker
from edge_runtime.speakers.speaker_mean import SpeakerMean
from edge_runtime.windows import WindowPolicy


@dataclass(frozen=True)
class Speakers:
    """A scoring function on some utterances, and the settings of speaker normalisation.

    Attributes:
        score: of an engine, or of a student.
        items: the utterances.
        labels: class names.
        policy: the student's window.
        temperature: calibration temperature.
        default: ``[1, D]`` the training mean.
        trust: utterances that the training mean is worth.
        projection: speaker-embedding projection; None without one.
        keep_audio: decode each file once and keep it, 64 kB a second.
    """

    score: ScoreOne
    items: Sequence[Utterance]
    labels: tuple[str, ...]
    policy: WindowPolicy
    temperature: float
    default: Floats
    trust: float
    projection: SpeakerProjection | None = None
    keep_audio: bool = False
    _audio: dict[int, Pcm] = field(default_factory=dict, init=False, repr=False)

    def plain(self, change: Callable[[Pcm, int], Pcm] | None = None) -> list[ClipResult]:
        """Score all utterances with the training mean.

        Args:
            change: returns another waveform for one and its number; as recorded if not given.
        """
        return [self._score_clip(number, None, change) for number in range(len(self.items))]

    def drawn(self, clips: Sequence[ClipResult], draws: Draws, tick: Callable[[], None] = lambda: None) -> Evaluation:
        """Score each utterance with a speaker mean of its own.

        Args:
            clips: what `plain` returned for the same utterances; speaker means are made of it.
            draws: the utterances of each speaker mean.
            tick: called after each utterance.
        """
        rows = []
        for number, behind in enumerate(draws):
            speaker = self._new_speaker()
            for each in behind:
                speaker.update(clips[each].statistics, clips[each].probabilities)
            rows.append(
                self._score_clip(number, speaker.reference()).probabilities if behind else clips[number].probabilities
            )
            tick()
        return self.evaluation(rows)

    def online(
        self,
        streams: Sequence[Stream],
        clips: Sequence[ClipResult] = (),
        tick: Callable[[], None] = lambda: None,
        *,
        adapt_to_others: bool = True,
    ) -> tuple[Evaluation, Changes]:
        """Score utterances in turn as the runtime does: classify each one, then add it to the speaker mean.

        Args:
            streams: each utterance is in one of them.
            clips: what `plain` returned; the profiles that streams begin with are made of it.
            tick: called after each utterance.
            adapt_to_others: keep speaker means of other speakers than that of the profile, as in a session.
        """
        rows: dict[int, Floats] = {}
        changes: list[Changes] = []
        for stream in streams:
            known = self._new_speaker()
            for each in stream.known:
                known.update(clips[each].statistics, clips[each].probabilities)
            speaker = Speaker(known, None, self.projection, adapt_to_others=adapt_to_others)
            turned: list[bool] = []
            for number in stream.order:
                found = self._score_clip(number, speaker.state().reference)
                rows[number] = found.probabilities
                speaker.update(found.statistics[None], found.probabilities)
                turned.append(bool(speaker.notices()))
                tick()
            who = [self.items[number].speaker for number in stream.order]
            before = self.items[stream.known[0]].speaker if stream.known else who[0]
            changes.append(Changes.of(before, who, turned))
        return self.evaluation([rows[number] for number in range(len(self.items))]), Changes.sum(changes)

    def evaluation(self, rows: Sequence[Floats]) -> Evaluation:
        """Return an evaluation of probabilities, one row an utterance."""
        return Evaluation(self.items, self.labels, np.stack(rows))

    def _new_speaker(self) -> SpeakerMean:
        return SpeakerMean(self.default, self.trust)

    def _score_clip(
        self, number: int, reference: Floats | None, change: Callable[[Pcm, int], Pcm] | None = None
    ) -> ClipResult:
        chosen = None if reference is None else np.asarray(reference, np.float32)
        pcm = self._pcm(number)
        pcm = pcm if change is None else change(pcm, number)
        return score_clip(self.score, pcm, self.policy, temperature=self.temperature, reference=chosen)

    def _pcm(self, number: int) -> Pcm:
        if number in self._audio:
            return self._audio[number]
        pcm = read_audio(self.items[number].path)
        if self.keep_audio:
            self._audio[number] = pcm
        return pcm
