"""From the channels of a source to one: those that carry speech, or those that the settings name.

The choice depends only on the samples since the start, not on the sizes of the blocks: a file at once and the same file
in blocks give the same samples.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.sources.automatic_channels import HELD_HOPS, AutomaticChoice
from edge_runtime.sources.channel_choice import Choice, Frames, Hops, called, finite_frames
from edge_runtime.sources.channel_evidence import Evidence
from edge_runtime.sources.channel_setting import Channels, check_channels

_AUDIBLE_DB = -70.0


class ChannelSelector:
    """Turns blocks ``[S, C]`` into mono ``[S]``, with state from block to block.

    Args:
        choice: which channels.
        channels: number of channels of the source.
        rate: samples per second.
        name: of the source, for messages.
        look_ahead: whether the first second is held back; else the first 100 ms are, as for a microphone, which rarely
            begins with speech.

    Raises:
        WrongUseError: the choice names a channel that the source does not have.
    """

    def __init__(
        self, choice: Channels, channels: int, rate: int, name: str = "the audio", *, look_ahead: bool = True
    ) -> None:
        check_channels(name, choice, channels)
        used = choice if isinstance(choice, tuple) else tuple(range(channels))
        self._choice = Choice(used, (1,) * len(used))
        self._channels = channels
        held = HELD_HOPS if look_ahead else 1
        self._automatic = AutomaticChoice(channels, rate, held) if choice == "auto" and channels > 1 else None
        # A mean that is asked for is examined: it may cancel.
        self._check = _MeanCheck(self._choice, channels, rate) if not self._automatic and len(used) > 1 else None
        how = "are averaged" if len(used) > 1 else "is used"
        self._report = f"{called(used)} of {channels} {how}, as set" if channels > 1 and not self._automatic else None

    @property
    def used(self) -> tuple[int, ...]:
        """Channels in use."""
        return (self._automatic.choice if self._automatic else self._choice).used

    def select(self, frames: Frames, *, last: bool = False) -> Frames:
        """Return the samples ``[S]`` that can be given by now; ``last`` gives all that were held back.

        Args:
            frames: ``[S, C]``, of any length.
            last: whether a gap or the end follows; the choice is kept over a gap.
        """
        if self._automatic:
            return self._automatic.select(frames, last=last)
        if self._check:
            self._check.add(frames)
        return frames[:, 0] if self._channels == 1 else self._choice.mean(frames)

    def report(self) -> str | None:
        """Return a sentence on the choice where it is new, once; None for a source with one channel."""
        if self._automatic:
            report, self._automatic.report = self._automatic.report, None
            return report
        report, self._report = self._report, None
        return report or (self._check.report() if self._check else None)


class _MeanCheck:
    """Finds out whether the mean of the channels that the settings name is far weaker than they are."""

    def __init__(self, choice: Choice, channels: int, rate: int) -> None:
        self._choice = choice
        self._evidence = Evidence(channels, rate)
        self._hops = Hops(channels, self._evidence.hop)
        self._found = self._reported = False

    def add(self, frames: Frames) -> None:
        if self._found:
            return
        used, signs = list(self._choice.used), np.array(self._choice.signs, np.float32)
        for hop in self._hops.add(frames):
            self._evidence.add(finite_frames(hop))
            loud = self._evidence.verdict().level[used].max() > _AUDIBLE_DB
            self._found = self._found or (loud and self._evidence.cancels(used, signs))

    def report(self) -> str | None:
        if not self._found or self._reported:
            return None
        self._reported = True
        return (
            f"the mean of {called(self._choice.used)}, which was set, cancels most of their sound: they may be in "
            "opposite phase; set channels to auto or to one of them"
        )
