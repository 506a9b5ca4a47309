"""The interface of speech encoders of every family."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from typing_extensions import Self

from distill.encoders.chunks import Past
from distill.encoders.time_reduction import count_after, halved
from distill.encoders.units import SIZES, Block, Sizes, Units, keep
from edge_runtime.engines.chunks import LEAD, REST
from edge_runtime.errors import WrongUseError

Frozen = int | Literal["none", "all"]


class SpeechEncoder(nn.Module):
    """A speech encoder of waveforms: its level normalisation and features are part of it.

    A padded batch gives the same result as each waveform alone, in training and in evaluation.

    Attributes:
        family: Hugging Face's ``model_type``.
        source: the Hugging Face model that its weights come from.
        depth_key: name of the number of blocks in the settings.
        config: the encoder's own Hugging Face configuration.
        level_db: root mean square, in dB of full scale, that waveforms are scaled to.
        frame_samples: samples that a frame is computed from directly.
        hop_samples: samples from one frame to the next.
        minimum_samples: the shortest waveform that gives a few frames to take a mean and deviation of.
        hidden_size: H, the width of the hidden states.
        heads: attention heads of a block before pruning.
        feed_forward: hidden units of a block's feed-forward part before pruning.
        mel_bins: mel filters; 0 for a family that takes the waveform itself.
        settings: what `make` needs to rebuild it, and `Sizes` under ``sizes`` if it was pruned.
        time_reduction: the layers after which neighbouring frames are averaged (`distill.encoders.time_reduction`).
        chunk_samples: samples of a chunk (`distill.encoders.chunks`); 0 if waveforms are encoded as a whole.
        free_heads: heads can be taken out.
        gate_outputs: outputs for each frame and head of a gate on the attention, for counting.
    """

    family: ClassVar[str]
    source: ClassVar[type[PreTrainedModel]]
    depth_key: ClassVar[str]
    config: Any
    level_db: float
    frame_samples: int
    hop_samples: int
    minimum_samples: int
    hidden_size: int
    heads: int
    feed_forward: int
    mel_bins: int
    settings: dict[str, Any]
    time_reduction: tuple[int, ...] = ()
    chunk_samples: int = 0
    free_heads: ClassVar[bool] = True
    gate_outputs: ClassVar[int] = 0
    _resting: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
        """Encode waveforms.

        Args:
            pcm: ``[B, S]`` float32 at 16 kHz in -1..1, zero beyond ``lengths``.
            lengths: ``[B]`` samples of each waveform; all ``S`` if not given.

        Returns:
            Hidden states ``[B, T, H]``: the input of the first block, then the output of each, before the final norm;
            fewer frames after `time_reduction`. And which of the first ones lie inside the waveforms, ``[B, T]``, if
            ``lengths`` are given.
        """

    @classmethod
    @abstractmethod
    def make(cls, settings: dict[str, Any], attention: str) -> Self:
        """Return an encoder with random weights.

        Args:
            settings: what differs from the defaults of Hugging Face's configuration.
            attention: ``eager`` or ``sdpa``.
        """

    @classmethod
    @abstractmethod
    def settings_of(cls, config: PretrainedConfig, name: str) -> dict[str, Any]:
        """Return the settings of a pretrained encoder: all that `make` needs to rebuild it.

        Args:
            config: its configuration.
            name: its Hugging Face name or path, where its other files are.
        """

    @classmethod
    @abstractmethod
    def weights_of(cls, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights of a `source` model by the names that they have here."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""

    @property
    @abstractmethod
    def stem(self) -> tuple[nn.Module, ...]:
        """What comes before the first block."""

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module | None:
        """The norm after the last block, if the family has one."""

    @abstractmethod
    def drop_final_norm(self) -> None:
        """Remove the final norm, where no pooled layer uses it."""

    def shorten(self, samples: int) -> None:
        """Drop what only waveforms of more than ``samples`` samples need."""

    def thin(self, share: int) -> None:
        """Let the blocks see every ``share``-th frame only.

        Raises:
            WrongUseError: frames of this family cannot be left out.
        """
        if share != 1:
            raise WrongUseError(f"student.pruning.every: frames of a {self.family} encoder cannot be left out")

    def reduce_time(self, layers: Sequence[int]) -> None:
        """Average neighbouring frames in pairs after each of these layers (`distill.encoders.time_reduction`).

        Raises:
            WrongUseError: the family cannot, a layer is not there, or waveforms are encoded in chunks.
        """
        if layers:
            raise WrongUseError(f"student.time_reduction: frames of a {self.family} encoder cannot be averaged")

    def halvings(self, layer: int) -> int:
        """Return how often the number of frames is halved before a layer; `LAST` of pooling, -1, is the last one."""
        return sum(place < (self.depth if layer < 0 else layer) for place in self.time_reduction)

    def in_chunks(self, samples: int) -> None:
        """Encode waveforms in chunks of so many samples (`distill.encoders.chunks`); with 0, as a whole.

        Raises:
            WrongUseError: waveforms of this family cannot be encoded in chunks, or not in chunks of this length.
        """
        if not samples:
            return
        raise WrongUseError(f"window.chunk_seconds: a {self.family} encoder does not encode in chunks")

    def next_chunk(self, pcm: Tensor, past: Past) -> tuple[list[Tensor], Past]:
        """Encode the next chunk of one waveform.

        Args:
            pcm: ``[1, LEAD + S]``, with the samples before the chunk, or zeros; a rest is shorter than a chunk.
            past: of the chunks before it.

        Returns:
            Hidden states ``[1, T, H]``, as `forward`, and the past with what they depended on.

        Raises:
            TypeError: waveforms of this family are not encoded in chunks.
        """
        # Called as a module, by which exporters name nodes.
        found: tuple[list[Tensor], Past] = self(pcm, past=past)
        return found

    @property
    def depth(self) -> int:
        """How many blocks it has."""
        return len(self.blocks)

    @abstractmethod
    def block(self, index: int) -> Block:
        """Return the layers of a block by what they do."""

    @abstractmethod
    def channels(self) -> list[Units]:
        """Return the channels of each convolution whose width is free."""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return T, the frames that the blocks see of a waveform of so many samples."""

    @abstractmethod
    def stem_macs(self, samples: int, channels: Sequence[int]) -> dict[str, int]:
        """Return the multiply-accumulates of what comes before the first block, by part.

        Args:
            samples: of the waveform.
            channels: widths of the convolutions, as in `Sizes`.
        """

    def through(self, index: int, hidden: Tensor) -> Tensor:
        """Pass the hidden states ``[B, T, H]`` of whole waveforms, without padding, through one block."""
        for _ in range(self.halvings(index + 1) - self.halvings(index)):
            hidden = halved(hidden)
        passed: Tensor = self.blocks[index](hidden, attention_mask=None)
        return passed

    def units(self) -> list[Units]:
        """Return all groups of units that can be made smaller, in the order in which a waveform meets them."""
        groups = self.channels()
        for index in range(self.depth):
            block = self.block(index)
            groups += [block.heads(index)] if self.free_heads else []
            groups.append(block.hidden(index))
        return groups

    @property
    def sizes(self) -> Sizes:
        """The widths that it has."""
        blocks = [self.block(index) for index in range(self.depth)]
        return Sizes(
            heads=tuple(int(block.attention.num_heads) for block in blocks),
            feed_forward=tuple(block.up.out_features for block in blocks),
            channels=tuple(group.count for group in self.channels()),
        )

    def resize(self, sizes: Sizes) -> None:
        """Prune it, keeping the first units of every group: shapes for weights that are loaded next.

        Raises:
            ValueError: a size is larger than what is there, or there are more or fewer groups.
        """
        before = self.sizes
        for kind in ("heads", "feed_forward", "channels"):
            old, new = getattr(before, kind), getattr(sizes, kind)
            if len(old) != len(new) or any(not 0 < now <= was for was, now in zip(old, new, strict=True)):
                raise ValueError(f"{kind}: {list(new)} do not fit into {list(old)}")
        self.keep({group.name: range(sizes.of(group.kind, group.index)) for group in self.units()})

    def keep(self, units: Mapping[str, Sequence[int]]) -> None:
        """Keep only these units of each group, by the group's name; sizes go into the settings."""
        for group in self.units():
            if len(units[group.name]) < group.count:
                keep(group, units[group.name])
        self.settings = self.settings | {SIZES: self.sizes.model_dump(mode="json")}

    def macs(self, samples: int, sizes: Sizes | None = None) -> dict[str, int]:
        """Return the multiply-accumulates for one waveform by part: matrix products and convolutions, nothing else.

        Args:
            samples: of the waveform.
            sizes: widths to count with; its own if not given.
        """
        sizes = sizes or self.sizes
        if not self.chunk_samples:
            return self._macs(samples, sizes)
        total: Counter[str] = Counter()
        for start in range(0, samples, self.chunk_samples):
            new = min(self.chunk_samples, samples - start)
            if new >= REST or not start:
                total.update(self._macs(LEAD + new, sizes))
        return dict(total)

    def _macs(self, samples: int, sizes: Sizes) -> dict[str, int]:
        """Return the multiply-accumulates of what is encoded as a whole."""
        frames, hidden = self.frames(samples), self.hidden_size
        head = hidden // self.heads
        parts = self.stem_macs(samples, sizes.channels)
        whole = frames
        for index, (heads, units) in enumerate(zip(sizes.heads, sizes.feed_forward, strict=True)):
            width, frames = heads * head, count_after(whole, self.halvings(index + 1))
            # Four projections, two products of activations, and what gates them.
            each_frame = 4 * hidden * width + 2 * frames * width + self.gate_outputs * width
            parts[f"blocks.{index}.attention"] = frames * each_frame
            parts[f"blocks.{index}.feed_forward"] = frames * 2 * hidden * units
        return parts

    def normed(self, hidden: Tensor) -> Tensor:
        """Pass the last hidden state through the final norm; in a family without one it stays as it is."""
        return hidden if self.final_norm is None else self.final_norm(hidden)

    def freeze(self, frozen: Frozen) -> None:
        """Exclude parts from training; they also stay in evaluation mode when the rest trains.

        Args:
            frozen: ``none``; ``all``; or a number of first blocks, with everything before them: 0 is the features only.
        """
        if frozen == "none":
            return
        self._resting = (self,) if frozen == "all" else (*self.stem, *self.blocks[:frozen])
        for module in self._resting:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all that is not frozen."""
        super().train(mode)
        for part in self._resting:
            for module in part.modules():
                module.training = False
        return self
