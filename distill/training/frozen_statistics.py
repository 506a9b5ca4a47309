"""Statistics of a frozen encoder: computed once for all folds, seeds and epochs, and cached on disk.

A frozen encoder gives the same statistics in every epoch, so a head is trained without running it again. The corpus is
processed in several copies: the first as recorded, the others with the augmentation of one epoch each, in which the
utterances of a speaker are one session. Utterances are processed up to the longest segment of the device, whose final
events are means over its windows: of a cut of one window, little more than half of a long utterance would count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from distill.caching.arrays import Rows, write_rows
from distill.caching.contents import contents_of
from distill.caching.source_digest import AUDIO, source_digest
from distill.corpus import Utterance
from distill.encoders.interface import SpeechEncoder
from distill.encoders.pooling import LAST, pool, pooled_size
from distill.evaluation.metrics import Floats, Ints
from distill.speech.audio_data import Windows, collate_windows
from distill.speech.augmentation import Augmentation
from distill.speech.sound_files import content_of
from distill.training import processes
from edge_runtime import __version__
from edge_runtime.console import advance, progress_bar
from edge_runtime.files import digest_of, locked
from edge_runtime.windows import WindowPolicy

SOURCES = (
    __name__,
    "distill.encoders",
    "distill.speech",
    *AUDIO,
    "edge_runtime.windows",
)
"""The code that statistics depend on: they are computed again after a change to it."""

_BATCH = 16
_SEED = 0


class Processing(NamedTuple):
    """How utterances are processed.

    Attributes:
        policy: the student's window.
        frames: over which frames statistics are taken.
        deviation: whether deviations are taken too.
        augmentation: what is changed in all copies but the first.
        copies: how many copies of each utterance there are.
        voices: how many copies after the first one change the voice only.
    """

    policy: WindowPolicy
    frames: tuple[str, ...]
    deviation: bool
    augmentation: Augmentation
    copies: int
    voices: int = 0

    def changes(self, copy: int) -> Augmentation:
        """Return what is changed in a copy; copy 0 is as recorded."""
        if not copy:
            return Augmentation()
        return self.augmentation.of_voice() if copy <= self.voices else self.augmentation


class Moments(NamedTuple):
    """Mean and standard deviation ``[D]`` over utterances."""

    mean: Floats
    deviation: Floats


class FrozenStatistics:
    """Statistics ``[N, D]`` of the same utterances in several copies, on disk.

    Args:
        places: the rows that hold each audio file, a copy each, and its number in them.
        columns: which columns of the rows are wanted.
    """

    def __init__(self, places: Mapping[Path, tuple[Sequence[Rows], int]], columns: Ints) -> None:
        self._places = dict(places)
        self._columns = columns

    @property
    def copies(self) -> int:
        """How many copies there are."""
        return min(len(copies) for copies, _ in self._places.values())

    def holds(self, item: Utterance) -> bool:
        """Return whether the utterance is one of these."""
        return item.path in self._places

    def of(self, item: Utterance, copy: int = 0) -> Floats:
        """Return the statistics ``[D]`` of one utterance; copy 0 is as recorded."""
        copies, number = self._places[item.path]
        return copies[copy][number][self._columns]

    def moments(self, items: Sequence[Utterance]) -> Moments:
        """Return mean and standard deviation over some utterances in all copies."""
        return _moments(self.of(item, copy) for copy in range(self.copies) for item in items)

    def moments_of_all(self) -> Moments:
        """Return mean and standard deviation over all utterances in all copies."""
        places = self._places.values()
        return _moments(copies[copy][number][self._columns] for copy in range(self.copies) for copies, number in places)


def _moments(rows: Iterable[Floats]) -> Moments:
    total: Floats = np.zeros(1)
    squares: Floats = np.zeros(1)
    count = 0
    for row in rows:
        row = row.astype(np.float64)
        total, squares, count = total + row, squares + np.square(row), count + 1
    mean = total / count
    return Moments(mean, np.sqrt(np.maximum(squares / count - np.square(mean), 1e-10)))


class AlignedStatistics(FrozenStatistics):
    """Statistics of the tested corpus, and of others aligned to those of its training utterances.

    Room, microphone and language of a corpus shift and scale every statistic: each statistic of another corpus gets the
    mean and the deviation that it has over the training utterances of the tested corpus. Its own are measured on its
    training utterances, or on all where it has none: unlabelled speech, and auxiliary corpora in languages that a
    teacher of one language is not fitted to.

    Args:
        own: of the tested corpus.
        others: of the others.
        train: the training utterances, of all of them.
    """

    def __init__(self, own: FrozenStatistics, others: Sequence[FrozenStatistics], train: Sequence[Utterance]) -> None:
        places = {path: place for part in (own, *others) for path, place in part._places.items()}
        super().__init__(places, own._columns)
        self._own = own
        self.home = own.moments([item for item in train if own.holds(item)])
        self._others = []
        for other in others:
            items = [item for item in train if other.holds(item)]
            self._others.append((other, other.moments(items) if items else other.moments_of_all()))

    def is_own(self, item: Utterance) -> bool:
        """Return whether the utterance is of the tested corpus."""
        return self._own.holds(item)

    def of(self, item: Utterance, copy: int = 0) -> Floats:
        """Return the statistics ``[D]`` of one utterance; copy 0 is as recorded."""
        for other, moments in self._others:
            if other.holds(item):
                standard = (other.of(item, copy) - moments.mean) / moments.deviation
                return np.asarray(standard * self.home.deviation + self.home.mean, np.float32)
        return self._own.of(item, copy)


def frozen_statistics(
    encoder: SpeechEncoder, layers: Sequence[int], utterances: Sequence[Utterance], processing: Processing, cache: Path
) -> FrozenStatistics:
    """Return the statistics of utterances, from the cache where the same encoder has processed them before.

    Args:
        encoder: a frozen encoder.
        layers: the pooled layers.
        utterances: whole corpora, so that all folds share what is computed.
        processing: window and augmentation.
        cache: directory of the cache.

    Raises:
        EdgeemoError: a file cannot be read, or the cache cannot be written.
    """
    root = cache / "statistics"
    # Those of all layers, so that another choice of layers needs no other run of the encoder.
    every = [*range(encoder.depth + 1), *([LAST] if LAST in layers else [])]
    weights = digest_of_weights(encoder)
    copies = []
    for copy in range(processing.copies):
        path = root / f"{_key(weights, encoder.settings, every, utterances, processing, copy)}.npy"

        def compute(path: Path = path, copy: int = copy) -> None:
            # Two runs that want the same statistics at once: one computes them, the other waits.
            with locked(path.with_suffix(".lock")):
                if not path.is_file():
                    batches = _encode(encoder, every, utterances, processing, copy)
                    write_rows({"statistics": path}, batches, len(utterances))

        processes.by_first(compute)
        copies.append(Rows(path))
    width = pooled_size(encoder, [0], processing.frames, deviation=processing.deviation)
    columns = np.concatenate([np.arange(width) + width * every.index(layer) for layer in layers])
    return FrozenStatistics({item.path: (copies, number) for number, item in enumerate(utterances)}, columns)


def _encode(
    encoder: SpeechEncoder, layers: Sequence[int], utterances: Sequence[Utterance], processing: Processing, copy: int
) -> Iterator[dict[str, Floats]]:
    """Yield ``statistics`` ``[B, D]`` of one copy, batch by batch."""
    windows = Windows(
        utterances,
        sorted({item.emotion for item in utterances}),
        processing.policy,
        seed=_SEED if copy else None,
        augmentation=processing.changes(copy),
    )
    windows.set_epoch(copy)
    encoder.eval()
    device = next(encoder.parameters()).device
    title = f"frozen encoder, copy {copy + 1} of {processing.copies}"
    with progress_bar(title, total=len(utterances)) as bar, torch.inference_mode():
        for start in range(0, len(utterances), _BATCH):
            batch = collate_windows([windows[i] for i in range(start, min(start + _BATCH, len(utterances)))])
            pcm, lengths = batch["pcm"].to(device), batch["lengths"].to(device)
            rows = pool(encoder, pcm, lengths, layers, processing.frames, deviation=processing.deviation)
            yield {"statistics": rows.cpu().numpy()}
            advance(bar, len(rows))


def digest_of_weights(encoder: SpeechEncoder) -> str:
    """Return a digest of all weights of an encoder."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def augmentation_facts(how: Augmentation) -> dict[str, object]:
    """Return its settings, with the content of directories in place of their paths."""
    directories = {"rooms": how.rooms, "noises": how.noises, "babble": how.babble}
    return how.model_dump() | {name: content_of(each) for name, each in directories.items()}


def _key(
    weights: str,
    settings: Mapping[str, Any],
    layers: Sequence[int],
    utterances: Sequence[Utterance],
    processing: Processing,
    copy: int,
) -> str:
    facts = {
        "weights": weights,
        "settings": settings,
        "layers": list(layers),
        "utterances": list(zip(contents_of(utterances), [item.speaker for item in utterances], strict=True)),
        "frames": [*processing.frames, processing.deviation],
        "samples": processing.policy.samples,
        # As recorded, augmentation changes nothing.
        "augmentation": [copy, augmentation_facts(processing.changes(copy))] if copy else 0,
        "versions": [__version__, torch.__version__, transformers.__version__],
        "code": source_digest(*SOURCES),
    }
    return digest_of(facts, 24)
