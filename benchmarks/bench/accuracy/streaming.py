"""Accuracy in a stream compared with that on clips: final events of the runtime on a labelled timeline.

The whole runtime runs, voice activity detection included: utterances are missed, split, or joined with the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from benchmarks.bench.accuracy.timeline import Stretch, Timeline
from benchmarks.bench.device.device_sections import Section
from benchmarks.bench.device.latency import sample_floor
from benchmarks.bench.estimate import Estimate, estimate
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.intervals import Interval
from distill.evaluation.metrics import Ints, mean_difference, resample, unweighted_accuracy
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.config import ListenSettings, SpeakerSettings
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.events import EmotionEvent
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.interface import BLOCK_SECONDS

MIN_COVERAGE = 0.5
"""Share of an utterance's sound that final events must cover for it to count as detected."""
NO_SPEECH_SECONDS = 600.0


class FalseEvents(Section):
    """Final events that share no sound with any utterance.

    Attributes:
        count: how many.
        hours: of the timeline without speech.
        per_hour: `count` by `hours`, with the exact 95 % interval of a Poisson rate (Garwood 1936).
        places: how many in each kind of stretch; ``recording`` is before or after the sound of an utterance.
        seconds: of each kind.
    """

    count: int
    hours: float
    per_hour: Estimate
    places: dict[str, int]
    seconds: dict[str, float]


class GraphStreaming(Section):
    """One graph; intervals are over speakers.

    Attributes:
        ua: unweighted accuracy over all utterances; one that was not detected counts as wrong.
        clip_ua: that of the same graph on the same utterances as clips.
        difference: `ua` minus `clip_ua`.
        heard: share of utterances with at least `MIN_COVERAGE` of their sound in final events: the detected ones.
        heard_right: share of utterances that were detected and labelled correctly.
        right_when_heard: share of correct labels among the detected; None if there are none.
        uncertain: share of uncertain events among the detected; None if there are none.
        split: share of utterances that overlap more than one final event.
        joined: share of utterances whose event overlaps another utterance too.
        delay_p50: seconds on the sample clock from the end of an utterance's sound to the block that led to its last
            final event, joined utterances left out; None if there are none.
        delay_p90: the same; None for fewer utterances than a 90th percentile needs.
        false_events: final events outside all utterances.
    """

    ua: Estimate
    clip_ua: Estimate
    difference: Estimate
    heard: Estimate
    heard_right: Estimate
    right_when_heard: Estimate | None = None
    uncertain: float | None = None
    split: float
    joined: float
    delay_p50: float | None = None
    delay_p90: float | None = None
    false_events: FalseEvents


class StreamingSection(Section):
    """Streaming accuracy of a bundle's graphs.

    Attributes:
        seed: of the timeline.
        utterances: in the timeline.
        speakers: of these utterances.
        hours: length of the timeline.
        session: whether the speaker mean was estimated while listening: no, since clips are scored without.
        block_seconds: length of a block of audio, the resolution of delays.
        graphs: by precision.
    """

    seed: int
    utterances: int
    speakers: int
    hours: float
    session: bool
    block_seconds: float = BLOCK_SECONDS
    graphs: dict[str, GraphStreaming]


class FinalEvent(NamedTuple):
    """A final event, and the number of samples that had been played when it was written."""

    event: EmotionEvent
    position: int


class EventMatches(NamedTuple):
    """Final events of each of ``N`` utterances.

    Attributes:
        event: ``[N]`` index of the event with the largest overlap; -1 where the utterance was not detected.
        several: ``[N]`` whether more than one event overlaps it.
        joined: ``[N]`` whether an event that overlaps it overlaps another utterance too.
        last: ``[N]`` index of the last event that overlaps it, -1 for none.
        false: ``[events]`` whether the event overlaps no utterance.
    """

    event: Ints
    several: npt.NDArray[np.bool_]
    joined: npt.NDArray[np.bool_]
    last: Ints
    false: npt.NDArray[np.bool_]


