"""The Whisper family: level, log-mel, two convolutions, positions, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, WhisperConfig, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder, sinusoids

from distill.encoders.chunks import Past, rows_of
from distill.encoders.frontend import FRAME, HOP, MINIMUM_SAMPLES, LevelNormalisation, LogMel, frame_count
from distill.encoders.interface import SpeechEncoder
from distill.encoders.time_reduction import halved
from distill.encoders.units import Block, Units
from edge_runtime.engines.chunks import LEAD
from edge_runtime.errors import WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE

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
TIME_REDUCTION = "time_reduction"
"""Key of the settings: the layers after which frames are averaged in pairs; none if not given."""
CHUNK = "chunk"
"""Key of the settings: samples of a chunk (`distill.encoders.chunks`); without, waveforms are encoded as a whole."""


class WhisperSpeech(SpeechEncoder, WhisperEncoder):
    """Hugging Face's Whisper encoder on waveforms of any length up to 30 s, with attention kept to valid frames."""

    family: ClassVar[str] = "whisper"
    source: ClassVar[type[PreTrainedModel]] = WhisperModel
    depth_key: ClassVar[str] = "encoder_layers"
    frame_samples = FRAME

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.level = LevelNormalisation()
        self.log_mel = LogMel(config.num_mel_bins)
        self.level_db = self.level.level_db
        self.hidden_size, self.mel_bins = config.d_model, config.num_mel_bins
        self.chunk_samples = getattr(config, CHUNK, 0)
        self.time_reduction = tuple(getattr(config, TIME_REDUCTION, ()))
        self._step(getattr(config, STRIDE, 2))
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
        self.minimum_samples = MINIMUM_SAMPLES * stride // 2 << len(self.time_reduction)

    def thin(self, share: int) -> None:
        """Keep every ``share``-th frame only, with the position that it had: blocks have so much less work.

        Neighbouring frames of 20 ms are alike, and only mean and deviation over time are taken.

        Raises:
            WrongUseError: a chunk has no whole number of such frames.
        """
        if share == 1:
            return
        if self.chunk_samples % (self.hop_samples * share):
            raise WrongUseError(
                f"student.pruning.every: {self.chunk_samples / SAMPLE_RATE:g} s, window.chunk_seconds, are no multiple "
                f"of frames of {self.hop_samples * share / SAMPLE_RATE:g} s"
            )
        (stride,) = self.conv2.stride
        self._step(stride * share)
        kept = self.embed_positions.weight[::share].detach().clone()
        self.embed_positions = nn.Embedding.from_pretrained(kept)
        self.settings = self.settings | {STRIDE: stride * share, "max_source_positions": len(kept)}

    def reduce_time(self, layers: Sequence[int]) -> None:
        """Average neighbouring frames in pairs after each of these layers; see `SpeechEncoder.reduce_time`."""
        if not layers:
            return
        if self.chunk_samples:
            raise WrongUseError("student.time_reduction: a student in chunks (window.chunk_seconds) cannot have it")
        if max(layers) >= self.depth:
            raise WrongUseError(
                f"student.time_reduction: no block follows layer {max(layers)}, since only {self.depth} are kept"
            )
        self.time_reduction = tuple(sorted(layers))
        self.settings = self.settings | {TIME_REDUCTION: list(self.time_reduction)}
        self._step(*self.conv2.stride)

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

    def in_chunks(self, samples: int) -> None:
        """Encode waveforms in chunks of so many samples, or as a whole."""
        if samples % self.hop_samples:
            raise WrongUseError(
                f"window.chunk_seconds: {samples / SAMPLE_RATE:g} s are no multiple of the encoder's frames of "
                f"{self.hop_samples / SAMPLE_RATE:g} s"
            )
        self.chunk_samples = samples
        self.settings = {key: value for key, value in self.settings.items() if key != CHUNK}
        if samples:
            self.settings |= {CHUNK: samples}

    def forward(self, pcm: Tensor, lengths: Tensor | None = None, past: Past | None = None) -> tuple[list[Tensor], Any]:
        """Encode waveforms; see `SpeechEncoder.forward`. With ``past``, `SpeechEncoder.next_chunk`."""
        if past is not None:
            return self._next_chunk(pcm, past)
        if self.chunk_samples:
            return self._chunks(pcm, torch.full_like(pcm[:, 0], pcm.shape[1]).long() if lengths is None else lengths)
        frames_valid = None
        if lengths is not None:
            frames = frame_count(lengths)
            frames_valid = torch.arange(frame_count(pcm.shape[1]), device=pcm.device) < frames.unsqueeze(1)
        features, _ = self.log_mel(self.level(pcm, lengths), frames_valid)
        return self._encoded(features, frames_valid)

    def _encoded(self, features: Tensor, frames_valid: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """Encode log-mel features ``[B, mel_bins, T]``, of which some frames are valid."""
        valid = mask = None
        hidden = nn.functional.gelu(self.conv1(features))
        if frames_valid is not None:
            valid = frames_valid[:, :: self.conv2.stride[0]]
            mask = _attention_mask(valid, features.dtype)
            # The second convolution must see the zeros at the end that a single waveform sees.
            hidden = hidden.masked_fill(~frames_valid.unsqueeze(1), 0.0)
        hidden = nn.functional.gelu(self.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        states = [hidden]
        inside = valid
        for index, layer in enumerate(self.layers):
            for _ in range(self.halvings(index + 1) - self.halvings(index)):
                hidden = halved(hidden, inside)
                if inside is not None:
                    inside = inside[:, ::2]
                    mask = _attention_mask(inside, hidden.dtype)
            hidden = layer(hidden, mask)
            states.append(hidden)
        return states, valid

    def _chunks(self, pcm: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encode waveforms chunk by chunk, all at once; `next_chunk` gives the same, one after the other."""
        rows, samples = rows_of(pcm, lengths, self.chunk_samples)
        power = (rows[:, :, LEAD:] * rows[:, :, LEAD:]).sum(dim=2).cumsum(dim=1)
        gain = self.level.gain(power, samples.cumsum(dim=1).clamp(min=1))
        kept = samples > 0
        frames_valid = torch.arange(self.chunk_samples // HOP, device=pcm.device) < (samples[kept] // HOP).unsqueeze(1)
        log = self.log_mel.logarithm(rows[kept] * gain[kept].unsqueeze(1), frames_valid)
        # In decades, of samples as they are.
        scale = 2 * torch.log10(gain)
        top = torch.full_like(gain, -torch.inf)
        top[kept] = log.amax(dim=(1, 2)) - scale[kept]
        top = top.cummax(dim=1).values + scale
        states, valid = self._encoded(self.log_mel.clamped(log, top[kept][:, None, None], frames_valid), frames_valid)
        assert valid is not None
        return [_placed(state, kept) for state in states], _placed(valid, kept)

    def _next_chunk(self, pcm: Tensor, past: Past) -> tuple[list[Tensor], Past]:
        new = pcm[:, LEAD:]
        power = past.power + (new * new).sum(dim=1, keepdim=True)
        samples = past.samples + new.shape[1]
        gain = self.level.gain(power, samples)
        # In decades, of samples as they are.
        scale = 2 * torch.log10(gain)
        features, top = self.log_mel(pcm * gain, before=past.top + scale)
        states, _ = self._encoded(features, None)
        return states, past._replace(power=power, samples=samples, top=top - scale)


def _attention_mask(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention scores, ``[B, 1, 1, T]``, so that frames outside the waveforms get none."""
    mask = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    return mask.masked_fill(~valid, torch.finfo(dtype).min)[:, None, None, :]


def _placed(values: Tensor, kept: Tensor) -> Tensor:
    """Put what was computed of the chunks that are kept, ``[K, T, ...]``, into ``[B, n T, ...]``; zeros elsewhere."""
    whole = values.new_zeros(*kept.shape, *values.shape[1:])
    whole[kept] = values
    return whole.flatten(1, 2)
