"""Fewer utterances of a test part, where all of them would take too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.corpus import Utterance


def balanced_sample(utterances: Sequence[Utterance], most: int | None, seed: int) -> tuple[Utterance, ...]:
    """Return at most so many utterances, in their order, drawn in turn from every speaker and emotion.

    Args:
        utterances: what to draw from.
        most: how many; None for all.
        seed: of the draw.
    """
    if most is None or len(utterances) <= most:
        return tuple(utterances)
    random = np.random.default_rng(seed)
    cells: dict[tuple[str, str], list[int]] = {}
    for number in random.permutation(len(utterances)):
        item = utterances[int(number)]
        cells.setdefault((item.speaker, item.emotion), []).append(int(number))
    # A round takes one utterance of each; in the last round chance decides who is left out.
    order = [
        (place, turn, number)
        for members in cells.values()
        for turn, (place, number) in enumerate(zip(random.random(len(members)), members, strict=True))
    ]
    order.sort(key=lambda each: (each[1], each[0]))
    return tuple(utterances[number] for number in sorted(number for _, _, number in order[:most]))
