"""The acoustic teacher: a pretrained speech encoder, fine-tuned to tell emotions from the sound of speech."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from distill.encoders.interface import SpeechEncoder
from distill.encoders.layers import check_and_freeze, needed_layers
from distill.encoders.load import load_encoder
from distill.encoders.pooling import LAST, pool, pooled_size
from distill.recipe import AcousticTeacher


class SpeechClassifier(nn.Module):
    """A speech encoder, mean and deviation over time, an embedding of them, a classifier.

    Args:
        encoder: any family.
        recipe: pooled layers, embedding size, dropout.
        classes: number of emotions.
    """

    def __init__(self, encoder: SpeechEncoder, recipe: AcousticTeacher, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        if LAST not in recipe.pooled_layers:
            encoder.drop_final_norm()
        self._pooled = recipe.pooled_layers
        self.embedding_size = recipe.embedding_size
        self.embed = nn.Linear(pooled_size(encoder, recipe.pooled_layers), recipe.embedding_size)
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Dropout(recipe.dropout), nn.Linear(recipe.embedding_size, classes)
        )

    def forward(self, pcm: Tensor, lengths: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Score ``[B, S]`` waveforms with ``lengths`` ``[B]``; gives loss, logits, embedding ``[B, E]``."""
        embedding = self.embed(pool(self.encoder, pcm, lengths, self._pooled))
        logits = self.classifier(embedding)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits, "embedding": embedding}


def build_acoustic(recipe: AcousticTeacher, classes: int) -> SpeechClassifier:
    """Return the teacher before its fine-tuning.

    Raises:
        EdgeemoError: the encoder cannot be loaded.
        WrongUseError: it is of an unknown family, or has fewer layers than the recipe speaks of.
    """
    encoder = load_encoder(recipe.encoder, needed_layers(recipe.pooled_layers, recipe.layers, "acoustic"), "acoustic")
    check_and_freeze(encoder, recipe.pooled_layers, recipe.frozen, "acoustic")
    return SpeechClassifier(encoder, recipe, classes)
