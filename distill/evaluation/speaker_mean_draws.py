"""The utterances behind the speaker mean of each utterance, in tests and in training.

Many or few, of one emotion, or of another speaker. Utterances are numbers into a list; an utterance is never part of
its own speaker mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from distill.corpus import Utterance

Draws = list[list[int]]
"""For each utterance, those of its speaker mean; none for the training mean."""

Kind = Literal["none", "good", "emotion", "other", "noise"]
"""Kinds of speaker means in training: the training mean; of utterances of the speaker; of a single emotion; of one
other speaker; of the speaker, moved by noise."""

MAX_UTTERANCES = 30
"""Utterances of a speaker mean in training, at most: a few minutes of a session."""

_POOR: tuple[Kind, ...] = ("emotion", "other", "noise")


class Stream(NamedTuple):
    """Utterances in the order of a stream, and those of the profile that it begins with."""

    order: Sequence[int]
    known: Sequence[int] = ()


_NEUTRAL = ("neutral", "neutrality", "calm")


class Drawn(NamedTuple):
    """The kind of a speaker mean, and its utterances: none for the training mean, else 1 to `MAX_UTTERANCES`."""

    kind: Kind
    behind: list[int]


class TrainingDraws:
    """Speaker means of every size and some poor ones, so that a student is robust to them.

    Args:
        items: the training utterances.
        share: chance of a speaker mean.
        poor: chance that it is a poor one.
    """

    def __init__(self, items: Sequence[Utterance], share: float, poor: float) -> None:
        self._items = items
        self._share = share
        self._poor = poor
        self._of: dict[str, list[int]] = {}
        for number, item in enumerate(items):
            self._of.setdefault(item.speaker, []).append(number)

    def draw(self, index: int, random: np.random.Generator) -> Drawn:
        """Draw the utterances of one speaker mean; sizes are uniform on a logarithmic scale."""
        if random.random() >= self._share:
            return Drawn("none", [])
        kind: Kind = _POOR[int(random.integers(len(_POOR)))] if random.random() < self._poor else "good"
        size = int(np.exp(random.uniform(0.0, np.log(MAX_UTTERANCES + 1))))
        candidates = self._candidates(index, kind, random)
        if not candidates:
            return Drawn("none", [])
        return Drawn(kind, _choose(candidates, size, random))

    def most(self, index: int, seed: int) -> Drawn:
        """Draw as many others of the speaker as there are, `MAX_UTTERANCES` at most: the same ones in each epoch."""
        random = np.random.default_rng([seed, index])
        others = self._candidates(index, "good", random)
        return Drawn("good", _choose(others, MAX_UTTERANCES, random)) if others else Drawn("none", [])

    def _candidates(self, index: int, kind: Kind, random: np.random.Generator) -> list[int]:
        speaker = self._items[index].speaker
        if kind == "other":
            rest = [name for name in self._of if name != speaker]
            return self._of[rest[int(random.integers(len(rest)))]] if rest else []
        own = [number for number in self._of[speaker] if number != index]
        if kind == "emotion" and own:
            shown = sorted({self._items[number].emotion for number in own})
            wanted = shown[int(random.integers(len(shown)))]
            own = [number for number in own if self._items[number].emotion == wanted]
        return own


def random_draws(items: Sequence[Utterance], count: int | None, seed: int) -> Draws:
    """Draw ``count`` other utterances of the same speaker for each one; all others if not given."""
    return _each(items, count, seed, lambda tested, other: items[other].speaker == items[tested].speaker)


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
