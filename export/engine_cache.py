"""TensorRT engines of this device, in the user's cache: never in a bundle, since an engine is native code.

An engine is named by all that it depends on, so another TensorRT, device, bundle or window makes another engine.
Imports neither torch nor onnx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.files import cache_directory, replacing
from edge_runtime.manifest import Precision
from edge_runtime.windows import SHORTEST, WindowPolicy
from export.tensorrt_build import Build, available, build


@dataclass(frozen=True)
class CudaDevice:
    """The GPU that engines are built on and for."""

    name: str
    compute_capability: tuple[int, int]


def cuda_device() -> CudaDevice | None:
    """Return the first CUDA device, or None without one, without a driver, or without pycuda."""
    try:
        # Installed without a driver (in a container, say), pycuda fails on import.
        import pycuda.driver as cuda
    except ImportError:
        return None
    try:
        cuda.init()
        if cuda.Device.count() == 0:
            return None
        device = cuda.Device(0)
    except cuda.Error:
        return None
    return CudaDevice(device.name(), tuple(device.compute_capability()))


def engine_path(bundle_hash: str, library: str, device: CudaDevice, policy: WindowPolicy, precision: Precision) -> Path:
    """Return where the engine lies that depends on exactly these.

    Args:
        bundle_hash: hash of the bundle.
        library: name and full version, such as ``tensorrt 10.3.0.30``.
        device: the GPU.
        policy: window; the profile follows from it.
        precision: ``fp32`` or ``int8-trt``.
    """
    major, minor = device.compute_capability
    profile = f"{SHORTEST}-{policy.samples}"
    parts = (bundle_hash[:16], library, f"sm{major}{minor}", device.name, profile, precision)
    return cache_directory() / "engines" / ("_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts) + ".engine")


def build_for_this_device(bundle: Bundle, device: CudaDevice) -> list[tuple[Build, Path]]:
    """Build the graphs that TensorRT takes into the cache; nothing where ``tensorrt`` is not installed.

    Raises:
        EdgeemoError: TensorRT refuses a graph.
    """
    if not available("tensorrt"):
        return []
    made = []
    policy = bundle.manifest.window
    for precision in bundle.precisions:
        if precision != "int8-cpu":
            built = build(bundle.graph(precision), policy, "tensorrt")
            path = engine_path(bundle.hash, built.library, device, policy, precision)
            with replacing(path) as temporary:
                temporary.write_bytes(built.plan)
            made.append((built, path))
    return made
