"""The acoustic teacher's network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from distill.encoders.interface import SpeechEncoder
from distill.encoders.load import check_and_freeze, load_encoder, needed_layers
from distill.encoders.pooling import LAST, pool, pooled_size
from distill.teachers.acoustic import AcousticSettings


class SpeechClassifier(nn.Module):
    """A speech encoder, mean and deviation over time, an embedding of them, a classifier."""

    def __init__(self, encoder: SpeechEncoder, settings: AcousticSettings, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        if LAST not in settings.pooled_layers:
            encoder.drop_final_norm()
        self._pooled = settings.pooled_layers
        self.embedding_size = settings.embedding_size
        self.embed = nn.Linear(pooled_size(encoder, settings.pooled_layers), settings.embedding_size)
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Dropout(settings.dropout), nn.Linear(settings.embedding_size, classes)
        )

    def forward(self, pcm: Tensor, lengths: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Score ``[B, S]`` waveforms with ``lengths`` ``[B]``; gives loss, logits, embedding ``[B, E]``."""
        embedding = self.embed(pool(self.encoder, pcm, lengths, self._pooled))
        logits = self.classifier(embedding)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits, "embedding": embedding}


def build_classifier(settings: AcousticSettings, classes: int) -> SpeechClassifier:
    """Return the teacher before its fine-tuning.

    Raises:
        EdgeemoError: the encoder cannot be loaded.
        WrongUseError: it is of an unknown family, or has fewer layers than the settings name.
    """
    where = f"teachers.{settings.name}"
    encoder = load_encoder(settings.encoder, needed_layers(settings.pooled_layers, settings.layers, where), where)
    check_and_freeze(encoder, settings.pooled_layers, settings.frozen, where)
    return SpeechClassifier(encoder, settings, classes)
