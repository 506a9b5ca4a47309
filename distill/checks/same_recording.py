"""Recordings that are copies of each other, found by their fingerprints. Imports no torch.

Frames whose bits differ in at most one place give candidates: two recordings and an offset. The bit error rate of all
frames that both have at this offset decides, as in Haitsma and Kalker (ISMIR 2002); where it is not low, the
correlation of the waveforms does: a speech synthesiser speaks a sentence twice almost alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distill.checks.fingerprint import BITS, HOP, RATE, Fingerprint
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio

MAX_BIT_ERRORS = 0.3
"""Share of bits up to which waveforms are compared; half of them differ between unrelated sounds."""

SURE_BIT_ERRORS = 0.1
"""Share of bits up to which they need not be: 0.12 is the least of a synthesiser's repetitions."""

MIN_CORRELATION = 0.65
"""Of waveforms from 300 to 3,000 Hz: 0.9 and more after MP3, Opus, mu-law, 0.6 at most between repetitions."""

MIN_FRAMES = 16
"""Active frames that two recordings must share, a quarter of a second: fewer agree by chance."""

MIN_SHARE = 0.4
"""Share of the active frames of the shorter recording: two recordings may share a noise or a word."""

_BAND_HZ = (300, 3_000)
_NEIGHBOURS = 64
_AROUND = np.arange(-12, 13)
_QUICK_BIT_ERRORS = 0.36
_CHUNK = 1 << 17

Ints = npt.NDArray[np.int64]
_POPULATION = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


class Match(NamedTuple):
    """Two recordings with similar fingerprints.

    Attributes:
        first: number of one.
        second: number of the other, larger.
        bit_errors: share of bits that differ at the best offset.
        offset: frame of the second recording at the first frame of the first.
    """

    first: int
    second: int
    bit_errors: float
    offset: int


class Recording(NamedTuple):
    """A recording to compare with others.

    Attributes:
        path: the file.
        fingerprint: of its sound.
        content: a digest of its samples, equal for equal sound; empty for silence.
        part: recordings of the same part are not compared, unless they have the same content.
    """

    path: Path
    fingerprint: Fingerprint
    content: str
    part: str


