"""Accuracy by acoustic condition: the test speech with noise, in rooms, over channels and from far microphones.

A condition changes each test recording before it is cut into windows. Random draws depend only on the seed, the
recording and the kind of noise: all graphs and all signal-to-noise ratios get the same noise, and so does a recording
in a subset of the test part.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import Field

from benchmarks.bench.accuracy.recordings import SIMULATED, TestRecordings
from benchmarks.bench.device.device_sections import Section
from benchmarks.bench.estimate import Estimate, estimate
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import mean_difference
from distill.speech.acoustics import (
    LEVEL_IS,
    Floats,
    add_noise,
    amplified,
    babble,
    clipped,
    excerpt,
    in_room,
    pink_noise,
    room_response,
    white_noise,
)
from distill.speech.channels import by_telephone, mp3, opus, telephone
from distill.speech.sound_files import read_response
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.clips import score_clip
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm, read_audio

CLEAN = "clean"
RATIOS_DB = (20.0, 10.0, 5.0, 0.0)
TALKERS = 6
"""Utterances mixed into babble."""
MIN_TALKERS = 2
NEUTRAL = "neutral"
"""Emotion, as the corpus names it, of the speech before an utterance."""
_BEFORE_SECONDS = 1.0
_SILENT = 0.05
"""Below this share of its peak, the end of an utterance counts as silence."""

Noise = Literal["white", "pink", "babble"]
_NOISES: dict[Noise, str] = {"white": "white noise", "pink": "pink noise", "babble": "babble"}


@dataclass
class AcousticScene:
    """Noise and random draws for one recording.

    Attributes:
        item: the recording.
        others: utterances of other speakers, for babble.
        seed: of all draws.
        recordings: of rooms, noise and music.
        neutral: other neutral utterances of the same speaker.
    """

    item: Utterance
    others: Sequence[Utterance]
    seed: int
    recordings: TestRecordings = field(default_factory=TestRecordings)
    neutral: Sequence[Utterance] = ()
    _noises: dict[str, Floats] = field(default_factory=dict)
    _room: Floats | None = None

    def noise(self, kind: Noise, samples: int) -> Floats:
        """Return noise ``[samples]``, the same at every call."""
        if kind not in self._noises:
            random = self.random(kind)
            if kind == "babble":
                chosen = random.choice(len(self.others), min(TALKERS, len(self.others)), replace=False)
                talkers = [read_audio(self.others[int(number)].path) for number in chosen]
                self._noises[kind] = babble(samples, talkers, random)
            else:
                self._noises[kind] = {"white": white_noise, "pink": pink_noise}[kind](samples, random)
        return self._noises[kind]

    def recording(self, kind: Literal["noise", "music"], samples: int) -> Floats:
        """Return an excerpt ``[samples]`` of a recording, the same at every call."""
        if kind not in self._noises:
            files = self.recordings.noises if kind == "noise" else self.recordings.music
            random = self.random(f"recorded {kind}")
            self._noises[kind] = excerpt(read_audio(files[int(random.integers(len(files)))]), samples, random)
        return self._noises[kind]

    def room(self) -> Floats:
        """Return the impulse response of a recorded room, the same at every call."""
        if self._room is None:
            files = self.recordings.rooms
            self._room = read_response(files[int(self.random("recorded room").integers(len(files)))])
        return self._room

    def random(self, what: str) -> np.random.Generator:
        """Return the generator for one kind of draws on this recording."""
        return np.random.default_rng([self.seed, *(zlib.crc32(text.encode()) for text in (self.item.name, what))])

    def number(self, what: str) -> int:
        """Return a seed for one kind of draws on this recording."""
        return int(self.random(what).integers(2**31))


@dataclass(frozen=True)
class Condition:
    """An acoustic condition.

    Attributes:
        name: in the report.
        group: conditions of one kind.
        apply: returns the changed waveform and leaves its argument unchanged.
        ratio_db: signal-to-noise ratio, where the condition is noise of the kind `group`.
        babble: it contains speech of other speakers.
        neutral: it contains neutral speech of the same speaker.
    """

    name: str
    group: str
    apply: Callable[[Pcm, AcousticScene], Pcm]
    ratio_db: float | None = None
    babble: bool = False
    neutral: bool = False


def _noisy(kind: Noise, ratio_db: float) -> Condition:
    def apply(pcm: Pcm, where: AcousticScene) -> Pcm:
        return add_noise(pcm, where.noise(kind, len(pcm)), ratio_db)

    return Condition(f"{_NOISES[kind]}, {ratio_db:g} dB", kind, apply, ratio_db, babble=kind == "babble")


def _room(seconds: float, direct_db: float) -> Condition:
    def apply(pcm: Pcm, where: AcousticScene) -> Pcm:
        return in_room(pcm, room_response(seconds, direct_db, where.random(f"room {seconds}")))

    return Condition(f"room, {seconds:g} s, direct sound {direct_db:g} dB", "room", apply)


def _far(name: str, seconds: float, direct_db: float, kind: Noise, ratio_db: float) -> Condition:
    """Return a far microphone: a room, then noise at the microphone, then the low level of distant speech."""

    def apply(pcm: Pcm, where: AcousticScene) -> Pcm:
        there = in_room(pcm, room_response(seconds, direct_db, where.random(f"room {seconds}")))
        return amplified(add_noise(there, where.noise(kind, len(pcm)), ratio_db), -20.0)

    noise = f"{_NOISES[kind]} {ratio_db:g} dB"
    return Condition(
        f"{name}: room {seconds:g} s, direct sound {direct_db:g} dB, {noise}, gain -20 dB",
        "far microphone",
        apply,
        babble=kind == "babble",
    )


def _recorded(name: str, kind: Literal["noise", "music"], ratio_db: float) -> Condition:
    def apply(pcm: Pcm, where: AcousticScene) -> Pcm:
        return add_noise(pcm, where.recording(kind, len(pcm)), ratio_db)

    return Condition(f"{name}, {ratio_db:g} dB", name, apply, ratio_db)


def _far_recorded(pcm: Pcm, where: AcousticScene) -> Pcm:
    there = in_room(pcm, where.room())
    return amplified(add_noise(there, where.noise("babble", len(pcm)), 10.0), -20.0)


def _after_neutral(pcm: Pcm, where: AcousticScene) -> Pcm:
    """Return the speech right after the last second of a neutral utterance, without the silence at the latter's end."""
    chosen = where.neutral[int(where.random("neutral").integers(len(where.neutral)))]
    before = read_audio(chosen.path)
    loud = np.flatnonzero(np.abs(before) >= _SILENT * np.abs(before).max())
    end = int(loud[-1]) + 1
    return np.concatenate([before[max(0, end - round(_BEFORE_SECONDS * SAMPLE_RATE)) : end], pcm])


