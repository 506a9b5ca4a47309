"""Which utterances make up which batch: a function of seed and epoch, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

_SORTED = 16
"""So many batches at once are put together by length."""


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one place in a run, such as (epoch,) or (epoch, utterance).

    They depend on nothing else: not on what was drawn before, in which process, or whether the run was resumed.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def share(batch: Sequence[int], rank: int, count: int) -> list[int]:
    """Return what process ``rank`` of ``count`` computes of a batch: the shares differ by one item at most.

    A last batch of fewer items than processes goes to all of them as a whole, so that none stands idle where all must
    meet; their mean is that batch's mean.

    >>> [share([5, 6, 7], rank, 2) for rank in range(2)]
    [[5], [6, 7]]
    >>> [share([5], rank, 2) for rank in range(2)]
    [[5], [5]]
    """
    if len(batch) < count:
        return list(batch)
    return list(batch[len(batch) * rank // count : len(batch) * (rank + 1) // count])


class BatchOrder(Sampler[list[int]]):
    """Batches of an epoch in random order, cut to one process' share; set `epoch` before each epoch.

    Args:
        size: number of items.
        batch_size: items a batch, of all processes together.
        seed: seed of the order.
        rank: which process this is.
        count: how many processes share each batch.
        weights: ``[size]``; as many items are drawn as there are, with chances in proportion to these. Each item once
            if not given.
        lengths: ``[size]`` of the items: neighbours in the order are put into batches by length, so that batches have
            little padding.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        count: int = 1,
        weights: npt.NDArray[np.floating] | None = None,
        lengths: npt.NDArray[np.floating] | None = None,
    ) -> None:
        self.epoch = 0
        self._size = size
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._count = count
        self._chances = None if weights is None else weights / weights.sum()
        self._lengths = lengths

    def __len__(self) -> int:
        return -(-self._size // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        draw = generator(self._seed, self.epoch)
        if self._chances is None:
            order = draw.permutation(self._size).tolist()
        else:
            order = draw.choice(self._size, size=self._size, p=self._chances).tolist()
        starts = np.arange(0, self._size, self._batch_size)
        if self._lengths is not None:
            block = _SORTED * self._batch_size
            for first in range(0, self._size, block):
                order[first : first + block] = sorted(order[first : first + block], key=self._lengths.__getitem__)
            draw.shuffle(starts)
        for start in starts:
            yield share(order[start : start + self._batch_size], self._rank, self._count)
