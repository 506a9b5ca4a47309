"""The wav2vec 2.0 shape: waveform, convolutions, convolutional positions, blocks. wav2vec2, HuBERT and WavLM.

The levels of waveforms follow what a model was pretrained on, by its ``preprocessor_config.json``: with
``do_normalize`` (HuBERT, wav2vec2) zero mean and unit variance, as Hugging Face's feature extractor does it; without
(WavLM-base) the level normalisation that the Whisper family has, near which read speech lies anyway. Where there is no
such file, waveforms are normalised, as by Hugging Face's feature extractor.

Hugging Face's models are not called but walked through, for four reasons. The base models' first norm runs over time,
so padding would change every feature: here it counts valid frames only. The training-time masking (SpecAugment) and
dropped layers of pretraining are out of place under a statistics pooling, as is dropout. WavLM's attention goes through
a function that has no ONNX form. And the weight of the convolutional positions is stored as it is used, not as
direction and size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import (
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from distill.encoders.frontend import LevelNormalisation
from distill.encoders.interface import SpeechEncoder
from distill.encoders.units import Block, Units
from edge_runtime.errors import WrongUseError

_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "do_stable_layer_norm",
    "feat_extract_norm",
    "feat_extract_activation",
    "feat_proj_layer_norm",
    "conv_dim",
    "conv_stride",
    "conv_kernel",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "adapter_attn_dim",
    "num_buckets",
    "max_bucket_distance",
)
_NO_TRAINING_NOISE = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}


class UnitVariance(nn.Module):
    """Zero mean and unit variance over a waveform, as Hugging Face's feature extractor makes them."""

    level_db = 0.0

    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map ``[B, S]`` to ``[B, S]``; with ``lengths`` ``[B]``, samples beyond them must be zero and stay it."""
        count = pcm.shape[1] if lengths is None else lengths.unsqueeze(1)
        centred = pcm - pcm.sum(dim=1, keepdim=True) / count
        if lengths is not None:
            centred = centred.masked_fill(_beyond(lengths, pcm.shape[1]), 0.0)
        return centred * torch.rsqrt(centred.square().sum(dim=1, keepdim=True) / count + 1e-7)


class RawSpeech(SpeechEncoder):
    """What wav2vec2, HuBERT and WavLM have in common."""

    depth_key: ClassVar[str] = "num_hidden_layers"
    configuration: ClassVar[type[PretrainedConfig]]
    attentions: ClassVar[tuple[str, ...]] = ("eager", "sdpa")
    # Of the Hugging Face model that subclasses also are.
    feature_extractor: Any
    feature_projection: Any
    encoder: Any

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.level = UnitVariance() if config.do_normalize else LevelNormalisation()
        self.level_db = self.level.level_db
        self.frame_samples = _samples_of(1, config)
        self.hop_samples = math.prod(config.conv_stride)
        self.minimum_samples = _samples_of(3, config)
        self.hidden_size, self.mel_bins = config.hidden_size, 0
        self.heads, self.feed_forward = config.num_attention_heads, config.intermediate_size
        _merge_weight_norm(self)

    @classmethod
    def make(cls, settings: dict[str, Any], attention: str) -> RawSpeech:
        """Return an encoder with random weights.

        Args:
            settings: those of the family's Hugging Face configuration, and ``do_normalize``.
            attention: ``eager`` or ``sdpa``; WavLM has its own only.
        """
        values: dict[str, Any] = {**_NO_TRAINING_NOISE, "do_normalize": True, **settings}
        config = cls.configuration(**values)
        config._attn_implementation = attention if attention in cls.attentions else "eager"
        return cls(config)

    @classmethod
    def settings_of(cls, config: PretrainedConfig, name: str) -> dict[str, Any]:
        """Return the settings of a pretrained encoder.

        Raises:
            WrongUseError: it normalises over the batch where padded frames would count.
        """
        if getattr(config, "conv_pos_batch_norm", False):
            raise WrongUseError(
                f"'{name}' has a batch norm before its convolutional positions, for which padding cannot be undone; "
                "take a HuBERT without conv_pos_batch_norm"
            )
        settings = {key: getattr(config, key) for key in _KEYS if hasattr(config, key)}
        return settings | {"do_normalize": _normalises(name)}

    @classmethod
    def weights_of(cls, model: PreTrainedModel) -> dict[str, Tensor]:
        """Return the weights of a pretrained model, with the convolutional positions' weight in one."""
        _merge_weight_norm(model)
        return dict(model.state_dict())

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        blocks: nn.ModuleList = self.encoder.layers
        return blocks

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """Convolutions, projection, positions, and the first norm of a model that has no final one."""
        parts = self.feature_extractor, self.feature_projection, self.encoder.pos_conv_embed
        return parts if self.config.do_stable_layer_norm else (*parts, self.encoder.layer_norm)

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last block, which only models with the norm before attention have."""
        norm: nn.Module = self.encoder.layer_norm
        return norm if self.config.do_stable_layer_norm else None

    def drop_final_norm(self) -> None:
        """Put nothing in its place, where there is one."""
        if self.config.do_stable_layer_norm:
            self.encoder.layer_norm = nn.Identity()

    def block(self, index: int) -> Block:
        """Return the layers of a block by what they do."""
        layer: Any = self.blocks[index]
        inner = layer.feed_forward
        return Block(
            layer.attention,
            layer.layer_norm,
            inner.intermediate_dense,
            inner.output_dense,
            layer.final_layer_norm,
            norm_first=self.config.do_stable_layer_norm,
        )

    def channels(self) -> list[Units]:
        """Return the channels of all convolutions but the last; none where layer norms run over channels."""
        layers = list(self.feature_extractor.conv_layers)
        if any(isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm) for layer in layers):
            return []
        return [
            Units(
                "channels",
                index,
                layer.conv.out_channels,
                1,
                writers=(layer.conv,),
                reader=following.conv,
                norm=getattr(layer, "layer_norm", None),
            )
            for index, (layer, following) in enumerate(itertools.pairwise(layers))
        ]

    def frames(self, samples: int) -> int:
        """Return T."""
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    def stem_macs(self, samples: int, channels: Sequence[int]) -> dict[str, int]:
        """Return the multiply-accumulates of convolutions, projection and positions."""
        config = self.config
        widths = [*channels, *config.conv_dim[len(channels) :]]
        parts, frames, before = {}, samples, 1
        for index, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride, strict=True)):
            frames = (frames - kernel) // stride + 1
            parts[f"convolution.{index}"] = frames * kernel * before * widths[index]
            before = widths[index]
        kernel = config.num_conv_pos_embeddings
        parts["projection"] = frames * before * self.hidden_size
        # An even kernel, padded by half of it on both sides, gives a frame too many, which is cut off afterwards.
        grouped = self.hidden_size // config.num_conv_pos_embedding_groups
        parts["positions"] = (frames + (kernel + 1) % 2) * kernel * grouped * self.hidden_size
        return parts

    def forward(self, pcm: Tensor, lengths: Tensor | None = None) -> tuple[list[Tensor], Tensor | None]:
        """Encode waveforms; see `SpeechEncoder.forward`."""
        features, counts = self._convolve(self.level(pcm, lengths), lengths)
        hidden = self.feature_projection(features.transpose(1, 2))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        valid = mask = None
        if counts is not None:
            beyond = _beyond(counts, hidden.shape[1])
            valid = ~beyond
            # The positions' convolution must see the zeros at the end that a single waveform sees.
            hidden = hidden.masked_fill(beyond.unsqueeze(2), 0.0)
            mask = torch.zeros(valid.shape, dtype=hidden.dtype, device=hidden.device)
            mask = mask.masked_fill(beyond, torch.finfo(hidden.dtype).min)[:, None, None, :]
        hidden = hidden + self.encoder.pos_conv_embed(hidden)
        if not self.config.do_stable_layer_norm:
            hidden = self.encoder.layer_norm(hidden)
        return self._walk(hidden, mask), valid

    def _walk(self, hidden: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return the hidden states from the input of the first block on; ``mask`` ``[B, 1, 1, T]`` is added."""
        states, bias = [hidden], self._bias(hidden)
        for block in self.blocks:
            hidden = self._step(block, hidden, bias, mask)
            states.append(hidden)
        return states

    def _bias(self, hidden: Tensor) -> Tensor | None:
        """Return the bias of the attention that all blocks share; none in most families."""
        return None

    def _step(self, block: Any, hidden: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        passed: Tensor = block(hidden, attention_mask=mask)
        return passed

    def through(self, index: int, hidden: Tensor) -> Tensor:
        """Pass hidden states through one block."""
        return self._step(self.blocks[index], hidden, self._bias(hidden), None)

    def _convolve(self, pcm: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return features ``[B, C, T]`` and how many of each row are of the waveform, ``[B]``."""
        x, counts = pcm.unsqueeze(1), lengths
        for layer in self.feature_extractor.conv_layers:
            if counts is None:
                x = layer(x)
                continue
            (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
            counts = (counts - kernel) // stride + 1
            # No padding in these convolutions: a frame inside the waveform sees nothing from beyond it.
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                x = layer.activation(_norm_over_time(norm, layer.conv(x), counts))
            else:
                x = layer(x)
        return x, counts


class Wav2Vec2Speech(RawSpeech, Wav2Vec2Model):
    """wav2vec 2.0 (Baevski et al. 2020), and with it XLSR, XLS-R and MMS."""

    family: ClassVar[str] = "wav2vec2"
    source: ClassVar[type[PreTrainedModel]] = Wav2Vec2Model
    configuration: ClassVar[type[PretrainedConfig]] = Wav2Vec2Config


class HubertSpeech(RawSpeech, HubertModel):
    """HuBERT (Hsu et al. 2021)."""

    family: ClassVar[str] = "hubert"
    source: ClassVar[type[PreTrainedModel]] = HubertModel
    configuration: ClassVar[type[PretrainedConfig]] = HubertConfig


class WavLMSpeech(RawSpeech, WavLMModel):
    """WavLM (Chen et al. 2022): HuBERT with a relative position bias that every query gates."""

    family: ClassVar[str] = "wavlm"
    source: ClassVar[type[PreTrainedModel]] = WavLMModel
    configuration: ClassVar[type[PretrainedConfig]] = WavLMConfig
    attentions: ClassVar[tuple[str, ...]] = ("eager",)
    # All blocks share the bias that the first one holds, a number a head.
    free_heads: ClassVar[bool] = False
    gate_outputs: ClassVar[int] = 8

    def _bias(self, hidden: Tensor) -> Tensor:
        return _position_bias(self.blocks[0].attention, hidden.shape[1])

    def _step(self, block: Any, hidden: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        assert bias is not None
        if self.config.do_stable_layer_norm:
            hidden = hidden + _gated_attention(block.attention, block.layer_norm(hidden), bias, mask)
            passed: Tensor = hidden + block.feed_forward(block.final_layer_norm(hidden))
            return passed
        hidden = block.layer_norm(hidden + _gated_attention(block.attention, hidden, bias, mask))
        normed: Tensor = block.final_layer_norm(hidden + block.feed_forward(hidden))
        return normed


def _position_bias(attention: Any, frames: int) -> Tensor:
    """Return the bias of every head for every pair of frames, ``[heads, T, T]``: exact when near, log-spaced far off.

    The buckets are those of T5 (Raffel et al. 2020), half of them for each direction.
    """
    position = torch.arange(frames, device=attention.rel_attn_embed.weight.device)
    relative = position[None, :] - position[:, None]
    half = attention.num_buckets // 2
    exact = half // 2
    distance = relative.abs()
    # No smaller than `exact`, under which this branch is not taken: the logarithm of 0 is no number.
    far = torch.log(distance.clamp(min=exact).float() / exact) / math.log(attention.max_distance / exact)
    far = (exact + far * (half - exact)).long().clamp(max=half - 1)
    bucket = torch.where(distance < exact, distance, far) + (relative > 0).long() * half
    values: Tensor = attention.rel_attn_embed(bucket)
    return values.permute(2, 0, 1)


def _gated_attention(attention: Any, hidden: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Return self-attention ``[B, T, H]`` with the bias of equation 4 ff. of arXiv 2110.13900, gated by each query."""
    rows, frames, _ = hidden.shape

    def split(x: Tensor) -> Tensor:
        return x.view(rows, frames, attention.num_heads, attention.head_dim).transpose(1, 2)

    gates = attention.gru_rel_pos_linear(split(hidden)).view(rows, attention.num_heads, frames, 2, 4).sum(dim=4)
    gate, reset = torch.sigmoid(gates).chunk(2, dim=3)
    gate = gate * (reset * attention.gru_rel_pos_const - 1.0) + 2.0
    query, key, value = (split(project(hidden)) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    scores = torch.matmul(query * attention.scaling, key.transpose(2, 3)) + gate * bias
    if mask is not None:
        scores = scores + mask
    mixed = torch.matmul(functional.softmax(scores, dim=3), value)
    output: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(rows, frames, -1))
    return output


def _norm_over_time(norm: nn.GroupNorm, x: Tensor, counts: Tensor) -> Tensor:
    """Apply a group norm of one channel a group, ``[B, C, T]``, as if the frames beyond ``counts`` were not there."""
    beyond = _beyond(counts, x.shape[2]).unsqueeze(1)
    count = counts[:, None, None].clamp(min=1)
    mean = x.masked_fill(beyond, 0.0).sum(dim=2, keepdim=True) / count
    centred = (x - mean).masked_fill(beyond, 0.0)
    variance = centred.square().sum(dim=2, keepdim=True) / count
    return centred * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]


def _beyond(lengths: Tensor, size: int) -> Tensor:
    """Return ``[B, size]``, true for places beyond each row's length."""
    return torch.arange(size, device=lengths.device) >= lengths.unsqueeze(1)


def _samples_of(frames: int, config: PretrainedConfig) -> int:
    """Return how many samples the convolutions take to give so many frames."""
    samples = frames
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _merge_weight_norm(model: Any) -> None:
    """Store the weight of the convolutional positions as it is used: what the device has is what is trained."""
    convolution = model.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")


def _normalises(name: str) -> bool:
    try:
        return bool(Wav2Vec2FeatureExtractor.from_pretrained(name).do_normalize)
    except (OSError, ValueError):
        return True
