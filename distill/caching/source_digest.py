"""Keys of cached values that contain the source code that computes them, so that changed code computes them again."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

AUDIO = (
    "edge_runtime.sources.audio",
    "edge_runtime.sources.automatic_channels",
    "edge_runtime.sources.channel_choice",
    "edge_runtime.sources.channel_evidence",
    "edge_runtime.sources.channels",
    "edge_runtime.sources.decoding",
    "edge_runtime.sources.low_frequencies",
    "edge_runtime.sources.silero",
    "edge_runtime.sources.speech_probe",
)
"""The code that the waveform of a file depends on."""


def source_digest(*modules: str) -> str:
    """Return 16 hexadecimal digits of the sha256 of the source text of some modules.

    A comment changes it too: computing a value once more than necessary is better than a wrong one.

    Args:
        modules: dotted names of all modules that the value depends on; a package stands for all modules below it.

    Raises:
        ValueError: there is no module of such a name.
    """
    digest = hashlib.sha256()
    for name in sorted({name for module in modules for name in _with_submodules(module)}):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        digest.update(f"{name}\n".encode() + Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def _with_submodules(module: str) -> Iterator[str]:
    """Yield the name of a module and of all modules below it; only the packages above them are imported."""
    spec = find_spec(module)
    if spec is None:
        raise ValueError(f"{module}: there is no such module; name those that compute the cached value")
    yield module
    for found in pkgutil.iter_modules(spec.submodule_search_locations or ()):
        yield from _with_submodules(f"{module}.{found.name}")
