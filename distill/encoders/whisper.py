"""The Whisper family: level, log-mel, two convolutions, positions, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, WhisperConfig, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder, sinusoids

from distill.encoders.frontend import FRAME, HOP, MINIMUM_SAMPLES, LevelNormalisation, LogMel, frame_count
from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Block, Units

_KEYS = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "num_mel_bins",
    "max_source_positions",
    "activation_function",
    "dropout",
    "attention_dropout",
    "activation_dropout",
)
STRIDE = "stride"
"""Key of the settings: which frames of the log-mel the blocks see, every other one (as in Whisper) if not given."""


class WhisperSpeech(SpeechEncoder, WhisperEncoder):
    """Hugging Face's Whisper encoder on waveforms of any length up to 30 s, with attention kept to valid frames."""

    family: ClassVar[str] = "whisper"
    source: ClassVar[type[PreTrainedModel]] = WhisperModel
    depth_key: ClassVar[str] = "encoder_layers"
    frame_samples = FRAME

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self._step(getattr(config, STRIDE, 2))
        self.level = LevelNormalisation()
        self.log_mel = LogMel(config.num_mel_bins)
        self.level_db = self.level.level_db
        self.hidden_size, self.mel_bins = config.d_model, config.num_mel_bins
        self.heads, self.feed_forward = config.encoder_attention_heads, config.encoder_ffn_dim

    @classmethod
    def make(cls, settings: dict[str, Any], attention: str) -> WhisperSpeech:
        """Return an encoder with random weights; the settings are those of ``WhisperConfig``."""
        config = WhisperConfig(**settings)
        config._attn_implementation = attention
        return cls(config)

    @classmethod
    def settings_of(cls, config: PretrainedConfig, name: str) -> dict[str, Any]:
        """Return the settings of a pretrained Whisper."""
        return {key: getattr(config, key) for key in _KEYS}

    @classmethod
    def weights_of(cls, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights of the encoder half of a ``WhisperModel``."""
        encoder: Any = model.encoder
        return dict(encoder.state_dict())

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, LogMel):
            # Transformers builds models without storage and fills them from the checkpoint; constants are not in it.
            fresh = LogMel(module.mel_bins)
            for name, constant in module.named_buffers():
                constant.copy_(fresh.get_buffer(name))
        elif isinstance(module, nn.Embedding):
            # The positions. Transformers sets them with the whole encoder, and passes over encoders not its own.
            module.weight.copy_(sinusoids(*module.weight.shape))

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.layers

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """Convolutions and positions."""
        return self.conv1, self.conv2, self.embed_positions

    @property
    def final_norm(self) -> nn.Module:
        """The layer norm after the last block."""
        return self.layer_norm

    def drop_final_norm(self) -> None:
        """Put nothing in its place."""
        self.add_module("layer_norm", nn.Identity())

    def _step(self, stride: int) -> None:
        """Let the second convolution take every ``stride``-th frame of the log-mel."""
        self.conv2.stride = (stride,)
        self.hop_samples = stride * HOP
        self.minimum_samples = MINIMUM_SAMPLES * stride // 2

    def thin(self, share: int) -> None:
        """Keep every ``share``-th frame only, with the position that it had: blocks have so much less work.

        Neighbouring frames of 20 ms are alike, and only mean and deviation over time are taken.
        """
        if share == 1:
            return
        (stride,) = self.conv2.stride
        self._step(stride * share)
        kept = self.embed_positions.weight[::share].detach().clone()
        self.embed_positions = nn.Embedding.from_pretrained(kept)
        self.settings = self.settings | {STRIDE: stride * share, "max_source_positions": len(kept)}

    def shorten(self, samples: int) -> None:
        """Drop the positions that only longer waveforms need: of 30 s, they are a quarter of a small INT8 file."""
        frames = (samples - self.frame_samples) // self.hop_samples + 1
        kept = self.embed_positions.weight[:frames].detach().clone()
        self.embed_positions = nn.Embedding.from_pretrained(kept)

    def block(self, index: int) -> Block:
        """Return the layers of a block by what they do."""
        layer: Any = self.layers[index]
        return Block(
            layer.self_attn, layer.self_attn_layer_norm, layer.fc1, layer.fc2, layer.final_layer_norm, norm_first=True
        )

    def channels(self) -> list[Units]:
        """Return the channels between the two convolutions."""
        width = self.conv1.out_channels
        return [Units("channels", 0, width, 1, writers=(self.conv1,), reader=self.conv2)]

    def frames(self, samples: int) -> int:
        """Return T."""
        (stride,) = self.conv2.stride
        return (frame_count(samples) + stride - 1) // stride

    def stem_macs(self, samples: int, channels: Sequence[int]) -> dict[str, int]:
        """Return the multiply-accumulates of log-mel and convolutions."""
        frames = frame_count(samples)
        (kernel,) = self.conv1.kernel_size
        return {
            "log_mel": frames * self.log_mel.macs_per_frame,
            "convolution.0": frames * kernel * self.mel_bins * channels[0],
            "convolution.1": self.frames(samples) * kernel * channels[0] * self.hidden_size,
        }

    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
        """Encode waveforms; see `SpeechEncoder.forward`."""
        frames_valid = valid = mask = None
        if lengths is not None:
            frames = frame_count(lengths)
            frames_valid = torch.arange(frame_count(pcm.shape[1]), device=pcm.device) < frames.unsqueeze(1)
            valid = frames_valid[:, :: self.conv2.stride[0]]
            mask = torch.zeros(valid.shape, dtype=pcm.dtype, device=pcm.device)
            mask = mask.masked_fill(~valid, torch.finfo(pcm.dtype).min)[:, None, None, :]
        features = self.log_mel(self.level(pcm, lengths), frames_valid)
        hidden = nn.functional.gelu(self.conv1(features))
        if frames_valid is not None:
            # The second convolution must see the zeros at the end that a single waveform sees.
            hidden = hidden.masked_fill(~frames_valid.unsqueeze(1), 0.0)
        hidden = nn.functional.gelu(self.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, mask)
            states.append(hidden)
        return states, valid