def copies(recordings: Sequence[Recording]) -> list[list[int]]:
    """Return the groups of two or more recordings that are copies of each other, by their numbers, in order.

    Raises:
        EdgeemoError: a file cannot be read.
    """
    first: dict[str, int] = {}
    parent = [
        first.setdefault(each.content, number) if each.content else number for number, each in enumerate(recordings)
    ]
    # One recording of each content and part: its copies are known already.
    kept = list({(each.content or number, each.part): number for number, each in enumerate(recordings)}.values())
    parts = [recordings[number].part for number in kept]
    for match in matches([recordings[number].fingerprint for number in kept], parts):
        one, other = kept[match.first], kept[match.second]
        ends = _root(parent, one), _root(parent, other)
        if ends[0] == ends[1]:
            continue
        paths = recordings[one].path, recordings[other].path
        if match.bit_errors <= SURE_BIT_ERRORS or correlation(*paths, match.offset) >= MIN_CORRELATION:
            parent[max(ends)] = min(ends)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(len(parent)):
        groups[_root(parent, number)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        number = parent[number]
    return number


def matches(
    fingerprints: Sequence[Fingerprint], parts: Sequence[str] = (), bit_errors: float = MAX_BIT_ERRORS
) -> list[Match]:
    """Return all pairs of recordings that share enough frames with few bit errors.

    Args:
        fingerprints: of the recordings.
        parts: of each recording; pairs of one part are left out. Without them all pairs are compared.
        bit_errors: share of bits that may differ.
    """
    table = _Table(fingerprints, parts or [str(number) for number in range(len(fingerprints))])
    best: dict[tuple[int, int], Match] = {}
    for first, second, offset in table.candidates():
        rate = table.bit_errors(first, second, offset)
        known = best.get((first, second))
        if rate <= bit_errors and (known is None or rate < known.bit_errors):
            best[first, second] = Match(first, second, rate, offset)
    return [match for _, match in sorted(best.items())]


def correlation(first: Path, second: Path, offset: int) -> float:
    """Return the largest correlation of two waveforms in the band of telephones, of either polarity, 0 to 1.

    Args:
        first: a file.
        second: a file.
        offset: frame of the second one at the first frame of the first: only the sound that both have counts.

    Raises:
        EdgeemoError: a file cannot be read.
    """
    shift = offset * HOP * SAMPLE_RATE // RATE
    left, right = read_audio(first)[max(0, -shift) :], read_audio(second)[max(0, shift) :]
    count = min(len(left), len(right))
    size = 1 << (2 * count).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    band = (frequencies > _BAND_HZ[0]) & (frequencies < _BAND_HZ[1])
    spectra = [np.fft.rfft(each[:count], size) * band for each in (left, right)]
    energies = [float(np.square(np.fft.irfft(each, size)).sum()) for each in spectra]
    product = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
    return float(np.abs(product).max() / max(1e-20, float(np.sqrt(energies[0] * energies[1]))))


class _Table:
    """All frames of all recordings, one after the other."""

    def __init__(self, fingerprints: Sequence[Fingerprint], parts: Sequence[str]) -> None:
        empty = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))
        self.words = np.concatenate([each.words for each in (*fingerprints, empty)])
        self.active = np.concatenate([each.active for each in (*fingerprints, empty)])
        self.lengths = np.array([len(each.words) for each in fingerprints], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.part = np.unique(np.array(parts, dtype=str), return_inverse=True)[1]
        self.owner = np.repeat(np.arange(len(fingerprints)), self.lengths)
        self.enough = [max(MIN_FRAMES, MIN_SHARE * float(each.active.sum())) for each in fingerprints]

    def candidates(self) -> Iterator[tuple[int, int, int]]:
        """Yield two recordings and the frame of the second that lies at the first frame of the first."""
        first, second = self._similar_frames()
        different = self.part[self.owner[first]] != self.part[self.owner[second]]
        first, second = first[different], second[different]
        swapped = self.owner[first] > self.owner[second]
        first, second = np.where(swapped, second, first), np.where(swapped, first, second)
        near = np.concatenate(
            [
                self._near(first[start : start + _CHUNK], second[start : start + _CHUNK])
                for start in range(0, max(1, len(first)), _CHUNK)
            ]
        )
        first, second = first[near], second[near]
        one, other = self.owner[first], self.owner[second]
        offsets = (second - self.starts[other]) - (first - self.starts[one])
        found: Ints = np.unique(np.stack([one, other, offsets], axis=1), axis=0)
        yield from ((int(row[0]), int(row[1]), int(row[2])) for row in found)

    def _similar_frames(self) -> tuple[Ints, Ints]:
        """Return pairs of active frames whose bits differ in one place or in none."""
        active = np.flatnonzero(self.active)
        order = active[np.argsort(self.words[active], kind="stable")]
        words = self.words[order]
        firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for lag in range(1, _NEIGHBOURS):
            same = np.flatnonzero(words[lag:] == words[:-lag])
            firsts.append(order[same])
            seconds.append(order[same + lag])
        for bit in np.uint32(1) << np.arange(BITS, dtype=np.uint32):
            clear = np.flatnonzero(words & bit == 0)
            wanted = words[clear] | bit
            places = np.searchsorted(words, wanted)
            for _ in range(_NEIGHBOURS // 8):
                same = places < len(words)
                same[same] = words[places[same]] == wanted[same]
                clear, wanted, places = clear[same], wanted[same], places[same]
                firsts.append(order[clear])
                seconds.append(order[places])
                places = places + 1
        return np.concatenate(firsts), np.concatenate(seconds)

    def _near(self, first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        """Return which pairs of frames agree with their neighbours too: a quick look before the whole is compared."""
        if not len(first):
            return np.zeros(0, bool)
        left, right = first[:, None] + _AROUND, second[:, None] + _AROUND
        last = len(self.words) - 1
        counted = (left >= 0) & (right >= 0) & (left <= last) & (right <= last)
        left, right = left.clip(0, last), right.clip(0, last)
        counted &= (self.owner[left] == self.owner[first][:, None]) & (self.owner[right] == self.owner[second][:, None])
        counted &= self.active[left] & self.active[right]
        wrong = (_differing(self.words[left], self.words[right]) * counted).sum(axis=1)
        return np.asarray(wrong < _QUICK_BIT_ERRORS * BITS * counted.sum(axis=1))

    def bit_errors(self, first: int, second: int, offset: int) -> float:
        """Return the share of bits that differ at an offset; 1 where too few frames are in both."""
        start = max(0, -offset)
        end = min(int(self.lengths[first]), int(self.lengths[second]) - offset)
        left = slice(self.starts[first] + start, self.starts[first] + end)
        right = slice(self.starts[second] + start + offset, self.starts[second] + end + offset)
        # Of the shorter one: a quiet beginning of the longer one may be all that the shorter one holds.
        shorter, frames = (first, left) if self.lengths[first] <= self.lengths[second] else (second, right)
        active = self.active[frames]
        if active.sum() < self.enough[shorter]:
            return 1.0
        return float(_differing(self.words[left][active], self.words[right][active]).mean()) / BITS


def _differing(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return how many bits differ."""
    bits = left ^ right
    return np.asarray(_POPULATION[bits & 0xFFFF] + _POPULATION[bits >> 16])
