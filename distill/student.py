"""The student: audio in, emotion out, small enough for the device.

    pcm -> encoder -> mean and deviation over time of some layers -> minus the speaker mean
        -> a branch for each teacher -> head -> logits
       (-> LDA head, added to the logits; a student that has it may lack all branches)
       (-> a linear head of arousal, valence and dominance, on the branches or, without them, on the statistics)

A batch with padded waveforms gives the same result as each waveform alone (tested), so that training on batches and
scoring single windows on the device are the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from distill.encoders.chunks import Past, past_size
from distill.encoders.interface import SpeechEncoder
from distill.encoders.load import make_encoder
from distill.encoders.pooling import LAST, pool, pool_next, pooled_size
from distill.heads.branches import SHARED, projection, shared_hidden
from distill.training.processes import mean_of_rows
from edge_runtime.bundles.speaker_model import SpeakerModel


class StudentConfig(PretrainedConfig):
    """Sizes of a student; all of them, so that a saved student loads without surgery.

    Attributes:
        family: family of the encoder, a key of `distill.encoders.load.FAMILIES`.
        encoder: settings of the encoder that differ from Hugging Face's defaults for the family.
        pooled_layers: the hidden states that are pooled: 0 is the input of the first block, i the output of block i,
            -1 the output of the last block through the encoder's final norm.
        pooled_frames: over which frames: ``all``, ``loud`` (see `distill.encoders.pooling.pool`), or both.
        pooled_deviation: whether the deviation is taken too, not the mean alone.
        labels: class names in the order of the logits.
        branches: name and size of each branch, in the order in which the head takes them; none if not given. A list
            of pairs, since saved configurations sort the keys of mappings.
        shared_branch: one projection for all branches (see `distill.heads.branches`) instead of one each.
        lda_head: it has a linear map from the statistics to the logits, fitted in closed form (`distill.heads.lda`).
        hidden_size: hidden units of each disjoint projection, and of the head.
        head_dropout: dropout before the last layer.
        statistics_dropout: dropout of the statistics before the branches.
        standardised: the statistics are divided by their deviation over the training utterances.
        speaker_directions: directions of the speaker model; 0 for a student without one.
        speaker_softness: of the speaker model.
        speaker_embedding_size: rows of the speaker-embedding projection; 0 for none.
        speaker_change_threshold: cosine of two speaker embeddings below which the speaker has changed.
        dimensions: names of the predicted dimensions (`edge_runtime.dimensions`), in the order of the output.
    """

    model_type = "edgeemo-student"

    def __init__(
        self,
        family: str = "whisper",
        encoder: dict[str, Any] | None = None,
        pooled_layers: list[int] | None = None,
        pooled_frames: list[str] | None = None,
        pooled_deviation: bool = True,
        labels: list[str] | None = None,
        branches: list[tuple[str, int]] | None = None,
        shared_branch: bool = False,
        lda_head: bool = False,
        hidden_size: int = 128,
        head_dropout: float = 0.1,
        statistics_dropout: float = 0.0,
        standardised: bool = False,
        speaker_directions: int = 0,
        speaker_softness: float = 1.0,
        speaker_embedding_size: int = 0,
        speaker_change_threshold: float = 0.0,
        dimensions: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.family = family
        self.encoder = encoder or {}
        self.pooled_layers = pooled_layers or [LAST]
        self.pooled_frames = pooled_frames or ["all"]
        self.pooled_deviation = pooled_deviation
        self.labels = labels or []
        self.branches = branches or []
        self.shared_branch = shared_branch
        self.lda_head = lda_head
        self.hidden_size = hidden_size
        self.head_dropout = head_dropout
        self.statistics_dropout = statistics_dropout
        self.standardised = standardised
        self.speaker_directions = speaker_directions
        self.speaker_softness = speaker_softness
        self.speaker_embedding_size = speaker_embedding_size
        self.speaker_change_threshold = speaker_change_threshold
        self.dimensions = dimensions or []
        super().__init__(**kwargs)

    def branch_sizes(self) -> dict[str, int]:
        """Return the size of each branch by name, in the order in which the head concatenates them."""
        return {name: size for name, size in self.branches}  # noqa: C416  (pairs, which JSON makes lists of two)


@dataclass
class StudentOutput(ModelOutput):
    """Outputs of the student for a batch of ``B`` waveforms.

    Attributes:
        logits: ``[B, classes]``.
        statistics: ``[B, D]`` mean and deviation over time of each pooled layer, before the speaker mean is subtracted.
        embeddings: ``[B, size]`` of each branch by name; of a student with a shared branch only `SHARED`,
            ``[B, sum of the sizes]``.
        dimensions: ``[B, K]`` predicted dimensions; None from a student without.
    """

    logits: Tensor | None = None
    statistics: Tensor | None = None
    embeddings: dict[str, Tensor] | None = None
    dimensions: Tensor | None = None


class Student(PreTrainedModel):
    """Audio-only student of the EmoDistill kind on a speech encoder of any family."""

    config_class = StudentConfig
    main_input_name = "pcm"
    _supports_sdpa = True

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.encoder: SpeechEncoder = make_encoder(config.family, config.encoder, config._attn_implementation)
        if LAST not in config.pooled_layers:
            self.encoder.drop_final_norm()
        size = pooled_size(self.encoder, config.pooled_layers, config.pooled_frames, deviation=config.pooled_deviation)
        self.reference: Tensor
        self.scale: Tensor
        self.register_buffer("reference", torch.zeros(1, size))
        if config.standardised:
            self.register_buffer("scale", torch.ones(1, size))
        self._make_speaker_model(config.speaker_directions)
        self.speaker_projection: Tensor
        if config.speaker_embedding_size:
            self.register_buffer("speaker_projection", torch.zeros(config.speaker_embedding_size, size))
        self.statistics_dropout = nn.Dropout(config.statistics_dropout)
        if config.lda_head:
            self.lda_head = nn.Linear(size, len(config.labels))
        sizes = config.branch_sizes()
        total = sum(sizes.values())
        if config.dimensions:
            self.dimension_head = nn.Linear(total or size, len(config.dimensions))
        if not sizes:
            self.post_init()
            return
        if config.shared_branch:
            hidden = shared_hidden(size, config.hidden_size, list(sizes.values()))
            self.shared = projection(size, hidden, total)
        else:
            for name, out in sizes.items():
                self.add_module(name, projection(size, config.hidden_size, out))
        self.head = nn.Sequential(
            nn.Linear(total, config.hidden_size),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.hidden_size, len(config.labels)),
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, Student):
            module.reference.zero_()
            if module.config.standardised:
                module.scale.fill_(1.0)
            module._make_speaker_model(module.config.speaker_directions)
            if module.config.speaker_embedding_size:
                module.speaker_projection.zero_()

    @property
    def branches(self) -> dict[str, nn.Module]:
        """The projections by name, in the order in which the head concatenates their embeddings."""
        sizes = self.config.branch_sizes()
        names = [SHARED] if sizes and self.config.shared_branch else sizes
        return {name: self.get_submodule(name) for name in names}

    def forward(self, pcm: Tensor, lengths: Tensor | None = None, reference: Tensor | None = None) -> StudentOutput:
        """Score waveforms.

        Args:
            pcm: ``[B, S]`` float32 at 16 kHz in -1..1, zero beyond ``lengths``.
            lengths: ``[B]`` samples of each waveform; all ``S`` if not given.
            reference: ``[1 or B, D]`` the speaker means; the training mean if not given.
        """
        how = self.config
        statistics = pool(
            self.encoder, pcm, lengths, how.pooled_layers, how.pooled_frames, deviation=how.pooled_deviation
        )
        if reference is None and self.training:
            self._follow_mean(statistics)
        return self.decide(statistics, reference)

    def next_chunk(self, pcm: Tensor, past: Tensor, reference: Tensor | None = None) -> tuple[StudentOutput, Tensor]:
        """Score a waveform with its next chunk, of a student that encodes in chunks.

        Args:
            pcm: ``[1, LEAD + S]``, the chunk and the samples before it, or zeros (`distill.encoders.chunks`).
            past: ``[1, P]``, returned for the chunk before; zeros for the first one.
            reference: as for `forward`.
        """
        how = self.config
        unpacked = Past.of(past, len(how.pooled_frames))
        statistics, unpacked = pool_next(self.encoder, pcm, unpacked, how.pooled_layers, how.pooled_frames)
        return self.decide(statistics, reference), unpacked.packed()

    @property
    def past_size(self) -> int:
        """P, the length of what `next_chunk` passes on."""
        return past_size(len(self.config.pooled_frames), self.reference.shape[1])

    def decide(self, statistics: Tensor, reference: Tensor | None = None) -> StudentOutput:
        """Score utterances by their statistics ``[B, D]``; the part of the student after its encoder."""
        reference = self.reference if reference is None else reference
        centred = statistics - reference
        if self.config.standardised:
            centred = centred / self.scale
        dropped = self.statistics_dropout(centred)
        embeddings = {name: branch(dropped) for name, branch in self.branches.items()}
        joined = torch.cat(list(embeddings.values()), dim=1) if embeddings else centred
        parts = [self.head(joined)] if embeddings else []
        if self.config.lda_head:
            parts.append(self.lda_head(centred))
        logits = sum(parts[1:], parts[0])
        dimensions = self.dimension_head(joined) if self.config.dimensions else None
        return StudentOutput(logits=logits, statistics=statistics, embeddings=embeddings, dimensions=dimensions)

    @torch.no_grad()
    def standardise(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and the deviation ``[D]`` of the statistics over the training utterances."""
        self.reference.copy_(mean)
        self.scale.copy_(deviation)

    @torch.no_grad()
    def set_lda_head(self, weight: Tensor, bias: Tensor) -> None:
        """Set the LDA head, ``[C, D]`` and ``[C]``; training does not change it."""
        self.lda_head.weight.copy_(weight)
        self.lda_head.bias.copy_(bias)
        self.lda_head.requires_grad_(False)

    @torch.no_grad()
    def set_dimension_head(self, weight: Tensor, bias: Tensor) -> None:
        """Set the regression of the dimensions, ``[K, D]`` and ``[K]``; training does not change it."""
        self.dimension_head.weight.copy_(weight)
        self.dimension_head.bias.copy_(bias)
        self.dimension_head.requires_grad_(False)

    def _make_speaker_model(self, directions: int) -> None:
        """Make empty buffers for a speaker model."""
        self.speaker_directions: Tensor
        self.speaker_class_means: Tensor
        self.speaker_between: Tensor
        self.speaker_interaction: Tensor
        if not directions:
            return
        self.register_buffer("speaker_directions", torch.zeros(directions, self.reference.shape[1]))
        self.register_buffer("speaker_class_means", torch.zeros(len(self.config.labels), directions))
        self.register_buffer("speaker_between", torch.zeros(directions, directions))
        self.register_buffer("speaker_interaction", torch.zeros(directions))

    def set_speaker_model(self, model: SpeakerModel) -> None:
        """Set the speaker model of standardised statistics; the forward pass does not depend on it."""
        self.config.speaker_directions, self.config.speaker_softness = len(model.projection), model.softness
        for name, value in {
            "speaker_directions": model.projection,
            "speaker_class_means": model.class_means,
            "speaker_between": model.between,
            "speaker_interaction": model.interaction[0],
        }.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(value)).float())

    def speaker_model(self) -> SpeakerModel | None:
        """Return the speaker model of statistics; None for a student without one."""
        if not self.config.speaker_directions:
            return None
        projection = self.speaker_directions / self.scale if self.config.standardised else self.speaker_directions
        return SpeakerModel(
            projection=projection.cpu().numpy(),
            origin=self.reference[0].cpu().numpy().astype(np.float64),
            class_means=self.speaker_class_means.cpu().numpy().astype(np.float64),
            between=self.speaker_between.cpu().numpy().astype(np.float64),
            interaction=np.repeat(
                self.speaker_interaction.cpu().numpy().astype(np.float64)[None], len(self.config.labels), axis=0
            ),
            softness=self.config.speaker_softness,
        )

    def set_speaker_projection(self, projection: Tensor, threshold: float) -> None:
        """Set the speaker-embedding projection ``[k, D]`` of standardised statistics; scores do not depend on it."""
        self.config.speaker_embedding_size, self.config.speaker_change_threshold = len(projection), threshold
        self.register_buffer("speaker_projection", projection)

    def centred_speaker_projection(self) -> Tensor | None:
        """Return the speaker-embedding projection ``[k, D]`` of statistics less the training mean; None without one."""
        if not self.config.speaker_embedding_size:
            return None
        return self.speaker_projection / self.scale if self.config.standardised else self.speaker_projection

    @torch.no_grad()
    def _follow_mean(self, statistics: Tensor, momentum: float = 0.05) -> None:
        """Keep `reference` at the running mean of the training utterances' statistics."""
        self.reference.lerp_(mean_of_rows(statistics.detach()), momentum)
