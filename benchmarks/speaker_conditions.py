"""The kinds of references that `benchmarks.speakers` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from distill.corpus import Utterance
from distill.evaluation.changes import Changes
from distill.evaluation.evaluate import Evaluation
from distill.evaluation.speaker_mean_draws import (
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
"""More than any speaker of a corpus has: all others."""
BLOCK = 10
KNOWN = 20
"""Utterances behind a profile."""

Tick = Callable[[], None]


class Tested(NamedTuple):
    """Speakers, and their utterances as they are heard without a reference: as recorded, and by telephone."""

    who: Speakers
    heard: Sequence[ClipResult]
    elsewhere: Sequence[ClipResult]


Measure = Callable[[Tested, int, Tick], tuple[Evaluation, Changes | None]]
"""Gives what is decided, and the changes of speaker that were noticed, for a seed."""


@dataclass(frozen=True)
class Condition:
    """One kind of reference.

    Attributes:
        name: as rows name it.
        utterances: behind a reference; 0 for none or a growing number.
        measure: measures it.
        chance: another seed gives another result.
        people: how many speakers a fold must test for it.
    """

    name: str
    utterances: int
    measure: Measure
    chance: bool = True
    people: int = 1


def conditions(people: int) -> list[Condition]:
    """Return all kinds of references that are compared where a fold tests so many speakers, the default one first."""
    every = [
        Condition(NONE, 0, _without, chance=False),
        *(_drawn(RANDOM, count, random_draws) for count in COUNTS),
        _drawn("all others", ALL, random_draws, chance=False),
        *(_drawn("one emotion", count, single_emotion_draws) for count in (5, KNOWN)),
        _drawn("neutral", KNOWN, neutral_draws, chance=False),
        _drawn("two speakers", KNOWN, two_speaker_draws, people=2),
        _drawn("another speaker", KNOWN, other_speaker_draws, people=2),
        _drawn("by telephone", KNOWN, random_draws, elsewhere=True),
        _online("in turn", lambda items, seed: _streams(in_turn(items, seed))),
        _online("in turn, sorted by name", lambda items, seed: _streams(in_turn(items, None)), chance=False),
        _online(
            f"in turn, two speakers by {BLOCK}",
            lambda items, seed: _streams(in_blocks(items, BLOCK, seed)),
            people=2,
        ),
        _online("in turn, another's profile", _another_s, people=2),
        _online("in turn, another's profile, no session", _another_s, adapt_to_others=False, people=2),
        _online("in turn, profile by telephone", _their_own, elsewhere=True),
    ]
    return [each for each in every if each.people <= people]


def _without(tested: Tested, _seed: int, _tick: Tick) -> tuple[Evaluation, None]:
    return tested.who.evaluation([each.probabilities for each in tested.heard]), None


def _another_s(items: Sequence[Utterance], seed: int) -> list[Stream]:
    return after_another_speaker(items, KNOWN, seed)


def _their_own(items: Sequence[Utterance], seed: int) -> list[Stream]:
    return after_own_profile(items, KNOWN, seed)


def _drawn(
    name: str,
    count: int,
    draw: Callable[..., Draws],
    *,
    chance: bool = True,
    elsewhere: bool = False,
    people: int = 1,
) -> Condition:
    def measure(tested: Tested, seed: int, tick: Tick) -> tuple[Evaluation, None]:
        behind = tested.elsewhere if elsewhere else tested.heard
        return tested.who.drawn(behind, draw(tested.who.items, count, seed), tick), None

    return Condition(name, count, measure, chance, people)


def _online(
    name: str,
    streams: Callable[[Sequence[Utterance], int], list[Stream]],
    *,
    chance: bool = True,
    elsewhere: bool = False,
    adapt_to_others: bool = True,
    people: int = 1,
) -> Condition:
    def measure(tested: Tested, seed: int, tick: Tick) -> tuple[Evaluation, Changes]:
        behind = tested.elsewhere if elsewhere else tested.heard
        return tested.who.online(streams(tested.who.items, seed), behind, tick, adapt_to_others=adapt_to_others)

    return Condition(name, 0, measure, chance, people)


def _streams(orders: Sequence[Sequence[int]]) -> list[Stream]:
    return [Stream(order) for order in orders]
