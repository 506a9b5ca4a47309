"""The families of encoders, and loading of pretrained ones: all blocks or the first ones, some of them frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import AutoConfig, PretrainedConfig

from distill.encoders.hub import announce_download, no_model
from distill.encoders.interface import Frozen, SpeechEncoder
from distill.encoders.pooling import LAST
from distill.encoders.units import SIZES, Sizes
from distill.encoders.wav2vec2 import HubertSpeech, Wav2Vec2Speech, WavLMSpeech
from distill.encoders.whisper import WhisperSpeech
from edge_runtime.errors import EdgeemoError, WrongUseError

FAMILIES: dict[str, type[SpeechEncoder]] = {
    kind.family: kind for kind in (WhisperSpeech, Wav2Vec2Speech, HubertSpeech, WavLMSpeech)
}
"""The encoders by Hugging Face's ``model_type``. A new family is a subclass of `SpeechEncoder` and an entry here."""


def make_encoder(family: str, settings: dict[str, Any], attention: str = "sdpa") -> SpeechEncoder:
    """Return an encoder with random weights.

    Args:
        family: key of `FAMILIES`.
        settings: of the encoder (`SpeechEncoder.settings_of`), with `Sizes` if it was pruned.
        attention: ``eager`` or ``sdpa``.

    Raises:
        EdgeemoError: this edgeemo has no such family, or the sizes are not of such an encoder.
    """
    if family not in FAMILIES:
        raise EdgeemoError(
            f"the student's encoder is of the family '{family}', which this edgeemo lacks (it has "
            f"{', '.join(FAMILIES)}); use the edgeemo that trained it"
        )
    encoder = FAMILIES[family].make({key: value for key, value in settings.items() if key != SIZES}, attention)
    encoder.settings = settings
    if SIZES in settings:
        try:
            encoder.resize(Sizes.model_validate(settings[SIZES]))
        except ValueError as error:
            raise EdgeemoError(f"the sizes of the student's encoder do not fit it ({error})") from error
    return encoder


def load_encoder(name: str, layers: int | None, where: str) -> SpeechEncoder:
    """Return a pretrained encoder, or its first blocks.

    Args:
        name: Hugging Face name or path.
        layers: keep only the first blocks.
        where: table of the recipe that names it, for errors.

    Raises:
        EdgeemoError: there is no such model, or it holds no weights.
        WrongUseError: it is of another family, or has fewer layers than asked for.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise EdgeemoError(no_model(name, f"{where}.encoder", error)) from error
    if config.model_type not in FAMILIES:
        raise WrongUseError(
            f"{where}.encoder: '{name}' is of the family '{config.model_type}'; supported: {', '.join(FAMILIES)}"
        )
    kind = FAMILIES[config.model_type]
    try:
        settings = kind.settings_of(config, name)
    except WrongUseError as error:
        raise WrongUseError(f"{where}.encoder: {error.message}") from error
    depth = settings[kind.depth_key]
    if layers is not None and layers > depth:
        raise WrongUseError(f"{where}.layers: '{name}' has {depth} layers, not {layers}")
    settings |= {kind.depth_key: layers or depth}
    encoder = make_encoder(kind.family, settings)
    announce_download(name)
    try:
        loaded: Any = kind.source.from_pretrained(name, dtype="float32", output_loading_info=True)
    except (OSError, ValueError) as error:
        raise EdgeemoError(f"{where}.encoder: '{name}' holds no weights that can be loaded") from error
    source, report = loaded
    weights = kind.weights_of(source)
    # Transformers draws weights that a checkpoint lacks at random, and goes on.
    lacking = {key.replace(".parametrizations.weight.original0", ".weight") for key in report["missing_keys"]}
    missing = set(encoder.load_state_dict(weights, strict=False).missing_keys) | {
        name for name in encoder.state_dict() if not lacking.isdisjoint({name, f"encoder.{name}"})
    }
    if missing:
        raise EdgeemoError(f"{where}.encoder: '{name}' holds no weights for {min(missing)}")
    if encoder.depth < depth and encoder.final_norm is not None:
        # The last norm was trained for the last layer; after an earlier one it starts afresh.
        nn.init.ones_(encoder.final_norm.weight)  # type: ignore[arg-type]
        nn.init.zeros_(encoder.final_norm.bias)  # type: ignore[arg-type]
    return encoder


def needed_layers(pooled: Sequence[int], layers: int | None, where: str) -> int | None:
    """Return how many blocks to keep: those behind the last pooled one would be dead weight.

    Args:
        pooled: the pooled layers.
        layers: how many blocks the recipe keeps; all if not given.
        where: table of the recipe, for errors.

    Raises:
        WrongUseError: a layer is to be pooled that is not kept.
    """
    if layers is not None and max(pooled) > layers:
        raise WrongUseError(f"{where}: layer {max(pooled)} cannot be pooled, since only {layers} are kept")
    return layers if LAST in pooled else max(1, *pooled)


def check_and_freeze(encoder: SpeechEncoder, pooled: Sequence[int], frozen: Frozen, where: str) -> None:
    """Freeze the layers that the recipe names, in an encoder that has them.

    Raises:
        WrongUseError: the encoder has fewer layers.
    """
    for key, layer in (("pooled_layers", max(pooled)), ("frozen", frozen)):
        if isinstance(layer, int) and layer > encoder.depth:
            raise WrongUseError(f"{where}.{key}: the encoder has {encoder.depth} layers, not {layer}")
    encoder.freeze(frozen)
