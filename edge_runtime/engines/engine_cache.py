"""TensorRT engines of this device, in the user's cache: never in a bundle, since an engine is native code.

An engine is named by all that it depends on, so another TensorRT, device, bundle, window or precision makes another
engine. Loading one runs what is in it: only files that nobody but this user could have written are read.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_runtime.bundles.manifest import Precision
from edge_runtime.errors import EngineError, MissingPartError, missing_extra
from edge_runtime.files import cache_directory, replacing
from edge_runtime.windows import SHORTEST, WindowPolicy

Library = Literal["tensorrt", "tensorrt_rtx"]
"""``tensorrt`` builds on the device for the device; ``tensorrt_rtx`` ahead of time for desktop RTX cards."""
EXTRA: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
"""The extra that brings each."""


@dataclass(frozen=True)
class CudaDevice:
    """The GPU that engines are built on and for."""

    name: str
    compute_capability: tuple[int, int]

    @property
    def label(self) -> str:
        """Compute capability and name."""
        major, minor = self.compute_capability
        return f"sm{major}{minor}_{self.name}"


def installed(library: Library | Literal["pycuda"]) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(library) is not None


def load_library(library: Library) -> Any:
    """Import a TensorRT.

    Raises:
        MissingPartError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise missing_extra(EXTRA[library], library) from error


def library_version(library: Library) -> str:
    """Return name and full version, as ``tensorrt 10.3.0.30``.

    Raises:
        MissingPartError: it is not installed.
    """
    return f"{library} {load_library(library).__version__}"


def require_cuda_device() -> CudaDevice:
    """Return the first CUDA device.

    Raises:
        MissingPartError: pycuda, the driver, or a device is missing.
    """
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        # Installed without a driver (in a container, say), pycuda fails on import.
        if importlib.util.find_spec("pycuda") is not None:
            raise MissingPartError(
                f"there is no CUDA driver on this machine ({error}); use --backend onnxruntime"
            ) from error
        raise missing_extra("tensorrt", "pycuda") from error
    try:
        cuda.init()
        if cuda.Device.count() == 0:
            raise MissingPartError("there is no CUDA device on this machine; use --backend onnxruntime")
        device = cuda.Device(0)
        major, minor = device.compute_capability()
        return CudaDevice(device.name(), (int(major), int(minor)))
    except cuda.Error as error:
        raise MissingPartError(f"the CUDA driver does not start ({error}); use --backend onnxruntime") from error


def cuda_device() -> CudaDevice | None:
    """Return the first CUDA device, or None without one, without a driver, or without pycuda."""
    try:
        return require_cuda_device()
    except MissingPartError:
        return None


def engines_directory() -> Path:
    """Return where engines lie, ``$XDG_CACHE_HOME/edgeemo/engines``."""
    return cache_directory() / "engines"


def engine_path(
    bundle_hash: str, library: str, device: CudaDevice | None, policy: WindowPolicy, precision: Precision
) -> Path:
    """Return where the engine lies that depends on exactly these.

    Args:
        bundle_hash: hash of the bundle.
        library: name and full version, such as ``tensorrt 10.3.0.30``.
        device: the GPU; None for an engine that was built ahead of time for all cards that its library builds for.
        policy: window; the profile follows from it.
        precision: precision of the graph.
    """
    profile = f"{SHORTEST}-{policy.samples}"
    label = device.label if device else "any"
    return engines_directory() / f"{_name(bundle_hash[:16], library, label, profile, precision)}.engine"


def timing_path(library: str, device: CudaDevice) -> Path:
    """Return where the builder's measured kernel times lie, which make the next build on this device faster."""
    return engines_directory() / f"{_name(library, device.label)}.timing"


def _name(*parts: str) -> str:
    return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)


def cached_engines() -> list[Path]:
    """Return the engines in the cache, by name."""
    return sorted(engines_directory().glob("*.engine"))


def check_writable(directory: Path) -> None:
    """Make a directory and see whether a file can be written to it.

    Raises:
        EngineError: it cannot.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise EngineError(
            f"{directory}: cannot be written to ({error.strerror}); "
            "for another engine cache set XDG_CACHE_HOME, for a file give --out"
        ) from error


def store(path: Path, content: bytes) -> None:
    """Write an engine, a timing cache or a verdict as a whole or not at all, so that nobody else can change it.

    Raises:
        EngineError: the directory cannot be written.
        EdgeemoError: the disk is full.
    """
    check_writable(path.parent)
    if path.parent == engines_directory() and path.parent.stat().st_uid == os.getuid():
        path.parent.chmod(0o700)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    path.chmod(0o600)


def read_trusted(path: Path) -> bytes:
    """Read a file of the engine cache, if this user alone can have written it.

    Raises:
        EngineError: it cannot be read, or another user may have written it.
    """
    try:
        only_ours(path.parent, path.parent.stat())
        # No link is followed: what counts is who may write the file itself.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            only_ours(path, os.fstat(stream.fileno()))
            return stream.read()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror})") from error


def only_ours(path: Path, status: os.stat_result) -> None:
    """Refuse a file or directory that another user may have changed.

    Raises:
        EngineError: it is another user's, or its group or everybody may write to it.
    """
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(
            f"{path}: may have been written by another user, and an engine is native code: it is not loaded"
        )