def _gain(gain_db: float) -> Condition:
    return Condition(f"gain {gain_db:+g} dB, 16 bits", "channel", lambda pcm, where: amplified(pcm, gain_db))


def _clip(share: float) -> Condition:
    return Condition(f"loudest {share * 100:g} % clipped", "channel", lambda pcm, where: clipped(pcm, share))


_CLEAN = Condition(CLEAN, CLEAN, lambda pcm, where: pcm)
CONDITIONS: tuple[Condition, ...] = (
    *(_noisy(kind, ratio) for kind in _NOISES for ratio in RATIOS_DB),
    _room(0.3, 5.0),
    _room(0.6, 0.0),
    _room(1.0, 0.0),
    _far("far microphone", 0.6, -6.0, "pink", 15.0),
    _far("far microphone in babble", 0.6, -6.0, "babble", 10.0),
    Condition("telephone band", "channel", lambda pcm, where: by_telephone(pcm, where.number("telephone"))),
    *(_gain(gain_db) for gain_db in (-40.0, -20.0, 10.0)),
    *(_clip(share) for share in (0.01, 0.1)),
    Condition("telephone, G.711", "channel", lambda pcm, where: telephone(pcm, "g711")),
    Condition("telephone, GSM", "channel", lambda pcm, where: telephone(pcm, "gsm")),
    Condition("Opus, 12 kbit/s", "channel", lambda pcm, where: opus(pcm, 12.0)),
    Condition("MP3, about 12 kbit/s", "channel", lambda pcm, where: mp3(pcm, 0.9)),
    Condition(f"after {_BEFORE_SECONDS:g} s of neutral speech", "speech before", _after_neutral, neutral=True),
)
"""Conditions without recordings, in addition to `CLEAN`."""
_RECORDED_ROOMS = (
    Condition("recorded room", "room", lambda pcm, where: in_room(pcm, where.room())),
    Condition(
        "far microphone in babble: recorded room, babble 10 dB, gain -20 dB",
        "far microphone",
        _far_recorded,
        babble=True,
    ),
)


