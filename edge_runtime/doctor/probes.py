"""Queries of native libraries, which may hang, crash or write to the error stream: each runs in a process of its own.

``python -m edge_runtime.doctor.probes NAME`` prints its result as JSON.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from edge_runtime.errors import MissingPartError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.deadline import NoAnswerError, leave, within_deadline
from edge_runtime.sources.devices import input_devices, portaudio

COMMAND = (sys.executable, "-m", "edge_runtime.doctor.probes")
SECONDS = 20.0
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and ..._MINOR.
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 256


def probe(name: Literal["cuda", "sound"], seconds: float = SECONDS) -> dict[str, Any]:
    """Return the result of a probe; ``failed`` holds the reason where it hung, crashed or gave no JSON."""
    try:
        done = subprocess.run(
            [*COMMAND, name],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {seconds:g} s"}
    except OSError as error:
        return {"failed": f"cannot be started ({error.strerror})"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"ended with code {done.returncode}: {last}"}
    try:
        # The library may have written lines of its own before the result.
        result: dict[str, Any] = json.loads(done.stdout.rpartition("\n")[2])
    except json.JSONDecodeError:
        return {"failed": f"gave no answer: {done.stdout[-80:]!r}"}
    return result


class _RefusedError(Exception):
    pass


def cuda(load: Callable[[str], Any] = ctypes.CDLL) -> dict[str, Any]:
    """Query the CUDA driver, which works before pycuda is installed; no context is created.

    Calls and numbers are those of NVIDIA's CUDA Driver API reference (``cuda.h``).

    Returns:
        ``missing`` (the error) without a driver. Else ``driver`` (newest supported CUDA, as ``12.6``) and ``devices``,
        each with ``name``, ``compute_capability``, ``memory_mb``; ``failed`` (the error) if the driver does not start.
    """
    try:
        library = load("libcuda.so.1")
    except OSError as error:
        return {"missing": str(error)}
    found: dict[str, Any] = {"driver": "", "devices": []}
    try:
        version, count = ctypes.c_int(), ctypes.c_int()
        _call(library, "cuDriverGetVersion", ctypes.byref(version))
        found["driver"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        _call(library, "cuInit", 0)
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        found["devices"] = [_device(library, ordinal) for ordinal in range(count.value)]
    except (_RefusedError, AttributeError) as error:
        found["failed"] = str(error)
    return found


def _device(library: Any, ordinal: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceGet", ctypes.byref(device), ordinal)
    _call(library, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{major.value}.{minor.value}",
        "memory_mb": round(memory.value / 1e6),
    }


def _call(library: Any, name: str, *arguments: Any) -> None:
    code = getattr(library, name)(*arguments)
    if code:
        raise _RefusedError(f"{name} gave error {code}")


def sound() -> dict[str, Any]:
    """Query PortAudio.

    Returns:
        ``missing`` (the error) without PortAudio. Else its ``version``, and ``inputs``: the fields of an `InputDevice`,
        with ``mono_16k`` and ``native``: the error with 16 kHz mono, or with its own format, and None where accepted.
        ``hangs`` (a sentence) if the sound server does not answer.
    """
    try:
        return within_deadline(_sound)
    except MissingPartError as error:
        return {"missing": str(error.__cause__)}
    except NoAnswerError as error:
        return {"hangs": error.message}


def _sound() -> dict[str, Any]:
    inputs = input_devices()
    described = [
        asdict(each)
        | {
            "mono_16k": _refusal(each.index, 1, SAMPLE_RATE),
            "native": _refusal(each.index, each.channels, each.sample_rate),
        }
        for each in inputs
    ]
    return {"version": portaudio().get_portaudio_version()[1], "inputs": described}


def _refusal(index: int, channels: int, rate: int) -> str | None:
    sounddevice = portaudio()
    try:
        sounddevice.check_input_settings(device=index, channels=channels, samplerate=rate, dtype="float32")
    except sounddevice.PortAudioError as error:
        return str(error)
    return None


if __name__ == "__main__":
    json.dump({"cuda": cuda, "sound": sound}[sys.argv[1]](), sys.stdout)
    leave(0)
