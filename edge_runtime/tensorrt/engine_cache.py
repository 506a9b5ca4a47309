"""TensorRT engines of this device, in the user's cache: never in a bundle, since an engine is native code.

An engine is named by all that it depends on. Loading one runs the code in it: only files that no other user can have
written are read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import EdgeemoError, EngineError
from edge_runtime.files import cache_directory
from edge_runtime.tensorrt.library import CudaDevice
from edge_runtime.trusted_files import check_writable, store
from edge_runtime.windows import SHORTEST, WindowPolicy


def engines_directory() -> Path:
    """Return the directory of engines, ``$XDG_CACHE_HOME/edgeemo/engines``.

    Raises:
        EngineError: the user has no home directory; ONNX Runtime works without one.
    """
    try:
        return cache_directory() / "engines"
    except EdgeemoError as error:
        raise EngineError(error.message) from error


def engine_path(
    bundle_hash: str, library: str, device: CudaDevice | None, policy: WindowPolicy, precision: Precision
) -> Path:
    """Return the path of the engine that depends on exactly these.

    ``library`` has the full version, as ``tensorrt 10.3.0.30``; no device stands for an engine that was built ahead of
    time for all cards of its library.
    """
    profile = f"{SHORTEST}-{policy.chunk or policy.samples}"
    label = device.label if device else "any"
    return engines_directory() / f"{_name(bundle_hash[:16], library, label, profile, precision)}.engine"


def timing_path(library: str, device: CudaDevice) -> Path:
    """Return the path of the builder's measured kernel times, which make the next build on this device faster."""
    return engines_directory() / f"{_name(library, device.label)}.timing"


def _name(*parts: str) -> str:
    return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)


def cached_engines() -> list[Path]:
    """Return the engines in the cache, by name."""
    return sorted(engines_directory().glob("*.engine"))


def store_engine(path: Path, content: bytes) -> None:
    """Write an engine or a timing cache as `edge_runtime.trusted_files.store` does, into a directory of this user's.

    Raises:
        EngineError: the directory cannot be written to.
        EdgeemoError: the disk is full.
    """
    check_writable(path.parent)
    if path.parent == engines_directory() and path.parent.stat().st_uid == os.getuid():
        path.parent.chmod(0o700)
    store(path, content)