def conditions_with(recordings: TestRecordings) -> tuple[Condition, ...]:
    """Return all conditions that can be measured with some recordings."""
    return (
        *CONDITIONS,
        *(_RECORDED_ROOMS if recordings.rooms else ()),
        *((_recorded("recorded noise", "noise", 10.0),) if recordings.noises else ()),
        *((_recorded("music", "music", 10.0),) if recordings.music else ()),
    )


class ConditionScore(Section):
    """One graph under one condition.

    Attributes:
        name: of the condition.
        group: conditions of one kind.
        ratio_db: signal-to-noise ratio, where the condition is noise and nothing else.
        ua: unweighted accuracy.
        difference: of `ua` to clean, on the same utterances; negative where it is worse; None for clean.
        wa: weighted accuracy.
        ece: calibration error.
        coverage: share of utterances whose confidence reaches the bundle's threshold.
        error_when_sure: share of wrong decisions among those; None where there are none.
    """

    name: str
    group: str
    ratio_db: float | None = None
    ua: Estimate
    difference: Estimate | None = None
    wa: Estimate
    ece: Estimate
    coverage: float
    error_when_sure: float | None = None


class ConditionsSection(Section):
    """Accuracy of a bundle's graphs by acoustic condition; intervals are over speakers.

    Attributes:
        seed: of noise and rooms.
        utterances: tested under each condition.
        speakers: of these utterances.
        ratio_is: definition of the signal-to-noise ratio.
        recordings: what was recorded, and what is simulated.
        left_out: reasons for conditions, or utterances of them, that were left out.
        graphs: scores by precision, `CLEAN` first.
    """

    seed: int
    utterances: int
    speakers: int
    ratio_is: str = LEVEL_IS
    recordings: list[str] = Field(default_factory=lambda: [SIMULATED])
    left_out: list[str]
    graphs: dict[str, list[ConditionScore]]


def evaluate_conditions(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    others: Sequence[Utterance],
    precisions: Sequence[Precision],
    *,
    conditions: Sequence[Condition] = CONDITIONS,
    recordings: TestRecordings | None = None,
    seed: int = 0,
) -> dict[Precision, dict[str, Evaluation]]:
    """Return the decisions of each graph under each condition, `CLEAN` first; arguments as for `measure_conditions`.

    A condition with neutral speech has the utterances whose speaker has another neutral one; if none, it is left out.

    Raises:
        EdgeemoError: a recording or a graph cannot be used.
        ValueError: two conditions have the same name, or babble has fewer than `MIN_TALKERS` talkers.
    """
    every = (_CLEAN, *conditions)
    if len({condition.name for condition in every}) < len(every):
        raise ValueError("conditions must have different names")
    manifest = bundle.manifest
    engines = {precision: OnnxEngine.of(bundle, precision) for precision in precisions}
    other_speakers = _other_speakers({item.speaker for item in utterances}, others)
    tested: dict[str, list[Utterance]] = {condition.name: [] for condition in every}
    probabilities: dict[Precision, dict[str, list[Floats]]] = {
        precision: {condition.name: [] for condition in every} for precision in precisions
    }
    for item in utterances:
        pcm = read_audio(item.path)
        neutral = _other_neutral(item, others)
        where = AcousticScene(item, other_speakers[item.speaker], seed, recordings or TestRecordings(), neutral)
        for condition in every:
            if condition.babble and len(where.others) < MIN_TALKERS:
                raise ValueError(f"{condition.name} needs utterances of speakers other than '{item.speaker}'")
            if condition.neutral and not neutral:
                continue
            tested[condition.name].append(item)
            changed = np.ascontiguousarray(condition.apply(pcm, where), np.float32)
            for precision, engine in engines.items():
                clip = score_clip(engine.score, changed, manifest.window, temperature=manifest.temperature)
                probabilities[precision][condition.name].append(clip.probabilities)
    return {
        precision: {
            name: Evaluation(tuple(tested[name]), manifest.labels, np.stack(each))
            for name, each in by_name.items()
            if each
        }
        for precision, by_name in probabilities.items()
    }