def final_events(
    bundle: Bundle, precision: Precision, timeline: Timeline, settings: ListenSettings
) -> list[FinalEvent]:
    """Return the final events of a timeline, which is played as fast as it is processed.

    Raises:
        EdgeemoError: the graph or a recording cannot be used.
        MissingPartError: the voice activity detector cannot be loaded.
    """
    with contextlib.closing(OnnxEngine.of(bundle, precision)) as engine:
        return [
            FinalEvent(event, timeline.position)
            for event in Listener(bundle, engine, settings).listen(timeline)
            if isinstance(event, EmotionEvent) and event.type == "final"
        ]


def match_events(utterances: Sequence[Stretch], events: Sequence[EmotionEvent]) -> EventMatches:
    """Match utterances and events by the overlap of sound and events in time.

    Args:
        utterances: stretches of the timeline, in order.
        events: final events, in order; they do not overlap.
    """
    sounds = np.array([[each.first, each.last] for each in utterances], float).reshape(-1, 2) / SAMPLE_RATE
    spans = np.array([[event.start, event.end] for event in events], float).reshape(-1, 2)
    shared = np.minimum(sounds[:, None, 1], spans[:, 1]) - np.maximum(sounds[:, None, 0], spans[:, 0])
    shared = shared.clip(min=0)
    if not len(spans):
        none = np.full(len(sounds), -1)
        nothing = np.zeros(len(sounds), bool)
        return EventMatches(none, nothing, nothing, none, np.zeros(0, bool))
    some = shared > 0
    lengths = sounds[:, 1] - sounds[:, 0]
    detected = shared.sum(axis=1) >= MIN_COVERAGE * lengths - 1e-9
    holds_others = some & (some.sum(axis=0) > 1)
    last = np.where(some.any(axis=1), len(spans) - 1 - some[:, ::-1].argmax(axis=1), -1)
    return EventMatches(
        event=np.where(detected, shared.argmax(axis=1), -1),
        several=some.sum(axis=1) > 1,
        joined=holds_others.any(axis=1),
        last=last,
        false=~some.any(axis=0),
    )


def score_stream(stretches: Sequence[Stretch], finals: Sequence[FinalEvent], clips: Evaluation) -> GraphStreaming:
    """Return the figures of one graph.

    Args:
        stretches: the timeline.
        finals: its final events.
        clips: decisions of the same graph on the same utterances as clips, in any order.
    """
    spoken = [each for each in stretches if each.item is not None]
    matches = match_events(spoken, [each.event for each in finals])
    labels = clips.labels
    by_name = {item.name: number for number, item in enumerate(clips.utterances)}
    order = np.array([by_name[each.item.name] for each in spoken if each.item is not None])
    truth, clip_decided = clips.truth[order], clips.decided[order]
    speakers = [clips.speakers[number] for number in order]
    detected = matches.event >= 0
    labelled = np.array([labels.index(each.event.label) for each in finals], int)
    # Undetected utterances get an additional class, so that they count as errors.
    decided = np.full(len(spoken), len(labels))
    decided[detected] = labelled[matches.event[detected]]
    difference = mean_difference(truth, [clip_decided], [decided], speakers)
    single = (matches.last >= 0) & ~matches.joined
    delays = np.array(
        [
            (finals[last].position - each.last) / SAMPLE_RATE
            for each, last, alone in zip(spoken, matches.last, single, strict=True)
            if alone
        ]
    )
    right = decided == truth
    return GraphStreaming(
        ua=_ua(truth, decided, speakers, len(labels) + 1),
        clip_ua=_ua(truth, clip_decided, speakers, len(labels)),
        difference=estimate(difference.ua, difference.ua_interval),
        heard=_share(detected, np.ones(len(detected), bool), speakers),
        heard_right=_share(right, np.ones(len(detected), bool), speakers),
        right_when_heard=_share(right, detected, speakers) if detected.any() else None,
        uncertain=round(float(np.mean([finals[each].event.uncertain for each in matches.event[detected]])), 6)
        if detected.any()
        else None,
        split=round(float(matches.several.mean()), 6),
        joined=round(float(matches.joined.mean()), 6),
        delay_p50=round(float(np.median(delays)), 3) if len(delays) else None,
        delay_p90=round(float(np.percentile(delays, 90)), 3) if len(delays) >= sample_floor(90) else None,
        false_events=_false_events(stretches, [each.event for each in finals], matches.false),
    )


