"""Accuracy by acoustic condition: the test speech as other places and microphones would give it.

A condition changes each test recording before it is cut into windows. What it draws depends on the seed, the recording
and the kind of noise alone: all graphs and all signal-to-noise ratios hear the same noise, and a part of the test
utterances hears what the whole would.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.accuracy.acoustics import (
    LEVEL_IS,
    Floats,
    add_noise,
    amplified,
    babble,
    clipped,
    in_room,
    pink_noise,
    room_response,
    white_noise,
)
from benchmarks.estimate import Estimate, estimate
from distill.corpus import Utterance
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.metrics import Difference, mean_difference
from distill.speech.telephone import by_telephone
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.bundles.manifest import Precision
from edge_runtime.clips import score_clip
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.sources.audio import Pcm, read_audio

CLEAN = "clean"
RATIOS_DB = (20.0, 10.0, 5.0, 0.0)
VOICES = 6
"""Utterances that talk at once in babble."""
FEWEST_VOICES = 2

Noise = Literal["white", "pink", "babble"]
_NOISES: dict[Noise, str] = {"white": "white noise", "pink": "pink noise", "babble": "babble"}


@dataclass
class Surroundings:
    """Where one recording is heard.

    Attributes:
        item: the recording.
        others: utterances of other speakers, for babble.
        seed: of all draws.
    """

    item: Utterance
    others: Sequence[Utterance]
    seed: int
    _noises: dict[str, Floats] = field(default_factory=dict)

    def noise(self, kind: Noise, samples: int) -> Floats:
        """Return noise ``[samples]``; the same whenever it is asked for."""
        if kind not in self._noises:
            random = self.random(kind)
            if kind == "babble":
                chosen = random.choice(len(self.others), min(VOICES, len(self.others)), replace=False)
                voices = [read_audio(self.others[int(number)].path) for number in chosen]
                self._noises[kind] = babble(samples, voices, random)
            else:
                self._noises[kind] = {"white": white_noise, "pink": pink_noise}[kind](samples, random)
        return self._noises[kind]

    def random(self, what: str) -> np.random.Generator:
        """Return the generator of a kind of draws for this recording."""
        return np.random.default_rng([self.seed, *(zlib.crc32(text.encode()) for text in (self.item.name, what))])

    def number(self, what: str) -> int:
        """Return a seed for a kind of draws for this recording."""
        return int(self.random(what).integers(2**31))


@dataclass(frozen=True)
class Condition:
    """One way to hear the test speech.

    Attributes:
        name: as the report names it.
        group: conditions of one kind.
        apply: gives the changed waveform; must not write into the one it is given.
        ratio_db: signal-to-noise ratio, where the condition is noise of the kind `group`.
        voices: whether other people talk in it.
    """

    name: str
    group: str
    apply: Callable[[Pcm, Surroundings], Pcm]
    ratio_db: float | None = None
    voices: bool = False


def _noisy(kind: Noise, ratio_db: float) -> Condition:
    def apply(pcm: Pcm, where: Surroundings) -> Pcm:
        return add_noise(pcm, where.noise(kind, len(pcm)), ratio_db)

    return Condition(f"{_NOISES[kind]}, {ratio_db:g} dB", kind, apply, ratio_db, voices=kind == "babble")


def _room(seconds: float, direct_db: float) -> Condition:
    def apply(pcm: Pcm, where: Surroundings) -> Pcm:
        return in_room(pcm, room_response(seconds, direct_db, where.random(f"room {seconds}")))

    return Condition(f"room, {seconds:g} s, direct sound {direct_db:g} dB", "room", apply)


def _far(name: str, seconds: float, direct_db: float, kind: Noise, ratio_db: float) -> Condition:
    """Room, then noise that is as loud at the microphone, then the small level that is left of a far voice."""

    def apply(pcm: Pcm, where: Surroundings) -> Pcm:
        there = in_room(pcm, room_response(seconds, direct_db, where.random(f"room {seconds}")))
        return amplified(add_noise(there, where.noise(kind, len(pcm)), ratio_db), -20.0)

    noise = f"{_NOISES[kind]} {ratio_db:g} dB"
    return Condition(
        f"{name}: room {seconds:g} s, direct sound {direct_db:g} dB, {noise}, gain -20 dB",
        "far microphone",
        apply,
        voices=kind == "babble",
    )


def _gain(gain_db: float) -> Condition:
    return Condition(f"gain {gain_db:+g} dB, 16 bits", "channel", lambda pcm, where: amplified(pcm, gain_db))


def _clip(share: float) -> Condition:
    return Condition(f"loudest {share * 100:g} % clipped", "channel", lambda pcm, where: clipped(pcm, share))


CONDITIONS: tuple[Condition, ...] = (
    *(_noisy(kind, ratio) for kind in _NOISES for ratio in RATIOS_DB),
    _room(0.3, 5.0),
    _room(0.6, 0.0),
    _room(1.0, 0.0),
    _far("far microphone", 0.6, -6.0, "pink", 15.0),
    _far("far microphone among people", 0.6, -6.0, "babble", 10.0),
    Condition("telephone band", "channel", lambda pcm, where: by_telephone(pcm, where.number("telephone"))),
    *(_gain(gain_db) for gain_db in (-40.0, -20.0, 10.0)),
    *(_clip(share) for share in (0.01, 0.1)),
)
"""What is measured if nothing else is asked for, beside `CLEAN`."""


class ConditionScore(BaseModel):
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

    model_config = ConfigDict(extra="forbid")

    name: str
    group: str
    ratio_db: float | None = None
    ua: Estimate
    difference: Estimate | None = None
    wa: Estimate
    ece: Estimate
    coverage: float
    error_when_sure: float | None = None


class ConditionsSection(BaseModel):
    """Accuracy of a bundle's graphs by acoustic condition; intervals are over speakers.

    Attributes:
        seed: of noise and rooms.
        utterances: how many were heard under each condition.
        speakers: how many speakers said them.
        ratio_is: what a signal-to-noise ratio is.
        left_out: why conditions were left out, a sentence each.
        graphs: scores by precision, `CLEAN` first.
    """

    model_config = ConfigDict(extra="forbid")

    seed: int
    utterances: int
    speakers: int
    ratio_is: str = LEVEL_IS
    left_out: list[str]
    graphs: dict[str, list[ConditionScore]]


def hear_conditions(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    others: Sequence[Utterance],
    precisions: Sequence[Precision],
    *,
    conditions: Sequence[Condition] = CONDITIONS,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> dict[Precision, dict[str, Evaluation]]:
    """Return what each graph decides under each condition, `CLEAN` first; evaluations of several folds can be pooled.

    Args:
        bundle: a verified bundle.
        utterances: the test part.
        others: utterances that babble is made of; those of the speaker who is tested are left out.
        precisions: which graphs.
        conditions: beside clean.
        seed: of noise and rooms.
        tick: called after each utterance.

    Raises:
        EdgeemoError: a recording or a graph cannot be used.
        ValueError: two conditions have one name, or babble is asked for and there are not `FEWEST_VOICES` for it.
    """
    every = (Condition(CLEAN, CLEAN, lambda pcm, where: pcm), *conditions)
    if len({condition.name for condition in every}) < len(every):
        raise ValueError("conditions must have names of their own")
    manifest = bundle.manifest
    engines = {precision: OnnxEngine.of(bundle, precision) for precision in precisions}
    strangers = _strangers({item.speaker for item in utterances}, others)
    heard: dict[Precision, dict[str, list[Floats]]] = {
        precision: {condition.name: [] for condition in every} for precision in precisions
    }
    for item in utterances:
        pcm = read_audio(item.path)
        where = Surroundings(item, strangers[item.speaker], seed)
        for condition in every:
            if condition.voices and len(where.others) < FEWEST_VOICES:
                raise ValueError(f"{condition.name} needs utterances of speakers other than '{item.speaker}'")
            changed = np.ascontiguousarray(condition.apply(pcm, where), np.float32)
            for precision, engine in engines.items():
                clip = score_clip(engine.score, changed, manifest.window, temperature=manifest.temperature)
                heard[precision][condition.name].append(clip.probabilities)
        tick()
    return {
        precision: {
            name: Evaluation(tuple(utterances), manifest.labels, np.stack(each)) for name, each in by_name.items()
        }
        for precision, by_name in heard.items()
    }


def score_conditions(
    evaluations: Mapping[str, Evaluation], threshold: float, conditions: Sequence[Condition] = CONDITIONS
) -> list[ConditionScore]:
    """Return a score for each condition.

    Args:
        evaluations: of one graph by name of the condition, `CLEAN` among them.
        threshold: confidence under which a decision is called uncertain.
        conditions: beside clean; only those that were heard are scored.
    """
    clean = evaluations[CLEAN]
    scores = [_score(CLEAN, CLEAN, None, clean, None, threshold)]
    for condition in conditions:
        found = evaluations.get(condition.name)
        if found is not None:
            lost = mean_difference(clean.truth, [clean.decided], [found.decided], clean.speakers)
            scores.append(_score(condition.name, condition.group, condition.ratio_db, found, lost, threshold))
    return scores


def measure_conditions(
    bundle: Bundle,
    utterances: Sequence[Utterance],
    others: Sequence[Utterance],
    precisions: Sequence[Precision],
    *,
    conditions: Sequence[Condition] = CONDITIONS,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> ConditionsSection:
    """Measure the graphs of a bundle under each condition, without those for which the corpus has too few voices.

    Args:
        bundle: a verified bundle.
        utterances: the test part.
        others: utterances that babble is made of; those of the speaker who is tested are left out.
        precisions: which graphs.
        conditions: beside clean.
        seed: of noise and rooms.
        tick: called after each utterance.

    Raises:
        EdgeemoError: a recording or a graph cannot be used.
    """
    people = {item.speaker for item in utterances}
    left_out = []
    if min(len(each) for each in _strangers(people, others).values()) < FEWEST_VOICES:
        left_out = [f"{each.name}: the corpus has too few other speakers" for each in conditions if each.voices]
        conditions = [each for each in conditions if not each.voices]
    heard = hear_conditions(bundle, utterances, others, precisions, conditions=conditions, seed=seed, tick=tick)
    threshold = bundle.manifest.threshold
    return ConditionsSection(
        seed=seed,
        utterances=len(utterances),
        speakers=len(people),
        left_out=left_out,
        graphs={name: score_conditions(each, threshold, conditions) for name, each in heard.items()},
    )


def _strangers(people: set[str], others: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    return {name: [other for other in others if other.speaker != name] for name in people}


def _score(
    name: str,
    group: str,
    ratio_db: float | None,
    found: Evaluation,
    lost: Difference | None,
    threshold: float,
) -> ConditionScore:
    accuracy = found.accuracy
    sure = found.probabilities.max(axis=1) >= threshold
    wrong = found.decided != found.truth
    return ConditionScore(
        name=name,
        group=group,
        ratio_db=ratio_db,
        ua=estimate(accuracy.ua, accuracy.ua_interval),
        difference=None if lost is None else estimate(lost.ua, lost.ua_interval),
        wa=estimate(accuracy.wa, accuracy.wa_interval),
        ece=estimate(accuracy.ece, accuracy.ece_interval),
        coverage=round(float(sure.mean()), 6),
        error_when_sure=round(float(wrong[sure].mean()), 6) if sure.any() else None,
    )
