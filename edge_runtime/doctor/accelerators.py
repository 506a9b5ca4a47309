"""What may run the graphs: ONNX Runtime and the processor, CUDA, TensorRT and pycuda."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from packaging.version import InvalidVersion, Version

from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import ProbeError, System, probe
from edge_runtime.engines.kernels import products_are_exact, products_saturate
from edge_runtime.machine import KERNELS, processor, processor_kind
from edge_runtime.tensorrt.library import installed, library_version

PROBE = "edge_runtime.doctor.cuda_probe"
TENSORRT = ("10.3", "12")
"""The oldest TensorRT that works, and the first that is not known to."""
ANOTHER_RUNTIME = "install another ONNX Runtime: pip install --upgrade onnxruntime"
_ON_JETSON = "install JetPack's, system-wide: sudo apt-get install nvidia-jetpack"


def onnx_runtime() -> Iterator[Finding]:
    """Look at ONNX Runtime."""
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__}, providers {providers}")


def int8_products() -> Iterator[Finding]:
    """Compute some INT8 products in ONNX Runtime: exact as they are, or with the session entry, or not at all."""
    what = "INT8 products"
    if not products_saturate():
        yield Finding(what, "ok", "exact in ONNX Runtime as it is")
    elif products_are_exact():
        yield Finding(what, "ok", "saturate in ONNX Runtime as it is; edgeemo has it use exact kernels")
    else:
        yield Finding(what, "can be better", "not exact in ONNX Runtime; INT8 runs in float, slower", ANOTHER_RUNTIME)


def int8(system: System) -> Iterator[Finding]:
    """Look at the instructions of the processor for INT8, and which kernels ONNX Runtime runs with them."""
    cpuinfo = system.path("/proc/cpuinfo")
    kind = processor_kind(cpuinfo)
    if kind:
        yield Finding("processor", "ok", f"{processor(cpuinfo)}; INT8 by {KERNELS[kind]}")
    else:
        yield Finding("processor", "unknown", f"{processor(cpuinfo)}; the system does not list its instructions")


def probe_cuda() -> dict[str, Any]:
    """Return what `cuda_probe.look` tells; ``failed`` where the driver hung or crashed."""
    try:
        return probe(PROBE)
    except ProbeError as error:
        return {"failed": str(error), "driver": "", "devices": []}


def cuda(told: dict[str, Any], *, jetson: bool) -> Iterator[Finding]:
    """Look at the CUDA driver and its devices.

    Args:
        told: what `probe_cuda` returned.
        jetson: whether the machine is one, where the driver comes with JetPack.
    """
    remedy = "flash JetPack again" if jetson else "see what nvidia-smi says, and install the driver again"
    if "missing" in told:
        if jetson:
            remedy = "in a container: --runtime nvidia; else flash JetPack again"
            yield Finding("CUDA driver", "missing", f"none ({told['missing']})", remedy)
        else:
            yield Finding("CUDA driver", "ok", "none: graphs run on the CPU, in ONNX Runtime")
        return
    if "failed" in told:
        yield Finding("CUDA driver", "can be better", f"{told['driver']} does not start ({told['failed']})", remedy)
        return
    if not told["devices"]:
        yield Finding("CUDA driver", "can be better", f"for CUDA {told['driver']}, but no device", remedy)
        return
    yield Finding("CUDA driver", "ok", f"for CUDA up to {told['driver']}")
    for number, device in enumerate(told["devices"]):
        found = f"{device['name']}, compute capability {device['compute_capability']}, {device['memory_mb']} MB"
        yield Finding(f"CUDA device {number}", "ok", found)


def tensorrt(*, nvidia: bool, jetson: bool) -> Iterator[Finding]:
    """Look at TensorRT and pycuda, where there is a device that they could run on.

    Args:
        nvidia: whether this machine has an NVIDIA device.
        jetson: whether it is a Jetson.
    """
    if not nvidia and not (installed("tensorrt") or installed("pycuda")):
        return
    from_pip = 'pip install "edgeemo[tensorrt]"'
    if installed("tensorrt"):
        yield _tensorrt_version(library_version("tensorrt").removeprefix("tensorrt "), jetson=jetson)
    else:
        remedy = f"{_ON_JETSON}; in a virtual environment use --system-site-packages" if jetson else from_pip
        yield Finding("TensorRT", "missing", "not installed: graphs run in ONNX Runtime", remedy)
    if installed("pycuda"):
        try:
            version = importlib.metadata.version("pycuda")
        except importlib.metadata.PackageNotFoundError:
            version = "installed, its version is not told"
        yield Finding("pycuda", "ok", version)
    else:
        yield Finding("pycuda", "missing", "not installed: graphs run in ONNX Runtime", from_pip)


def _tensorrt_version(version: str, *, jetson: bool) -> Finding:
    oldest, beyond = map(Version, TENSORRT)
    try:
        here = Version(version)
    except InvalidVersion:
        return Finding("TensorRT", "unknown", f"'{version}' is no version that can be compared")
    if oldest <= here < beyond:
        return Finding("TensorRT", "ok", version)
    remedy = "flash JetPack 6.1 or newer" if jetson else 'pip install "tensorrt>=10.3,<12"'
    return Finding("TensorRT", "can be better", f"{version} is not within {oldest} to 11.x", remedy)
