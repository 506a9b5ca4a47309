"""What a decoder gives, and the account of what it should have given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import EdgeemoError

TOLERATED_SECONDS = 1.0
"""A larger difference between the decoded and the expected duration is an error."""

_DELAY_SECONDS = 0.3
_EXACT_SECONDS = 0.02


class Frames(NamedTuple):
    """Consecutive samples of one format.

    Attributes:
        samples: ``[S, C]``, float32; full scale is 1.
        rate: samples per second.
        from_float: whether the encoding is floating point, which may hold NaN, infinity and integers.
        replaced: whether samples that were not numbers were replaced by silence.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    from_float: bool = False
    replaced: bool = False


@dataclass
class Ledger:
    """The account of one stream.

    Attributes:
        decoded: seconds of audio that were decoded.
        missing: seconds that headers promised, or undecodable bytes stand for, and that were not decoded.
        problems: what went wrong, each as a part of a sentence.
        replaced: samples that were not numbers.
        notices: sentences that have not been reported yet, without the name of the source.
    """

    decoded: float = 0.0
    missing: float = 0.0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    replaced: int = 0

    def replace_samples(self, count: int) -> None:
        """Count samples that are not numbers; the first ones are a notice."""
        if not self.replaced:
            self.notices.append("some samples are not numbers (NaN or infinity); they are replaced by silence")
        self.replaced += count

    def lost(self, seconds: float, problem: str) -> None:
        """Add audio that could not be decoded; up to `TOLERATED_SECONDS` in all are tolerated."""
        self.missing += max(0.0, seconds)
        if problem not in self.problems:
            self.problems.append(problem)

    def failed(self, problem: str) -> None:
        """Add a failure whose extent is unknown, which is always an error."""
        self.lost(float("inf"), problem)

    def promised(self, seconds: float, decoded: float, what: str, *, exact: bool = False) -> None:
        """Compare the duration that a header gives with the decoded one.

        Up to `TOLERATED_SECONDS` less is a notice, if it is more than the delay of a codec; ``exact`` ones have none.
        """
        missing = seconds - decoded
        problem = f"{what} gives {seconds:.1f} s, and {decoded:.1f} s are there"
        if missing > TOLERATED_SECONDS:
            self.lost(missing, problem)
        elif missing > (_EXACT_SECONDS if exact else _DELAY_SECONDS):
            self.missing += missing
            self.notices.append(f"{what} gives {missing:.2f} s more than are there")

    def check(self, name: str) -> None:
        """Check at the end of the stream that no more than `TOLERATED_SECONDS` of audio are missing.

        Raises:
            EdgeemoError: audio is missing.
        """
        if self.missing <= TOLERATED_SECONDS:
            return
        shown = "; ".join(self.problems[:3])
        more = f"; and {len(self.problems) - 3} more" if len(self.problems) > 3 else ""
        raise EdgeemoError(
            f"{name}: is damaged and cannot be read to its end, {self.decoded:.1f} s of audio were used "
            f"({shown}{more}); get the recording again"
        )
