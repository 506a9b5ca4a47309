"""The parts of an encoder that can be pruned: attention heads, feed-forward units, channels of convolutions.

A group of units is written by some layers (rows of their weights) and read by one (columns of its weight). Taking units
out of a group changes these layers only, so that a pruned encoder is described by a number a group: `Sizes`, which
stands in the encoder's settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor, nn

Kind = Literal["heads", "feed_forward", "channels"]
SIZES = "sizes"
"""Key of the settings of a pruned encoder."""
CHUNK = 32
"""Feed-forward units and channels go by so many: matrix units of CPUs and GPUs are filled by multiples of 32."""


class Sizes(BaseModel, extra="forbid", frozen=True):
    """Widths of an encoder.

    Attributes:
        heads: attention heads of each block.
        feed_forward: hidden units of each block's feed-forward part.
        channels: outputs of each convolution whose width is free; the last one's is not.
    """

    heads: tuple[int, ...]
    feed_forward: tuple[int, ...]
    channels: tuple[int, ...] = ()

    def of(self, kind: Kind, index: int) -> int:
        """Return the size of one group."""
        return int(getattr(self, kind)[index])

    def replaced(self, kind: Kind, index: int, size: int) -> Sizes:
        """Return these sizes with another one for one group."""
        values = list(getattr(self, kind))
        values[index] = size
        return self.model_copy(update={kind: tuple(values)})


@dataclass(frozen=True)
class Units:
    """Units that are alike: the heads of one attention, the hidden units of one feed-forward part, and so on.

    Attributes:
        kind: what they are.
        index: number of the block or convolution.
        count: how many there are.
        width: neighbouring outputs of a writer that make up one unit: 1, or the size of a head.
        writers: layers whose outputs they are.
        reader: the layer whose inputs they are.
        residual: the layer whose input is what the reader's output is added to; None where nothing is.
        norm: a norm of one channel a group between writer and reader.
        owner: module that keeps the number of heads as ``num_heads``.
    """

    kind: Kind
    index: int
    count: int
    width: int
    writers: tuple[nn.Module, ...]
    reader: nn.Module
    residual: nn.Module | None = None
    norm: nn.GroupNorm | None = None
    owner: nn.Module | None = None

    @property
    def name(self) -> str:
        """How plans name the group."""
        part = {"heads": "blocks.{}.attention", "feed_forward": "blocks.{}.feed_forward", "channels": "convolution.{}"}
        return part[self.kind].format(self.index)

    @property
    def chunk(self) -> int:
        """How many units are taken out at once, and the fewest that stay."""
        return 1 if self.kind == "heads" else CHUNK

    def places(self, kept: Sequence[int]) -> Tensor:
        """Return the outputs of a writer, ``[len(kept) * width]``, that make up some units."""
        starts = torch.as_tensor(list(kept), dtype=torch.long) * self.width
        return (starts.unsqueeze(1) + torch.arange(self.width)).flatten()


@dataclass(frozen=True)
class Block:
    """The layers of a transformer block by what they do.

    Attributes:
        attention: has ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj`` and ``num_heads``.
        attention_norm: the norm beside the attention.
        up: first layer of the feed-forward part.
        down: its last layer.
        feed_forward_norm: the norm beside the feed-forward part.
        norm_first: norms come before attention and feed-forward part, not after their sum with what goes past them.
    """

    attention: Any
    attention_norm: nn.Module
    up: nn.Linear
    down: nn.Linear
    feed_forward_norm: nn.Module
    norm_first: bool

    def heads(self, index: int) -> Units:
        """Return the attention heads of this block, the ``index``-th."""
        attention = self.attention
        return Units(
            kind="heads",
            index=index,
            count=int(attention.num_heads),
            width=int(attention.head_dim),
            writers=(attention.q_proj, attention.k_proj, attention.v_proj),
            reader=attention.out_proj,
            residual=self.attention_norm if self.norm_first else attention.q_proj,
            owner=attention,
        )

    def hidden(self, index: int) -> Units:
        """Return the feed-forward units of this block, the ``index``-th."""
        return Units(
            kind="feed_forward",
            index=index,
            count=int(self.up.out_features),
            width=1,
            writers=(self.up,),
            reader=self.down,
            residual=self.feed_forward_norm if self.norm_first else self.up,
        )


def keep(units: Units, kept: Sequence[int]) -> None:
    """Take all units but ``kept`` out of the layers that write and read them, in place."""
    places = units.places(kept)
    for writer in units.writers:
        _select(writer, "weight", 0, places)
        if getattr(writer, "bias", None) is not None:
            _select(writer, "bias", 0, places)
        _set_size(writer, "out", len(places))
    _select(units.reader, "weight", 1, places)
    _set_size(units.reader, "in", len(places))
    if units.norm is not None:
        _select(units.norm, "weight", 0, places)
        _select(units.norm, "bias", 0, places)
        units.norm.num_channels = units.norm.num_groups = len(places)
    if units.owner is not None:
        units.owner.num_heads = len(kept)  # type: ignore[assignment]


def _select(module: nn.Module, name: str, dimension: int, places: Tensor) -> None:
    old: Any = getattr(module, name)
    # Without storage (as Transformers builds models to load) there is nothing to choose from.
    values = old.detach().index_select(dimension, places.to(old.device)).clone()
    setattr(module, name, nn.Parameter(values, requires_grad=old.requires_grad))


def _set_size(module: nn.Module, end: str, size: int) -> None:
    name = f"{end}_features" if isinstance(module, nn.Linear) else f"{end}_channels"
    setattr(module, name, size)
