"""The recording sessions of augmented speech: one for each speaker and epoch."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from distill.corpus import Utterance, corpus_of
from distill.speech.augmentation import Augmentation, Recordings, Session, draw_session
from distill.speech.batch_order import generator

_MOST = 64
"""Sessions in memory, with their room and noise: a few megabytes each. Drawn anew they are the same."""


class Sessions:
    """Draws the sessions of some utterances.

    Args:
        utterances: whose speakers are the talkers of babble, too, where the augmentation wants it.
        augmentation: what a session changes.
        seed: of all draws; a session is a function of seed, epoch and speaker alone.

    Raises:
        WrongUseError: a directory that the augmentation names is missing, or holds no audio.
        EdgeemoError: a file in it is not readable as audio.
    """

    def __init__(self, utterances: Sequence[Utterance], augmentation: Augmentation, seed: int) -> None:
        self._augmentation = augmentation
        self._recordings = Recordings.of(augmentation)
        self._seed = seed
        self._drawn: OrderedDict[tuple[int, str], Session] = OrderedDict()
        self._talkers: dict[str, list[tuple[str, Path]]] = {}
        for item in utterances if augmentation.talkers else ():
            self._talkers.setdefault(corpus_of(item), []).append((item.speaker, item.path))

    def of(self, item: Utterance, epoch: int) -> Session:
        """Return the session of an utterance in one epoch.

        Raises:
            EdgeemoError: a recording cannot be used.
        """
        key = (epoch, item.speaker)
        if key not in self._drawn:
            if len(self._drawn) == _MOST:
                self._drawn.popitem(last=False)
            # Longer than the places of utterances, (epoch, index): none is equal to it.
            random = generator(self._seed, epoch, zlib.crc32(item.speaker.encode()), 1)
            # Talkers of the same corpus only: what is left out of training is not even background.
            others = [path for speaker, path in self._talkers.get(corpus_of(item), ()) if speaker != item.speaker]
            recordings = self._recordings.with_babble(others) if others else self._recordings
            self._drawn[key] = draw_session(self._augmentation, recordings, random)
        return self._drawn[key]
