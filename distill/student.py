"""The student: audio in, emotion out, small enough for the device.

    pcm -> level -> log-mel -> encoder -> mean and deviation over time -> minus the speaker's reference
        -> linguistic branch ┐
        -> prosodic branch   ┴-> head -> logits

A batch with padded waveforms gives the same result as each waveform alone (tested), so that training on batches and
scoring single windows on the device are the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder, sinusoids
from transformers.utils.generic import ModelOutput

from distill.frontend import LevelNormalisation, LogMel, frame_count
from distill.processes import mean_of_rows


class StudentConfig(PretrainedConfig):
    """Sizes of a student; all of them, so that a saved student loads without surgery.

    Attributes:
        encoder: settings of the Whisper encoder that differ from Hugging Face's defaults.
        labels: class names in the order of the logits.
        linguistic_size: size of the linguistic branch.
        prosodic_size: size of the prosodic branch.
        hidden_size: hidden units of the projections and of the head.
        head_dropout: dropout before the last layer.
    """

    model_type = "edgeemo-student"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        labels: list[str] | None = None,
        linguistic_size: int = 128,
        prosodic_size: int = 128,
        hidden_size: int = 128,
        head_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder or {}
        self.labels = labels or []
        self.linguistic_size = linguistic_size
        self.prosodic_size = prosodic_size
        self.hidden_size = hidden_size
        self.head_dropout = head_dropout
        super().__init__(**kwargs)

    def encoder_config(self) -> WhisperConfig:
        """Return the encoder's own Hugging Face configuration."""
        return WhisperConfig(**self.encoder)


@dataclass
class StudentOutput(ModelOutput):
    """What the student gives for a batch of ``B`` waveforms.

    Attributes:
        logits: ``[B, classes]``.
        statistics: ``[B, D]`` mean and deviation over time, before the reference is taken off; D = 2 x d_model.
        linguistic: ``[B, linguistic_size]`` embedding of the linguistic branch.
        prosodic: ``[B, prosodic_size]`` embedding of the prosodic branch.
    """

    logits: Tensor | None = None
    statistics: Tensor | None = None
    linguistic: Tensor | None = None
    prosodic: Tensor | None = None


def projection(size: int, hidden: int, out: int) -> nn.Sequential:
    """Return a GELU projection; linear at its end, since teachers' embeddings take both signs."""
    return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, out))


class Student(PreTrainedModel):
    """Audio-only student of the EmoDistill kind on a Whisper-type encoder."""

    config_class = StudentConfig
    main_input_name = "pcm"
    _supports_sdpa = True

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        encoder = config.encoder_config()
        encoder._attn_implementation = config._attn_implementation
        self.level = LevelNormalisation()
        self.log_mel = LogMel(encoder.num_mel_bins)
        self.encoder = WhisperEncoder(encoder)
        size = 2 * encoder.d_model
        self.reference: Tensor
        self.register_buffer("reference", torch.zeros(1, size))
        self.linguistic = projection(size, config.hidden_size, config.linguistic_size)
        self.prosodic = projection(size, config.hidden_size, config.prosodic_size)
        branches = config.linguistic_size + config.prosodic_size
        self.head = nn.Sequential(
            nn.Linear(branches, config.hidden_size),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.hidden_size, len(config.labels)),
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, LogMel):
            # Transformers builds models without storage and fills them from the checkpoint; constants are not in it.
            fresh = LogMel(module.filters.shape[0])
            module.basis.copy_(fresh.basis)
            module.filters.copy_(fresh.filters)
        elif isinstance(module, WhisperEncoder):
            module.embed_positions.weight.copy_(sinusoids(*module.embed_positions.weight.shape))
        elif isinstance(module, Student):
            module.reference.zero_()

    def forward(self, pcm: Tensor, lengths: Tensor | None = None, reference: Tensor | None = None) -> StudentOutput:
        """Score waveforms.

        Args:
            pcm: ``[B, S]`` float32 at 16 kHz in -1..1, zero beyond ``lengths``.
            lengths: ``[B]`` samples of each waveform; all ``S`` if not given.
            reference: ``[1 or B, D]`` the speakers' usual statistics; the training mean if not given.
        """
        hidden, valid = self._encode(pcm, lengths)
        statistics = _statistics(hidden, valid)
        if reference is None:
            if self.training:
                self._follow_mean(statistics)
            reference = self.reference
        centred = statistics - reference
        linguistic, prosodic = self.linguistic(centred), self.prosodic(centred)
        logits = self.head(torch.cat([linguistic, prosodic], dim=1))
        return StudentOutput(logits=logits, statistics=statistics, linguistic=linguistic, prosodic=prosodic)

    def _encode(self, pcm: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return hidden states ``[B, T, d_model]`` and which of them are valid ``[B, T]``."""
        frames_valid = valid = mask = None
        if lengths is not None:
            frames = frame_count(lengths)
            frames_valid = torch.arange(frame_count(pcm.shape[1]), device=pcm.device) < frames.unsqueeze(1)
            valid = frames_valid[:, ::2]
            mask = torch.zeros(valid.shape, dtype=pcm.dtype, device=pcm.device)
            mask = mask.masked_fill(~valid, torch.finfo(pcm.dtype).min)[:, None, None, :]
        features = self.log_mel(self.level(pcm, lengths), frames_valid)
        hidden = nn.functional.gelu(self.encoder.conv1(features))
        if frames_valid is not None:
            # The second convolution must see the zeros at the end that a single waveform sees.
            hidden = hidden.masked_fill(~frames_valid.unsqueeze(1), 0.0)
        hidden = nn.functional.gelu(self.encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.encoder.embed_positions.weight[: hidden.shape[1]]
        hidden = nn.functional.dropout(hidden, self.encoder.dropout, self.training)
        for layer in self.encoder.layers:
            hidden = layer(hidden, mask)
        return self.encoder.layer_norm(hidden), valid

    @torch.no_grad()
    def _follow_mean(self, statistics: Tensor, momentum: float = 0.05) -> None:
        """Keep `reference` at the running mean of the training utterances' statistics."""
        self.reference.lerp_(mean_of_rows(statistics.detach()), momentum)


def _statistics(hidden: Tensor, valid: Tensor | None) -> Tensor:
    """Return mean and standard deviation over valid time steps, ``[B, T, H]`` to ``[B, 2H]``."""
    if valid is None:
        mean = hidden.mean(dim=1)
        variance = (hidden - mean.unsqueeze(1)).square().mean(dim=1)
    else:
        weight = valid.unsqueeze(2).to(hidden.dtype)
        count = weight.sum(dim=1)
        mean = (hidden * weight).sum(dim=1) / count
        variance = ((hidden - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    return torch.cat([mean, torch.sqrt(variance + 1e-5)], dim=1)
