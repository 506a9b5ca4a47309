"""What the channels of a source carry: silence, hum, noise or speech, and which of them carry the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FRAMES_PER_HOP = 2
_WINDOW_SECONDS = 3.0
_BANDS = (200, 300, 400, 550, 750, 1000, 1350, 1800, 2400, 3200, 4000)
"""Edges of the bands in Hz: speech, above the mains and its strongest harmonics."""
_FLOOR = 1e-10
"""Mean square below which a band is empty (-100 dB of full scale)."""
_LEAKAGE = 1e-4
"""Share of the power below the bands that the window of a frame lets into them: hum alone does not vary."""
_RANGE_DB = 35.0
"""Deeper pauses count as this deep, so that digital silence between words does not outweigh all else."""
_DEAD_STEP = 2 / 32768
"""Largest change of samples in a dead channel: the dither of 16 bits."""
_DEAD_HOPS = 3
_MODULATED_DB = 3.0
"""Least deviation of band levels over time of speech; noise and hum have about 1 dB, clear speech 8 to 12. Music has it
too."""
_HUM_SHARE = 0.9
_QUIET_DB = 30.0
"""A channel this far below the loudest does not disturb a mean."""
_SAME_SPEECH = 0.5
"""Correlation of band levels over time from which two channels carry the same speech."""
_STEADY = 0.7
"""Factor on both limits for channels in use, so that a choice does not waver."""
_LOWEST_BIN = 2
"""The lower ones hold the offset."""
_LAG_SECONDS = 0.0015
_IN_COMMON = 0.6
"""Correlation from which the phase of two channels is compared."""
_CANCELLED = 0.2
"""Power of a mean, relative to that of independent channels, below which channels cancel."""
_CANCELLED_AT_ONCE = 0.08
"""The same for the last `_RECENT_HOPS` alone."""
_RECENT_HOPS = 2
_HIGH_HZ = 1000
_DULL, _STILL_DULL = 0.35, 0.5
"""Power of a mean above `_HIGH_HZ`, relative to that of its channels, below which delays take high frequencies away;
and where they did before. Four microphones 3.5 cm from each other, in a line with the speaker, leave 0.1 to 0.4."""

Content = Literal["silent", "hum", "noise", "speech", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What the last three seconds show.

    Attributes:
        content: of each channel; ``unknown`` where no channel has speech and the channel does not hum.
        modulation: mean deviation of the band levels over time ``[C]``, dB.
        level: 90th percentile of the level ``[C]``, dB of full scale.
        same: correlation of band levels over time ``[C, C]``.
    """

    content: tuple[Content, ...]
    modulation: Floats
    level: Floats
    same: Floats

    @property
    def speech(self) -> tuple[int, ...]:
        """Channels with speech."""
        return tuple(number for number, content in enumerate(self.content) if content == "speech")

    def quiet(self, number: int) -> bool:
        """Whether a channel is too quiet to disturb a mean with the loudest channel."""
        return bool(self.level[number] < self.level.max() - _QUIET_DB)

    def agree(self, one: int, other: int) -> bool:
        """Whether two channels carry the same speech."""
        return bool(self.same[one, other] >= _SAME_SPEECH)


