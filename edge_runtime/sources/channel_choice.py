"""What the choices of channels have in common: chosen channels, hops of 100 ms, and names in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]
_LOUDEST = 1000.0


class Choice(NamedTuple):
    """Channels whose mean is taken, and 1 or -1 for each: -1 inverts it."""

    used: tuple[int, ...]
    signs: tuple[int, ...]

    def mean(self, frames: Frames) -> Frames:
        """Return the mean ``[S]`` of the chosen channels of ``[S, C]``."""
        chosen = frames if len(self.used) == frames.shape[1] else frames[:, list(self.used)]
        if min(self.signs) < 0:
            chosen = chosen * np.array(self.signs, np.float32)
        return np.asarray(chosen.mean(axis=1), np.float32)


class Hops:
    """Cuts blocks into hops of 100 ms."""

    def __init__(self, channels: int, hop: int) -> None:
        self._waiting = np.zeros((0, channels), np.float32)
        self._hop = hop

    def add(self, frames: Frames) -> Iterator[Frames]:
        """Yield the hops ``[hop, C]`` that are complete with the next frames ``[S, C]``."""
        waiting = np.concatenate([self._waiting, frames]) if len(self._waiting) else frames
        whole = len(waiting) // self._hop * self._hop
        # A copy: PortAudio and callers use their buffers again.
        self._waiting = waiting[whole:].copy()
        for start in range(0, whole, self._hop):
            yield waiting[start : start + self._hop]

    def rest(self) -> Frames:
        """Return the frames of the hop that is not complete."""
        rest, self._waiting = self._waiting, self._waiting[:0]
        return rest


def finite_frames(frames: Frames) -> Frames:
    """Return frames with silence for what is not a number or absurdly large, which spectra could not hold."""
    sound = np.abs(frames) < _LOUDEST
    return frames if sound.all() else np.where(sound, frames, np.float32(0))


def called(numbers: Sequence[int]) -> str:
    """Return channels as in a sentence: "channels 0-3, 5"."""
    return f"channel{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers in order, as "0-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
