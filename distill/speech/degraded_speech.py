"""Speech as the student of an encoder's distillation gets it: another voice, then room, noise and channel.

The teacher gets the same utterance in the same voice, clean.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from distill.corpus import Utterance
from distill.speech.audio_data import Item, collate_windows
from distill.speech.augmentation import Augmentation, Recordings, augment, draw_session
from distill.speech.batch_order import generator
from distill.speech.sessions import Sessions
from edge_runtime.sources.audio import Pcm, read_audio

_VOICE, _PICK = 0, 2
"""Kinds of draws, each with random numbers of its own."""


@dataclass(frozen=True)
class Voices:
    """The voices in which utterances are processed.

    Attributes:
        count: how many; the first is as recorded.
        speed: the others are faster or slower by up to this share, the same for all utterances of a speaker.
        samples: longer utterances are cut.
        seed: of the draws.
    """

    count: int
    speed: float
    samples: int
    seed: int = 0

    def of(self, item: Utterance, voice: int) -> Pcm:
        """Return the waveform ``[S]`` of an utterance in one voice."""
        pcm = read_audio(item.path)
        if voice:
            random = generator(self.seed, voice, zlib.crc32(item.speaker.encode()), _VOICE)
            session = draw_session(Augmentation(speed=self.speed), Recordings(), random)
            pcm = augment(pcm, session, random)
        return np.ascontiguousarray(pcm[: self.samples])


class Pair(NamedTuple):
    """A degraded waveform ``[S]``, and the teacher's states ``[T, D]`` and statistics ``[M]`` of the clean one."""

    pcm: Pcm
    states: np.ndarray
    statistics: np.ndarray


class DegradedSpeech(Dataset[Pair]):
    """Degraded utterances, with the teacher's targets for the clean ones.

    Args:
        utterances: the items.
        targets: returns the clean waveform, states and statistics of an utterance in one voice.
        voices: how many there are; one is drawn for each utterance in each epoch.
        augmentation: the room, noise and channel of a speaker in one epoch; its speed is not used.
        clean_share: share of utterances that stay clean.
        seed: of all draws; they are a function of seed, epoch, speaker and utterance alone.

    Raises:
        WrongUseError: a directory that the augmentation names is missing, or holds no audio.
        EdgeemoError: a file in it is not readable as audio.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        targets: Callable[[Utterance, int], tuple[Pcm, np.ndarray, np.ndarray]],
        voices: int,
        augmentation: Augmentation,
        clean_share: float,
        seed: int,
    ) -> None:
        self._utterances = list(utterances)
        self._targets = targets
        self._clean_share = clean_share
        self._voices = voices
        self._sessions = Sessions(utterances, augmentation.model_copy(update={"speed": 0.0}), seed)
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._utterances)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch; each one draws other voices and other sessions."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Pair:
        item = self._utterances[index]
        random = generator(self._seed, self._epoch, index, _PICK)
        pcm, states, statistics = self._targets(item, int(random.integers(self._voices)))
        if random.random() >= self._clean_share:
            pcm = augment(pcm, self._sessions.of(item, self._epoch), random)
        return Pair(pcm, states, statistics)


def collate_pairs(items: list[Pair]) -> dict[str, Any]:
    """Return what `collate_windows` does, and ``states`` ``[B, T, D]`` padded with zeros and ``statistics`` ``[B, M]``.

    ``labels`` ``[B]`` are zeros, which the training loop wants.
    """
    return collate_windows([Item(item.pcm, 0, {}) for item in items]) | {
        "states": pad_sequence([torch.from_numpy(item.states).float() for item in items], batch_first=True),
        "statistics": torch.from_numpy(np.stack([item.statistics for item in items])).float(),
    }