def measure_streaming(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    evaluations: Mapping[Precision, Evaluation],
    *,
    no_speech_seconds: float = NO_SPEECH_SECONDS,
    seed: int = 0,
) -> StreamingSection:
    """Measure the accuracy of the runtime on a stream of utterances.

    Args:
        bundle: a verified bundle.
        utterances: the test part, or a sample of it.
        evaluations: decisions of each graph to measure on these utterances as clips, possibly with further ones.
        no_speech_seconds: of non-speech sounds after the utterances.
        seed: of order, pauses and sounds.

    Raises:
        EdgeemoError: the graph or a recording cannot be used.
        MissingPartError: the voice activity detector cannot be loaded.
    """
    settings = ListenSettings(speaker=SpeakerSettings(session=False))
    graphs: dict[str, GraphStreaming] = {}
    timeline = Timeline(utterances, seed, no_speech_seconds)
    for precision, clips in evaluations.items():
        timeline = Timeline(utterances, seed, no_speech_seconds)
        finals = final_events(bundle, precision, timeline, settings)
        graphs[precision] = score_stream(timeline.stretches, finals, clips)
    return StreamingSection(
        seed=seed,
        utterances=len(utterances),
        speakers=len({item.speaker for item in utterances}),
        hours=round(timeline.position / SAMPLE_RATE / 3600, 6),
        session=False,
        graphs=graphs,
    )


def poisson_rate(count: int, hours: float) -> Estimate:
    """Return a rate per hour with its exact 95 % interval (Garwood 1936)."""
    low = float(chi2.ppf(0.025, 2 * count) / 2) if count else 0.0
    high = float(chi2.ppf(0.975, 2 * count + 2) / 2)
    return estimate(count / hours, Interval(low=low / hours, high=high / hours))


def _ua(truth: Ints, decided: Ints, speakers: Sequence[str], classes: int) -> Estimate:
    draws = resample(truth, decided, speakers, classes).ua
    return estimate(unweighted_accuracy(truth, decided), Interval.over_speakers(draws, len(set(speakers))))


def _share(chosen: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_], speakers: Sequence[str]) -> Estimate:
    """Return the share of ``chosen`` among some utterances, all ``[N]``, with its interval over their speakers."""
    who = [speaker for speaker, counts in zip(speakers, among, strict=True) if counts]
    flags = chosen[among].astype(np.int64)
    draws = resample(np.ones_like(flags), flags, who, 2).wa
    return estimate(float(flags.mean()), Interval.over_speakers(draws, len(set(who))))


def _false_events(
    stretches: Sequence[Stretch], events: Sequence[EmotionEvent], false: npt.NDArray[np.bool_]
) -> FalseEvents:
    seconds: dict[str, float] = {}
    for each in stretches:
        kind = "recording" if each.item is not None else each.kind
        silent = (each.end - each.start) - (each.last - each.first)
        seconds[kind] = seconds.get(kind, 0.0) + silent / SAMPLE_RATE
    places = dict.fromkeys(seconds, 0)
    ends = np.array([each.end for each in stretches]) / SAMPLE_RATE
    for event, wrong in zip(events, false, strict=True):
        if wrong:
            middle = (event.start + event.end) / 2
            found = stretches[min(int(np.searchsorted(ends, middle, side="right")), len(stretches) - 1)]
            places["recording" if found.item is not None else found.kind] += 1
    count, hours = int(false.sum()), sum(seconds.values()) / 3600
    return FalseEvents(
        count=count,
        hours=round(hours, 6),
        per_hour=poisson_rate(count, hours),
        places=places,
        seconds={kind: round(value, 3) for kind, value in seconds.items()},
    )
