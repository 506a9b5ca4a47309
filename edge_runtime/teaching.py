"""Labelled clips of one speaker: from audio to reduced statistics, and what they are worth by leave-one-out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.speaker_projection import cosine
from edge_runtime.config import VadSettings
from edge_runtime.decision import Floats, softmax
from edge_runtime.engines.engine import Engine
from edge_runtime.errors import EdgeemoError
from edge_runtime.loop.segments import SegmentEnd, SpeechSegmenter
from edge_runtime.loop.vad import VadIterator
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from edge_runtime.sources.silero import SileroDetector
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.speaker import utterance_of
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation, Utterance
from edge_runtime.speakers.speaker_tracker import MIN_ENROLLED

DOUBTFUL = 0.15
"""Leave-one-out probability of its own label below which a clip is reported: its label may be wrong."""


class Clip(NamedTuple):
    """A labelled clip.

    Attributes:
        label: its emotion.
        name: of its file or recording, for messages.
        utterance: its reduced statistics and speaker embedding.
    """

    label: str
    name: str
    utterance: Utterance


class Benefit(NamedTuple):
    """What clips are worth: each is classified by the others.

    Attributes:
        before: share of clips that are classified correctly without clips, the mean over their labels; None where no
            label that the bundle has is among them.
        after: the same with the other clips; None where there are too few to leave one out.
        probabilities: leave-one-out probability of its own label for each clip.
        other_labels: the most probable label of each clip.
    """

    before: float | None
    after: float | None
    probabilities: list[float]
    other_labels: list[str]

    @property
    def helps(self) -> bool:
        """Whether the clips do not make it worse."""
        return self.after is None or self.before is None or self.after >= self.before


def segmenter_for(bundle: Bundle) -> SpeechSegmenter:
    """Return a segmenter for clips, as `edgeemo listen` has it."""
    return SpeechSegmenter(bundle.manifest.window, VadIterator(VadSettings(), SileroDetector()))


def clip_of(bundle: Bundle, engine: Engine, pcm: Pcm, label: str, name: str) -> Clip:
    """Return a clip of the speech in a waveform ``[samples]``.

    Raises:
        EdgeemoError: it holds too little speech, or the engine fails.
    """
    segmenter = segmenter_for(bundle)
    outputs = [*segmenter.feed(pcm), *segmenter.close()]
    return clip_of_segments(bundle, engine, [each for each in outputs if isinstance(each, SegmentEnd)], label, name)


def clip_of_segments(bundle: Bundle, engine: Engine, segments: Sequence[SegmentEnd], label: str, name: str) -> Clip:
    """Return a clip of segments of speech; errors as `clip_of`."""
    assert bundle.speaker_model is not None
    speech = sum(each.speech or 0 for each in segments)
    least = bundle.manifest.window.minimum
    if speech < least:
        held = f"only {speech / SAMPLE_RATE:.1f} s of speech" if speech else "no speech"
        raise EdgeemoError(f"{name}: holds {held}, and a clip needs {least / SAMPLE_RATE:g} s; record it again")
    windows = [each.audio(*span) for each in segments for span in each.windows]
    statistics = np.stack([engine.score(window).statistics for window in windows])
    return Clip(label, name, utterance_of(statistics, bundle.speaker_model, bundle.speaker_projection))


def benefit(bundle: Bundle, profile: Profile, clips: Sequence[Clip]) -> Benefit:
    """Return what new clips are worth beside those of the profile.

    Without clips, a clip is classified after the profile's utterances; with clips, after these and all other clips.
    """
    model = bundle.speaker_model
    assert model is not None
    taught = profile.taught(tuple(each.utterance.reduced for each in clips), tuple(each.label for each in clips))
    labels, temperature = taught.all_labels, bundle.manifest.temperature
    every = taught.adaptation(model)
    without = SpeakerAdaptation(model, profile.utterances)
    wide = every.model
    counts = Counter(every.classes)
    before: dict[int, list[bool]] = {}
    after: dict[int, list[bool]] = {}
    probabilities, others = [], []
    first_new = len(every.clips) - len(clips)
    for number, (row, truth) in enumerate(zip(every.clips, every.classes, strict=True)):
        rest = [place for place in range(len(every.clips)) if place != number]
        left = SpeakerAdaptation(
            wide, profile.utterances, [every.clips[place] for place in rest], [every.classes[place] for place in rest]
        )
        found = softmax(left.posterior.logits(row[None])[0], temperature)
        if number >= first_new:
            probabilities.append(float(found[truth]))
            others.append(labels[int(found.argmax())])
        if counts[truth] > 1 and len(counts) > 1:
            after.setdefault(truth, []).append(int(found.argmax()) == truth)
            if truth < len(profile.labels):
                plain = int(without.posterior.logits(row[None])[0].argmax())
                before.setdefault(truth, []).append(plain == truth)
    shared = {truth: each for truth, each in after.items() if truth in before}
    return Benefit(_mean(before), _mean(shared or after), probabilities, others)


def other_speakers(bundle: Bundle, profile: Profile, clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips whose speaker differs from that of all others together; none where there are too few."""
    projection = bundle.speaker_projection
    known = [each.embedding for each in profile.utterances]
    if projection is None:
        return []
    found = []
    for number, clip in enumerate(clips):
        rest = known + [other.utterance.embedding for place, other in enumerate(clips) if place != number]
        if len(rest) >= MIN_ENROLLED:
            match: Floats = np.mean(rest, axis=0)
            if cosine(clip.utterance.embedding, match) < min(projection.threshold, 0.0):
                found.append(clip)
    return found


def _mean(right: dict[int, list[bool]]) -> float | None:
    return float(np.mean([np.mean(each) for each in right.values()])) if right else None
