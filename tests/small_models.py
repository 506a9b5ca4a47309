"""Small random pretrained models on disk, of the shapes that the hub has: what `from_pretrained` reads is all real."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

RAW = ("wav2vec2", "hubert", "wavlm")
FAMILIES = ("whisper", *RAW)
_SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_CONVOLUTIONS = {
    # The receptive field and hop of the real ones, in three layers instead of seven.
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 8, 5),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_MODELS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model, {}),
    "hubert": (HubertConfig, HubertModel, {}),
    "wavlm": (WavLMConfig, WavLMModel, {"num_buckets": 20, "max_bucket_distance": 40}),
}


def save_encoder(folder: Path, family: str, *, stable: bool = False, normalise: bool = True, **changes: object) -> Path:
    """Save a random encoder; ``stable`` is the shape of the large models, with layer norms in other places."""
    torch.manual_seed(0)
    if family == "whisper":
        model = WhisperModel(
            WhisperConfig(
                d_model=32, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=40,
                decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64, vocab_size=16, max_target_positions=8,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )
        )  # fmt: skip
    else:
        config, kind, own = _MODELS[family]
        shape = {"do_stable_layer_norm": stable, "feat_extract_norm": "layer" if stable else "group"}
        model = kind(config(**(_SIZES | _CONVOLUTIONS | own | shape | changes)))
        Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    for name, weight in model.named_parameters():
        # As if trained: norms and gates that do something, positions that are told apart.
        if "norm" in name or "gru_rel_pos_const" in name:
            torch.nn.init.normal_(weight, 1.0, 0.2)
        elif "rel_attn_embed" in name:
            torch.nn.init.normal_(weight, 0.0, 1.0)
    model.save_pretrained(folder)
    return folder


def save_bert(folder: Path) -> Path:
    """Save a random BERT that reads letter by letter."""
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz'"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "!", *letters, *(f"##{c}" for c in letters)]
    vocabulary = folder / "vocab.txt"
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("\n".join(tokens) + "\n")
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(folder)
    return folder