class Evidence:
    """Spectra of the last three seconds of all channels, added in hops of 100 ms.

    Args:
        channels: number of channels.
        rate: samples per second.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self.hop = round(0.1 * rate)
        self._frame = self.hop // FRAMES_PER_HOP
        self._rate = rate
        count = round(_WINDOW_SECONDS * 10) * FRAMES_PER_HOP
        frequencies = np.fft.rfftfreq(self._frame, 1 / rate)
        top = min(_BANDS[-1], 0.45 * rate)
        self._bins = slice(int(np.searchsorted(frequencies, _BANDS[0])), int(np.searchsorted(frequencies, top)) + 1)
        inside = frequencies[self._bins]
        starts = np.searchsorted(inside, [edge for edge in _BANDS[:-1] if edge < inside[-1]])
        self._starts = np.unique(starts)
        window = np.hanning(self._frame + 2)[1:-1]
        self._window = window.astype(np.float32)
        self._scale = 2 / (self._frame * float(np.square(window).sum()))
        lags = np.linspace(-_LAG_SECONDS, _LAG_SECONDS, 49)
        self._lags = np.exp(2j * np.pi * np.outer(inside, lags)).astype(np.complex64)
        self._high = slice(int(np.searchsorted(inside, _HIGH_HZ)), len(inside))
        self._spectra = np.zeros((count, channels, len(inside)), np.complex64)
        self._levels = np.full((count, channels, len(self._starts)), 10 * np.log10(_FLOOR))
        self._powers = np.zeros((count // FRAMES_PER_HOP, channels, channels))
        self._still = np.zeros(channels, np.int64)
        self._hums = np.zeros(channels, bool)
        self._next = 0
        self._filled = 0

    def add(self, frames: npt.NDArray[np.float32]) -> None:
        """Add a hop of 100 ms ``[S, C]``."""
        by_channel = np.ascontiguousarray(frames.T)
        moving = np.ptp(by_channel, axis=1) > _DEAD_STEP
        self._still = np.where(moving, 0, self._still + 1)
        self._hums = self._mains_share(by_channel) > _HUM_SHARE
        cut = by_channel[:, : self._frame * FRAMES_PER_HOP].reshape(-1, FRAMES_PER_HOP, self._frame)
        whole = np.fft.rfft(cut * self._window, axis=2).swapaxes(0, 1)
        below, spectra = whole[:, :, _LOWEST_BIN : self._bins.start], whole[:, :, self._bins]
        hum = (np.square(below.real) + np.square(below.imag)).sum(axis=2, keepdims=True) * self._scale
        squares = np.square(spectra.real) + np.square(spectra.imag)
        power = np.add.reduceat(squares, self._starts, axis=2) * self._scale
        place = slice(self._next, self._next + FRAMES_PER_HOP)
        self._spectra[place] = spectra
        # Not as a product of matrices: the threads of a BLAS would wait for each other longer than the work takes.
        self._powers[self._next // FRAMES_PER_HOP] = np.einsum("tcb,tdb->cd", spectra, spectra.conj()).real
        self._levels[place] = 10 * np.log10(np.maximum(power, np.maximum(_LEAKAGE * hum, _FLOOR)))
        self._next = (self._next + FRAMES_PER_HOP) % len(self._levels)
        self._filled = min(self._filled + FRAMES_PER_HOP, len(self._levels))

    def _mains_share(self, by_channel: npt.NDArray[np.float32]) -> Floats:
        """Return how well each channel repeats with the period of the mains ``[C]``: 1 for hum alone."""
        centred = by_channel - by_channel.mean(axis=1, keepdims=True)
        found = np.zeros(len(centred))
        for frequency in (50, 60):
            # Two periods: a rate may not be a multiple of 60.
            lag = round(2 * self._rate / frequency)
            one, other = centred[:, :-lag], centred[:, lag:]
            norm = np.sqrt(np.einsum("cs,cs->c", one, one) * np.einsum("cs,cs->c", other, other))
            found = np.maximum(found, np.einsum("cs,cs->c", one, other) / np.maximum(norm, _FLOOR))
        return found

    def verdict(self, used: Sequence[int] = ()) -> Verdict:
        """Return what the channels carry; ``used`` ones need less, so that a choice does not waver."""
        levels = self._levels[: self._filled]
        total = 10 * np.log10(np.sum(10 ** (levels / 10), axis=2))
        loud = np.quantile(total, 0.9, axis=0) if len(total) else np.full(self._levels.shape[1], -100.0)
        limited = np.maximum(levels, levels.max(axis=0) - _RANGE_DB)
        centred = limited - limited.mean(axis=0)
        modulation = np.sqrt(np.square(centred).mean(axis=0)).mean(axis=1)
        flat = centred.swapaxes(0, 1).reshape(len(modulation), -1)
        norm = np.sqrt(np.square(flat).sum(axis=1)) + 1e-9
        same = np.einsum("ct,dt->cd", flat, flat) / np.outer(norm, norm)
        steady = np.ones(len(modulation))
        steady[list(used)] = _STEADY
        same = same / np.maximum(steady[:, None], steady[None, :])
        dead = self._still >= min(_DEAD_HOPS, self._filled // FRAMES_PER_HOP)
        alive = np.where(dead, 0.0, modulation)
        speech = alive >= _MODULATED_DB * steady
        # Weaker or noisier, and still the same.
        speech |= (same[:, speech] >= _SAME_SPEECH).any(axis=1) & (alive > 0) & ~self._hums
        content = tuple(
            "silent" if dead[c] else "speech" if speech[c] else self._other(c, bool(speech.any()))
            for c in range(len(modulation))
        )
        return Verdict(content, modulation, loud, same)

    def _other(self, number: int, speech: bool) -> Content:
        if self._hums[number]:
            return "hum"
        return "noise" if speech else "unknown"

    def signs(self, used: Sequence[int], reference: int, before: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return for each of some channels 1, or -1 if it is in opposite phase to a reference ``[len(used)]``.

        Where a channel has too little in common with the reference to tell, it keeps what it had ``before``.
        """
        spectra = self._spectra[: self._filled, list(used)]
        main = self._spectra[: self._filled, reference]
        # [channels, bins], then the correlation at each lag [channels, lags].
        cross = np.einsum("tcb,tb->cb", spectra, main.conj())
        correlation = np.einsum("cb,bl->cl", cross, self._lags).real
        powers = np.diagonal(self._powers.sum(axis=0))
        power = np.sqrt(powers[list(used)] * powers[reference])
        least = _IN_COMMON * np.maximum(power, 1e-20)
        positive, negative = correlation.max(axis=1), -correlation.min(axis=1)
        inverted = (negative > least) & (negative > 1.2 * positive)
        upright = (positive > least) & (positive > 1.2 * negative)
        return np.where(
            inverted, np.float32(-1), np.where(upright, np.float32(1), before * before[used.index(reference)])
        )

    def cancels(self, used: Sequence[int], signs: npt.NDArray[np.float32]) -> bool:
        """Return whether the mean of some channels, with their signs, is far weaker than the channels are."""
        return _cancels(self._powers, used, signs, _CANCELLED)

    def dulls(self, used: Sequence[int], reference: int, signs: npt.NDArray[np.float32], *, before: bool) -> bool:
        """Return whether delays between some channels take high frequencies from their mean.

        Only where most channels have the same as a reference, but for the delay: a mean weakens noise, as it should.
        Where they have too little in common to tell, as in a pause, it is as ``before``.
        """
        spectra = self._spectra[: self._filled, list(used), self._high]
        main = self._spectra[: self._filled, reference, self._high]
        cross = np.einsum("tcb,tb->cb", spectra, main.conj())
        correlation = np.abs(np.einsum("cb,bl->cl", cross, self._lags[self._high]).real).max(axis=1)
        powers = np.einsum("tcb,tcb->c", spectra, spectra.conj()).real
        least = _IN_COMMON * np.sqrt(powers * powers[used.index(reference)])
        if not powers.all() or (correlation > least).mean() <= 0.5:
            return before
        mean = np.einsum("tcb,c->tb", spectra, signs) / np.float32(len(used))
        left = float(np.square(np.abs(mean)).sum()) / float(powers.mean())
        return left < (_STILL_DULL if before else _DULL)

    def forget_phases(self, used: Sequence[int], signs: npt.NDArray[np.float32]) -> None:
        """Compare phases by the last two tenths of a second alone, if the mean of some channels cancels there.

        A recording may change its phase in its midst, which three seconds would show too late.
        """
        now = self._next // FRAMES_PER_HOP
        recent = [(now - 1 - back) % len(self._powers) for back in range(_RECENT_HOPS)]
        if not _cancels(self._powers[recent], used, signs, _CANCELLED_AT_ONCE):
            return
        old = np.setdiff1d(np.arange(len(self._powers)), recent)
        self._powers[old] = 0
        self._spectra.reshape(len(self._powers), FRAMES_PER_HOP, *self._spectra.shape[1:])[old] = 0


def _cancels(powers: Floats, used: Sequence[int], signs: npt.NDArray[np.float32], least: float) -> bool:
    powers = powers.sum(axis=0)[np.ix_(list(used), list(used))]
    mean = float(np.einsum("c,cd,d->", signs, powers, signs)) / len(used) ** 2
    return mean < least / len(used) * float(np.trace(powers)) / len(used)
