"""Which windows of a signal are scored: one policy for training, evaluation and the device.

Windows are never padded with zeros: a shorter signal is scored as it is.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE

SHORTEST = SAMPLE_RATE // 4
"""Samples of the shortest stretch that is scored: a quarter of a second."""


class WindowPolicy(BaseModel):
    """Lengths in seconds.

    Attributes:
        seconds: the window, the longest input of the model.
        hop_seconds: time from one window to the next.
        minimum_seconds: less speech than this is scored, but the result is marked uncertain.
        segment_seconds: the longest segment that one final event covers; kept in memory.
        chunk_seconds: the encoder processes a window in chunks of this length, each once for all windows that begin
            with the same sample; a window then begins with its segment, and is as long as the longest segment. None for
            windows that are encoded as a whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=3.0, ge=0.5, le=30.0)
    hop_seconds: float = Field(default=1.0, ge=0.1)
    minimum_seconds: float = Field(default=1.0, ge=0.1)
    segment_seconds: float = Field(default=10.0, ge=1.0, le=120.0)
    chunk_seconds: float | None = Field(default=None, ge=0.2, le=5.0)

    @model_validator(mode="after")
    def _in_order(self) -> WindowPolicy:
        if not self.hop_seconds <= self.seconds <= self.segment_seconds:
            raise ValueError("must satisfy hop_seconds <= seconds <= segment_seconds")
        if self.minimum_seconds > self.seconds:
            raise ValueError("must satisfy minimum_seconds <= seconds")
        if self.chunk_seconds is not None and self.seconds != self.segment_seconds:
            raise ValueError("must satisfy seconds = segment_seconds with chunk_seconds: chunks add up to a segment")
        return self

    @property
    def samples(self) -> int:
        """The window in samples."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def chunk(self) -> int:
        """The chunk in samples; 0 for windows that are encoded as a whole."""
        return round((self.chunk_seconds or 0.0) * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """The hop in samples."""
        return round(self.hop_seconds * SAMPLE_RATE)

    @property
    def minimum(self) -> int:
        """The minimum in samples."""
        return round(self.minimum_seconds * SAMPLE_RATE)

    @property
    def segment(self) -> int:
        """The longest segment in samples."""
        return round(self.segment_seconds * SAMPLE_RATE)


def with_hop(policy: WindowPolicy, hop_seconds: float | None) -> WindowPolicy:
    """Return the policy with another hop; itself if there is none.

    Raises:
        WrongUseError: the hop is longer than the window.
    """
    if hop_seconds is None:
        return policy
    if hop_seconds > policy.seconds:
        raise WrongUseError(f"a hop of {hop_seconds:g} s is longer than the bundle's window of {policy.seconds:g} s")
    return policy.model_copy(update={"hop_seconds": hop_seconds})


def clip_windows(samples: int, policy: WindowPolicy) -> list[tuple[int, int]]:
    """Return the windows ``(start, end)`` in samples whose mean result is that of the whole clip.

    A clip up to one window long is one window; a longer one is covered hop by hop, the last window ending with it. In
    chunks, it is covered window by window, as a device divides it into segments; a rest under the minimum is left out.

    >>> clip_windows(16_000, WindowPolicy())
    [(0, 16000)]
    >>> clip_windows(70_000, WindowPolicy())
    [(0, 48000), (16000, 64000), (22000, 70000)]
    >>> clip_windows(70_000, WindowPolicy(seconds=3, segment_seconds=3, chunk_seconds=1))
    [(0, 48000), (48000, 70000)]
    """
    width = policy.samples
    if samples <= width:
        return [(0, samples)]
    if policy.chunk:
        spans = [(start, min(start + width, samples)) for start in range(0, samples, width)]
        return spans if samples - spans[-1][0] >= policy.minimum else spans[:-1]
    starts = list(range(0, samples - width + 1, policy.hop))
    if starts[-1] != samples - width:
        starts.append(samples - width)
    return [(start, start + width) for start in starts]
