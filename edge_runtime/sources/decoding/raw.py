"""Raw PCM without a header: when it was asked for, or when nothing contradicts it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.sources.decoding.samples import Encoding

RawFormat = Literal["s8", "u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "mulaw", "alaw"]
"""Encodings of raw samples, with ffmpeg's names (``mulaw`` and ``alaw`` too)."""

RAW_ENCODINGS: dict[str, Encoding] = {
    "s8": Encoding("s", 1),
    "u8": Encoding("u", 1),
    "s16le": Encoding("s", 2),
    "s16be": Encoding("s", 2, True),
    "s24le": Encoding("s", 3),
    "s24be": Encoding("s", 3, True),
    "s32le": Encoding("s", 4),
    "s32be": Encoding("s", 4, True),
    "f32le": Encoding("f", 4),
    "f32be": Encoding("f", 4, True),
    "mulaw": Encoding("mulaw", 1),
    "alaw": Encoding("alaw", 1),
}

SEEN = 16_000
"""Bytes that are looked at before a stream without a header is taken for raw PCM: half a second."""

_WINDOW = 512
_RANDOM_LEVEL = (0.45, 0.70)
"""Root mean square of random bytes taken as samples: 0.577 of full scale."""
_RANDOM_CORRELATION = 0.3
_SMOOTHER = 3.0
_DISTINCT = 16
_ROUGH = 1.0
"""Energy of the differences of neighbours in relation to that of the samples: 2 for white noise, below 1 for speech."""
_ALIKE = 0.85
"""Correlation of the bytes of 16 bits where each of them is a sample."""
_LOUDEST = 4.0
_ONE_SIDED = 0.25
"""Mean of samples that are all positive, or all negative, in relation to full scale."""


class RawPcm(NamedTuple):
    """How to read bytes without a header: rate in Hz, encoding, channels."""

    rate: int = 16_000
    format: RawFormat = "s16le"
    channels: int = 1


def contradiction(head: bytes) -> str:
    """Return why bytes cannot be 16-bit little-endian PCM, as the end of "it …"; empty where they may be.

    Compressed and encrypted bytes are random: as samples they fill the range evenly and do not depend on their
    neighbours. Samples of another width or order are smooth in that width or order, and not in this one.
    """
    head = head[: len(head) // 12 * 12]
    samples = np.frombuffer(head, "<i2").astype(np.float64) / 32768
    if len(samples) < _WINDOW:
        return ""
    rough = _roughness(samples)
    random = _random_share(samples) >= 0.5
    low, high = samples[0::2], samples[1::2]
    candidates: list[str] = []
    if _random_share(low) >= 0.5 or not low.any():
        candidates += ["s32le", "f32le"]
    if _random_share(high) >= 0.5:
        candidates += ["s32be", "f32be"]
    if rough > _ROUGH:
        candidates += ["s24le", "s24be"]
        # Of quiet samples, the second byte is that of the sign.
        candidates += ["u8", "mulaw", "alaw"] if len(set(head[1::2])) > _DISTINCT else []
    swapped = _roughness(_as("s16be", head))
    smoothest, found = min(((_roughness(_as(form, head)), form) for form in candidates), default=(rough, ""))
    if _SMOOTHER * swapped < rough and swapped < _SMOOTHER * smoothest:
        return "looks like s16be samples"
    if _SMOOTHER * smoothest < rough:
        return f"looks like {found} samples"
    first, second = _as("u8", head[0::2]), _as("u8", head[1::2])
    if len(set(head[1::2])) > _DISTINCT and _correlation(first, second) > _ALIKE:
        return f"looks like {min((_roughness(_as(form, head)), form) for form in ('s8', 'u8'))[1]} samples"
    if _one_sided(samples):
        return "does not swing about zero as sound does"
    return "looks like compressed or encrypted data" if random else ""


def _one_sided(samples: npt.NDArray[np.float64]) -> bool:
    """Whether all samples are far on one side of zero, as letters are: no microphone has such an offset."""
    return abs(float(samples.mean())) > _ONE_SIDED and bool((samples > 0).all() or (samples < 0).all())


def _as(form: str, data: bytes) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return RAW_ENCODINGS[form].decode(data, 1)[:, 0].astype(np.float64)


def looks_random(samples: npt.NDArray[np.float32]) -> bool:
    """Whether samples ``[S]`` of integers are compressed or encrypted data rather than audio."""
    return _random_share(samples.astype(np.float64)) >= 0.5


def _random_share(samples: npt.NDArray[np.float64]) -> float:
    """Return the share of windows whose samples look random, of those that are not silent."""
    windows = samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    windows = windows[np.ptp(windows, axis=1) > 0]
    if not len(windows):
        return 0.0
    level = np.sqrt(np.mean(windows**2, axis=1))
    random = [
        _RANDOM_LEVEL[0] < each < _RANDOM_LEVEL[1] and abs(_correlation(window[1:], window[:-1])) < _RANDOM_CORRELATION
        for each, window in zip(level, windows, strict=True)
    ]
    return float(np.mean(random))


def _roughness(samples: npt.NDArray[np.float64]) -> float:
    """Return the energy of the differences of neighbours in relation to that of the samples; 4 for what is no audio."""
    if not (np.abs(samples) < _LOUDEST).all():
        return 4.0
    centred = samples - samples.mean()
    energy = float(np.mean(centred**2))
    return float(np.mean(np.diff(centred) ** 2)) / energy if energy > 1e-12 else 4.0


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(np.sum(one * other)) / scale if scale else 0.0