def score_conditions(
    evaluations: Mapping[str, Evaluation], threshold: float, conditions: Sequence[Condition] = CONDITIONS
) -> list[ConditionScore]:
    """Return a score for each condition.

    Args:
        evaluations: of one graph by name of the condition, `CLEAN` among them.
        threshold: decisions of lower confidence are uncertain.
        conditions: in addition to clean; those without an evaluation are left out.
    """
    clean = evaluations[CLEAN]
    known = [each for each in (_CLEAN, *conditions) if each.name in evaluations]
    return [_score(each, evaluations[each.name], clean, threshold) for each in known]


def measure_conditions(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    others: Sequence[Utterance],
    precisions: Sequence[Precision],
    *,
    conditions: Sequence[Condition] = CONDITIONS,
    recordings: TestRecordings | None = None,
    seed: int = 0,
) -> ConditionsSection:
    """Measure a bundle's graphs under each condition for which the corpus has enough other utterances.

    Args:
        bundle: a verified bundle.
        utterances: the test part.
        others: utterances for babble, where those of the tested speaker are left out, and for speech before a test
            utterance.
        precisions: which graphs.
        conditions: in addition to clean.
        recordings: of rooms, noise and music, for conditions that need them.
        seed: of noise and rooms.

    Raises:
        EdgeemoError: a recording or a graph cannot be used.
    """
    speakers = {item.speaker for item in utterances}
    left_out = []
    if min(len(each) for each in _other_speakers(speakers, others).values()) < MIN_TALKERS:
        left_out = [f"{each.name}: the corpus has too few other speakers" for each in conditions if each.babble]
        conditions = [each for each in conditions if not each.babble]
    if without := sum(not _other_neutral(item, others) for item in utterances):
        left_out += [
            f"{each.name}: {without} of {len(utterances)} utterances, whose speakers have no other neutral one"
            for each in conditions
            if each.neutral
        ]
    recordings = recordings or TestRecordings()
    evaluations = evaluate_conditions(
        bundle, utterances, others, precisions, conditions=conditions, recordings=recordings, seed=seed
    )
    threshold = bundle.manifest.threshold
    return ConditionsSection(
        seed=seed,
        utterances=len(utterances),
        speakers=len(speakers),
        recordings=list(recordings.notes),
        left_out=left_out,
        graphs={name: score_conditions(each, threshold, conditions) for name, each in evaluations.items()},
    )


def _other_speakers(speakers: set[str], others: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    return {name: [other for other in others if other.speaker != name] for name in speakers}


def _other_neutral(item: Utterance, others: Sequence[Utterance]) -> list[Utterance]:
    return [
        other
        for other in others
        if other.speaker == item.speaker and other.emotion == NEUTRAL and other.path != item.path
    ]


def _score(condition: Condition, found: Evaluation, clean: Evaluation, threshold: float) -> ConditionScore:
    accuracy, difference = found.accuracy, None
    if condition is not _CLEAN:
        if len(found.utterances) < len(clean.utterances):
            known = {item.path for item in found.utterances}
            kept = [number for number, item in enumerate(clean.utterances) if item.path in known]
            clean = Evaluation(found.utterances, clean.labels, clean.probabilities[kept])
        lost = mean_difference(clean.truth, [clean.decided], [found.decided], clean.speakers)
        difference = estimate(lost.ua, lost.ua_interval)
    sure = found.probabilities.max(axis=1) >= threshold
    wrong = found.decided != found.truth
    return ConditionScore(
        name=condition.name,
        group=condition.group,
        ratio_db=condition.ratio_db,
        ua=estimate(accuracy.ua, accuracy.ua_interval),
        difference=difference,
        wa=estimate(accuracy.wa, accuracy.wa_interval),
        ece=estimate(accuracy.ece, accuracy.ece_interval),
        coverage=round(float(sure.mean()), 6),
        error_when_sure=round(float(wrong[sure].mean()), 6) if sure.any() else None,
    )
