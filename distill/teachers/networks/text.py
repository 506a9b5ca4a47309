"""The linguistic teacher's network and batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from distill.encoders.hub import announce_download, no_model
from distill.training.loop import Batch
from edge_runtime.errors import EdgeemoError


class TextClassifier(nn.Module):
    """A text encoder, the mean over tokens as embedding, and a linear classifier.

    Args:
        encoder: any encoder that ``AutoModel`` loads.
        classes: number of emotions.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_size = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(self.embedding_size, classes))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Score a batch of texts: ids and mask ``[B, L]``, labels ``[B]``; gives loss, logits, embedding ``[B, E]``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(2).to(hidden.dtype)
        embedding = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        logits = self.classifier(embedding)
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits, "embedding": embedding}


class TextCollate:
    """Makes a batch of transcripts with their classes, padded to the longest."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def __call__(self, items: list[tuple[str, int]]) -> Batch:
        """Return ``input_ids`` and ``attention_mask`` ``[B, L]`` and ``labels`` ``[B]``."""
        texts = [text for text, _ in items]
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt")
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "labels": torch.tensor([label for _, label in items]),
        }


def load_text_encoder(place: str, where: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load encoder and tokenizer.

    Raises:
        EdgeemoError: there is no such model.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        announce_download(place)
        encoder = AutoModel.from_pretrained(place, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise EdgeemoError(no_model(place, where, error)) from error
    return encoder, tokenizer
