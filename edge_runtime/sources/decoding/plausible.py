"""Checks of formats and samples before anything is computed from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding.ledger import Frames, Ledger

_RATES = (1_000, 768_000)
_MAX_CHANNELS = 64

_LOOK_AHEAD_SECONDS = 2.0
"""Floating-point samples are held for this time, until it is clear whether they are integers."""
_LOUD = 2.0
_LOUD_SHARE = 0.02
_ABSURD = 8.0
"""Float audio may exceed full scale where it was amplified; half of its loud samples never by 18 dB."""
_FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)
_MARGIN = 1.01


def check_format(name: str, rate: int, channels: int) -> None:
    """Check a format before buffers are allocated for it.

    Raises:
        EdgeemoError: an implausible sample rate or channel count.
    """
    if not (_RATES[0] <= rate <= _RATES[1] and 1 <= channels <= _MAX_CHANNELS):
        raise EdgeemoError(
            f"{name}: has {channels} channels at {rate} Hz; {_RATES[0]} to {_RATES[1]} Hz and up to {_MAX_CHANNELS} "
            "channels are supported"
        )


def sane(frames: Iterator[Frames], ledger: Ledger) -> Iterator[Frames]:
    """Yield the frames of one file with floating-point samples that are audio.

    Samples that are not numbers are replaced by silence. Integers in floating-point samples, as of a signal that was
    multiplied by 32768 and not converted, are scaled by the least of 2^15, 2^23 and 2^31 that holds them. Each is
    reported once by `Ledger.notices`. A file's first two seconds are held until this is decided.
    """
    held: list[Frames] = []
    seconds, scale = 0.0, 1.0
    for each in frames:
        if not each.from_float:
            yield each
            continue
        before = ledger.replaced
        finite = _finite(each.samples, ledger)
        each = each._replace(samples=finite, replaced=ledger.replaced > before)
        if seconds < _LOOK_AHEAD_SECONDS:
            held.append(each)
            seconds += len(each.samples) / each.rate
            if seconds < _LOOK_AHEAD_SECONDS:
                continue
        else:
            held = [each]
        scale = _scale(held, scale, ledger)
        yield from (_scaled(one, scale) for one in held)
        held = []
    scale = _scale(held, scale, ledger)
    yield from (_scaled(one, scale) for one in held)


def _finite(samples: npt.NDArray[np.float32], ledger: Ledger) -> npt.NDArray[np.float32]:
    # Also what no number of bits holds.
    good = np.abs(samples) <= _FULL_SCALES[-1] * _MARGIN
    if good.all():
        return samples
    ledger.replace_samples(int((~good).sum()))
    return np.where(good, samples, np.float32(0)).astype(np.float32)


def _scale(held: list[Frames], scale: float, ledger: Ledger) -> float:
    """Return the factor for some frames: that of the frames before, or a smaller one."""
    if not held:
        return scale
    size = np.abs(np.concatenate([each.samples.reshape(-1) for each in held]))
    loud = size[size > _LOUD]
    if len(loud) < max(1, _LOUD_SHARE * len(size)):
        return scale
    if np.median(loud) <= _ABSURD and (loud != np.rint(loud)).any():
        return scale
    largest = float(loud.max())
    full = next(each for each in _FULL_SCALES if largest <= each * _MARGIN)
    if full * scale <= 1.0:
        return scale
    ledger.notices.append(
        f"the floating-point samples are integers of up to {largest:.0f}; they are divided by {full:.0f}"
    )
    return 1.0 / full


def _scaled(frames: Frames, scale: float) -> Frames:
    return frames if scale == 1.0 else frames._replace(samples=frames.samples * np.float32(scale))
