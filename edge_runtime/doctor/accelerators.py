"""Checks of the processor's INT8 kernels, ONNX Runtime, CUDA, TensorRT and pycuda."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from packaging.version import InvalidVersion, Version

from edge_runtime.doctor.finding import Finding, rated
from edge_runtime.doctor.system import System
from edge_runtime.engines.kernels import products_are_exact, products_saturate
from edge_runtime.machine import KERNELS, processor, processor_kind
from edge_runtime.tensorrt.library import installed, library_version

TENSORRT = ("10.3", "12")
"""The oldest supported TensorRT, and the first that has not been tested."""
ANOTHER_RUNTIME = "install another ONNX Runtime: pip install --upgrade onnxruntime"
_ON_JETSON = "install JetPack's, system-wide: sudo apt-get install nvidia-jetpack"


def onnx_runtime() -> Iterator[Finding]:
    """Check ONNX Runtime."""
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__}, providers {providers}")


def int8_products() -> Iterator[Finding]:
    """Check whether INT8 products of ONNX Runtime are exact by default, with the session entry, or not at all."""
    what = "INT8 products"
    if not products_saturate():
        yield Finding(what, "ok", "exact in ONNX Runtime")
    elif products_are_exact():
        yield Finding(what, "ok", "saturate in ONNX Runtime by default; edgeemo selects exact kernels")
    else:
        yield Finding(what, "can be better", "not exact in ONNX Runtime; INT8 runs in float, slower", ANOTHER_RUNTIME)


def int8(system: System) -> Iterator[Finding]:
    """Check the INT8 instructions of the processor, and the kernels of ONNX Runtime for them."""
    cpuinfo = system.path("/proc/cpuinfo")
    kind = processor_kind(cpuinfo)
    if kind:
        yield Finding("processor", "ok", f"{processor(cpuinfo)}; INT8 by {KERNELS[kind]}")
    else:
        yield Finding("processor", "unknown", f"{processor(cpuinfo)}; the system does not list its instructions")


def cuda(result: dict[str, Any], *, jetson: bool) -> Iterator[Finding]:
    """Check the CUDA driver and its devices."""
    what = "CUDA driver"
    remedy = "flash JetPack again" if jetson else "run nvidia-smi for the reason, and install the driver again"
    if "missing" in result and jetson:
        remedy = "in a container: --runtime nvidia; else flash JetPack again"
        yield Finding(what, "missing", f"none ({result['missing']})", remedy)
    elif "missing" in result:
        yield Finding(what, "ok", "none: graphs run on the CPU, in ONNX Runtime")
    elif "failed" in result:
        found = f"{result.get('driver', '')} does not start ({result['failed']})".strip()
        yield Finding(what, "can be better", found, remedy)
    elif not result["devices"]:
        yield Finding(what, "can be better", f"for CUDA {result['driver']}, but no device", remedy)
    else:
        yield Finding(what, "ok", f"for CUDA up to {result['driver']}")
        for number, device in enumerate(result["devices"]):
            found = f"{device['name']}, compute capability {device['compute_capability']}, {device['memory_mb']} MB"
            yield Finding(f"CUDA device {number}", "ok", found)


def tensorrt(*, nvidia: bool, jetson: bool) -> Iterator[Finding]:
    """Check TensorRT and pycuda, where there is a device for them."""
    if not nvidia and not (installed("tensorrt") or installed("pycuda")):
        return
    lacking = "not installed: graphs run in ONNX Runtime"
    from_pip = 'pip install "edgeemo[tensorrt]"'
    if installed("tensorrt"):
        yield _tensorrt_version(library_version("tensorrt").removeprefix("tensorrt "), jetson=jetson)
    else:
        remedy = f"{_ON_JETSON}; in a virtual environment use --system-site-packages" if jetson else from_pip
        yield Finding("TensorRT", "missing", lacking, remedy)
    if installed("pycuda"):
        try:
            version = importlib.metadata.version("pycuda")
        except importlib.metadata.PackageNotFoundError:
            version = "installed, of an unknown version"
        yield Finding("pycuda", "ok", version)
    else:
        yield Finding("pycuda", "missing", lacking, from_pip)


def _tensorrt_version(version: str, *, jetson: bool) -> Finding:
    oldest, beyond = map(Version, TENSORRT)
    try:
        supported = oldest <= Version(version) < beyond
    except InvalidVersion:
        return Finding("TensorRT", "unknown", f"'{version}' is not a version number")
    remedy = "flash JetPack 6.1 or newer" if jetson else 'pip install "tensorrt>=10.3,<12"'
    return rated("TensorRT", supported, version if supported else f"{version} is not within {oldest} to 11.x", remedy)
