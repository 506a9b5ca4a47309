"""Kinds of speech that a speaker model is adapted to, which `benchmarks.lab.speakers` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from distill.corpus import Utterance
from distill.evaluation.changes import Changes
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.speaker_draws import (
    Draws,
    Stream,
    after_another_speaker,
    after_own_profile,
    in_blocks,
    in_turn,
    neutral_draws,
    other_speaker_draws,
    random_draws,
    single_emotion_draws,
    two_speaker_draws,
)
from distill.evaluation.speaker_normalised import Speakers
from edge_runtime.clips import ClipResult

NONE = "no reference"
RANDOM = "random"
COUNTS = (1, 2, 5, 10, 20)
ALL = 1_000
"""More than the utterances of any speaker."""
BLOCK = 10
KNOWN = 20
"""Utterances of a profile, or of a well-known speaker."""

Tick = Callable[[], None]


class TestSpeakers(NamedTuple):
    """Test speakers, and their clips, each of an unknown speaker: as recorded, and by telephone."""

    speakers: Speakers
    clips: Sequence[ClipResult]
    telephone_clips: Sequence[ClipResult]


Measure = Callable[[TestSpeakers, int, Tick], tuple[Evaluation, Changes | None]]
"""Returns the decisions and the detected changes of speaker for a seed."""


@dataclass(frozen=True)
class Condition:
    """One kind of speech to adapt to.

    Attributes:
        name: system of its rows.
        utterances: that each one is scored after; 0 for none or a growing number.
        measure: measures it.
        chance: whether the result depends on the seed.
        min_speakers: test speakers that a fold needs for it.
    """

    name: str
    utterances: int
    measure: Measure
    chance: bool = True
    min_speakers: int = 1


def conditions(speakers: int) -> list[Condition]:
    """Return the kinds to compare with this many test speakers per fold, that of unknown speakers first."""
    every = [
        Condition(NONE, 0, _without, chance=False),
        *(_drawn(RANDOM, count, random_draws) for count in COUNTS),
        _drawn("all others", ALL, random_draws, chance=False),
        *(_drawn("one emotion", count, single_emotion_draws) for count in (5, KNOWN)),
        _drawn("neutral", KNOWN, neutral_draws, chance=False),
        _drawn("two speakers", KNOWN, two_speaker_draws, min_speakers=2),
        _drawn("another speaker", KNOWN, other_speaker_draws, min_speakers=2),
        _drawn("by telephone", KNOWN, random_draws, telephone=True),
        _online("in turn", lambda items, seed: _streams(in_turn(items, seed))),
        _online("in turn, sorted by name", lambda items, seed: _streams(in_turn(items, None)), chance=False),
        _online(
            f"in turn, two speakers by {BLOCK}",
            lambda items, seed: _streams(in_blocks(items, BLOCK, seed)),
            min_speakers=2,
        ),
        _online("in turn, another's profile", _other_profile, min_speakers=2),
        _online("in turn, another's profile, no session", _other_profile, adapt_to_others=False, min_speakers=2),
        _online(
            "in turn, profile by telephone", lambda items, seed: after_own_profile(items, KNOWN, seed), telephone=True
        ),
    ]
    return [each for each in every if each.min_speakers <= speakers]


def _without(tested: TestSpeakers, _seed: int, _tick: Tick) -> tuple[Evaluation, None]:
    return tested.speakers.evaluation([each.probabilities for each in tested.clips]), None


def _other_profile(items: Sequence[Utterance], seed: int) -> list[Stream]:
    return after_another_speaker(items, KNOWN, seed)


def _drawn(
    name: str,
    count: int,
    draw: Callable[..., Draws],
    *,
    chance: bool = True,
    telephone: bool = False,
    min_speakers: int = 1,
) -> Condition:
    def measure(tested: TestSpeakers, seed: int, tick: Tick) -> tuple[Evaluation, None]:
        draws = draw(tested.speakers.items, count, seed)
        behind = tested.telephone_clips if telephone else None
        return tested.speakers.drawn(tested.clips, draws, tick, behind=behind), None

    return Condition(name, count, measure, chance, min_speakers)


def _online(
    name: str,
    streams: Callable[[Sequence[Utterance], int], list[Stream]],
    *,
    chance: bool = True,
    telephone: bool = False,
    adapt_to_others: bool = True,
    min_speakers: int = 1,
) -> Condition:
    def measure(tested: TestSpeakers, seed: int, tick: Tick) -> tuple[Evaluation, Changes]:
        known = tested.telephone_clips if telephone else None
        return tested.speakers.online(
            streams(tested.speakers.items, seed), tested.clips, tick, known=known, adapt_to_others=adapt_to_others
        )

    return Condition(name, 0, measure, chance, min_speakers)


def _streams(orders: Sequence[Sequence[int]]) -> list[Stream]:
    return [Stream(order) for order in orders]
