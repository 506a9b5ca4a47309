"""What student and acoustic teacher know of a speech encoder, whatever its family."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from typing_extensions import Self

Frozen = int | Literal["none", "all"]


class SpeechEncoder(nn.Module):
    """A speech encoder that hears waveforms: its level normalisation and features are part of it.

    A padded batch gives the same result as each waveform alone, in training and in evaluation.

    Attributes:
        family: Hugging Face's ``model_type``.
        source: the Hugging Face model that its weights come from.
        depth_key: name of the number of blocks in the settings.
        config: the encoder's own Hugging Face configuration.
        level_db: root mean square, in dB of full scale, that waveforms are scaled to.
        frame_samples: samples that a frame hears directly.
        hop_samples: samples from one frame to the next.
        minimum_samples: the shortest waveform that gives a few frames to take a mean and deviation of.
        settings: what `make` needs to rebuild it.
    """

    family: ClassVar[str]
    source: ClassVar[type[PreTrainedModel]]
    depth_key: ClassVar[str]
    config: Any
    level_db: float
    frame_samples: int
    hop_samples: int
    minimum_samples: int
    settings: dict[str, Any]
    _resting: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
        """Encode waveforms.

        Args:
            pcm: ``[B, S]`` float32 at 16 kHz in -1..1, zero beyond ``lengths``.
            lengths: ``[B]`` samples of each waveform; all ``S`` if not given.

        Returns:
            Hidden states ``[B, T, H]``: the input of the first block, then the output of each, before the final norm.
            And which frames lie inside the waveforms, ``[B, T]``, if ``lengths`` are given.
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
        """Take the final norm away, for those who never use it."""

    def shorten(self, samples: int) -> None:
        """Drop what only waveforms of more than ``samples`` samples need."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """H, the width of the hidden states."""

    @property
    @abstractmethod
    def heads(self) -> int:
        """Attention heads of a block."""

    @property
    @abstractmethod
    def feed_forward(self) -> int:
        """Hidden units of a block's feed-forward part."""

    @property
    @abstractmethod
    def mel_bins(self) -> int:
        """Mel filters; 0 for a family that takes the waveform itself."""

    @property
    def depth(self) -> int:
        """How many blocks it has."""
        return len(self.blocks)

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
