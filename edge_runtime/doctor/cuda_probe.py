"""What the CUDA driver knows, as JSON; run as ``python -m edge_runtime.doctor.cuda_probe``.

Through the driver itself, so that a device is seen before pycuda is installed; no context is made. Calls and numbers
are those of NVIDIA's CUDA Driver API reference (``cuda.h``).
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``..._MINOR``."""
_NAME_BYTES = 256


class _RefusedError(Exception):
    pass


def look(load: Callable[[str], Any] = ctypes.CDLL) -> dict[str, Any]:
    """Return ``driver`` (the newest CUDA that it serves, as ``12.6``) and ``devices``, or ``missing``.

    A device has ``name``, ``compute_capability`` and ``memory_mb``. ``failed`` says what the driver answered where it
    does not start.

    Args:
        load: opens a shared library, and raises OSError where it is not there.
    """
    try:
        cuda = load("libcuda.so.1")
    except OSError as error:
        return {"missing": str(error)}
    told: dict[str, Any] = {"driver": "", "devices": []}
    try:
        version = ctypes.c_int()
        _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
        told["driver"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        _call(cuda, "cuInit", 0)
        count = ctypes.c_int()
        _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
        told["devices"] = [_device(cuda, ordinal) for ordinal in range(count.value)]
    except (_RefusedError, AttributeError) as error:
        told["failed"] = str(error)
    return told


def _device(cuda: Any, ordinal: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    memory = ctypes.c_size_t()
    _call(cuda, "cuDeviceGet", ctypes.byref(device), ordinal)
    _call(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{major.value}.{minor.value}",
        "memory_mb": round(memory.value / 1e6),
    }


def _call(cuda: Any, name: str, *arguments: Any) -> None:
    code = getattr(cuda, name)(*arguments)
    if code:
        raise _RefusedError(f"{name} gave error {code}")


if __name__ == "__main__":
    json.dump(look(), sys.stdout)
