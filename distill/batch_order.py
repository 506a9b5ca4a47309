"""Which utterances make up which batch: a function of seed and epoch, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


def generator(seed: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one place in a run, such as (epoch,) or (epoch, utterance).

    They depend on nothing else: not on what was drawn before, in which process, or whether the run was resumed.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def share(batch: Sequence[int], rank: int, count: int) -> list[int]:
    """Return what process ``rank`` of ``count`` computes of a batch: the shares differ by one item at most.

    A last batch of fewer items than processes goes to all of them as a whole, so that none stands idle where all must
    meet; their mean is that batch's mean all the same.

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
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, count: int = 1) -> None:
        self.epoch = 0
        self._size = size
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._count = count

    def __len__(self) -> int:
        return -(-self._size // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = generator(self._seed, self.epoch).permutation(self._size).tolist()
        for start in range(0, self._size, self._batch_size):
            yield share(order[start : start + self._batch_size], self._rank, self._count)
