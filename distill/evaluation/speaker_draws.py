"""The utterances that each utterance is scored after: many or few, of one emotion, or of another speaker.

Utterances are numbers into a list; an utterance is never among its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from distill.corpus import Utterance

Draws = list[list[int]]
"""For each utterance, those that it is scored after; none for an unknown speaker."""


class Stream(NamedTuple):
    """Utterances in the order of a stream, and those of the profile that it begins with."""

    order: Sequence[int]
    known: Sequence[int] = ()


_NEUTRAL = ("neutral", "neutrality", "calm")


def random_draws(items: Sequence[Utterance], count: int | None, seed: int) -> Draws:
    """Draw ``count`` other utterances of the same speaker for each one; all others if not given."""
    return _each(items, count, seed, lambda tested, other: items[other].speaker == items[tested].speaker)


def labelled_draws(items: Sequence[Utterance], count: int, seed: int, apart: str | None = None) -> Draws:
    """Draw ``count`` other utterances of each emotion of the same speaker for each one.

    Args:
        items: the utterances.
        count: of each emotion; all of them where a speaker has fewer.
        seed: of the draws.
        apart: a column whose value must differ between an utterance and those drawn for it, as ``sentence``.
    """
    found: Draws = []
    of_speaker: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        of_speaker.setdefault(item.speaker, []).append(number)
    for tested, item in enumerate(items):
        random = np.random.default_rng([seed, tested])
        own = [other for other in of_speaker[item.speaker] if other != tested]
        if apart is not None:
            own = [other for other in own if items[other].column(apart) != item.column(apart)]
        emotions = sorted({items[other].emotion for other in own})
        each = ([other for other in own if items[other].emotion == emotion] for emotion in emotions)
        found.append([number for candidates in each for number in _choose(candidates, count, random)])
    return found


def single_emotion_draws(items: Sequence[Utterance], count: int, seed: int) -> Draws:
    """Draw utterances of the same speaker that all show one emotion, which is drawn for each tested one."""
    emotions = sorted({item.emotion for item in items})
    drawn = np.random.default_rng([seed, 1]).integers(len(emotions), size=len(items))
    wanted = [emotions[each] for each in drawn]
    return _each(
        items,
        count,
        seed,
        lambda tested, other: (items[other].speaker, items[other].emotion) == (items[tested].speaker, wanted[tested]),
    )


def neutral_draws(items: Sequence[Utterance], count: int, seed: int) -> Draws:
    """Draw neutral utterances of the same speaker."""
    neutral = next((name for name in _NEUTRAL if any(item.emotion == name for item in items)), None)
    return _each(
        items,
        count,
        seed,
        lambda tested, other: (items[other].speaker, items[other].emotion) == (items[tested].speaker, neutral),
    )


def other_speaker_draws(items: Sequence[Utterance], count: int, seed: int) -> Draws:
    """Draw utterances of one other speaker."""
    return [
        _pick([j for j, one in enumerate(items) if one.speaker == other], count, [seed, number]) if other else []
        for number, other in enumerate(_others(items, seed))
    ]


def two_speaker_draws(items: Sequence[Utterance], count: int, seed: int) -> Draws:
    """Draw half of the utterances from the speaker, half from one other: two speakers at one microphone."""
    own = random_draws(items, count - count // 2, seed)
    other = other_speaker_draws(items, count // 2, seed)
    return [mine + theirs for mine, theirs in zip(own, other, strict=True)]


def in_turn(items: Sequence[Utterance], seed: int | None) -> list[list[int]]:
    """Return the utterances of each speaker in a random order, or by name.

    Args:
        items: the utterances.
        seed: of a random order; None for that of their names, which most corpora sort by emotion.
    """
    orders: list[list[int]] = []
    for speaker in sorted({item.speaker for item in items}):
        numbers = sorted((n for n, item in enumerate(items) if item.speaker == speaker), key=lambda n: items[n].name)
        if seed is not None:
            numbers = [numbers[place] for place in np.random.default_rng([seed, len(orders)]).permutation(len(numbers))]
        orders.append(numbers)
    return orders


def by_emotion(items: Sequence[Utterance], seed: int) -> list[list[int]]:
    """Return the utterances of each speaker sorted by emotion: emotions, and utterances of each, in a random order."""
    emotions = sorted({item.emotion for item in items})
    orders = in_turn(items, seed)
    for number, order in enumerate(orders):
        turn = list(np.random.default_rng([seed, number, 1]).permutation(emotions))
        order.sort(key=lambda each: turn.index(items[each].emotion))
    return orders


def in_blocks(items: Sequence[Utterance], count: int, seed: int) -> list[list[int]]:
    """Return the utterances of pairs of speakers, ``count`` of each in turn, each in a random order."""
    orders = in_turn(items, seed)
    found: list[list[int]] = []
    for start in range(0, len(orders), 2):
        pair = orders[start : start + 2]
        found.append([])
        for block in range(0, max(map(len, pair)), count):
            for order in pair:
                found[-1] += order[block : block + count]
    return found


def after_another_speaker(items: Sequence[Utterance], count: int, seed: int) -> list[Stream]:
    """Return the utterances of each speaker in turn, after ``count`` of another speaker."""
    orders = in_turn(items, seed)
    if len(orders) < 2:
        return [Stream(order) for order in orders]
    return [Stream(order, orders[number - 1][:count]) for number, order in enumerate(orders)]


def after_own_profile(items: Sequence[Utterance], count: int, seed: int) -> list[Stream]:
    """Return half of the utterances of each speaker in turn, after ``count`` of the other half; then the other half."""
    found: list[Stream] = []
    for order in in_turn(items, seed):
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        found += [Stream(one, other[:count]), Stream(other, one[:count])]
    return found


def _each(items: Sequence[Utterance], count: int | None, seed: int, fits: Callable[[int, int], bool]) -> Draws:
    every = range(len(items))
    return [
        _pick([other for other in every if other != tested and fits(tested, other)], count, [seed, tested])
        for tested in every
    ]


def _pick(candidates: Sequence[int], count: int | None, seed: Sequence[int]) -> list[int]:
    if count is None or count >= len(candidates):
        return list(candidates)
    return _choose(candidates, count, np.random.default_rng(seed))


def _choose(candidates: Sequence[int], count: int, random: np.random.Generator) -> list[int]:
    count = min(count, len(candidates))
    return sorted(int(each) for each in random.choice(candidates, size=count, replace=False))


def _others(items: Sequence[Utterance], seed: int) -> list[str | None]:
    speakers = sorted({item.speaker for item in items})
    draw = np.random.default_rng([seed, 2])
    found: list[str | None] = []
    for item in items:
        rest = [name for name in speakers if name != item.speaker]
        found.append(rest[int(draw.integers(len(rest)))] if rest else None)
    return found
