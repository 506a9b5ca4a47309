"""Which TensorRT and which GPU are here. Neither is needed to import this module."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from edge_runtime.errors import MissingPartError, missing_extra

Library = Literal["tensorrt", "tensorrt_rtx"]
"""``tensorrt`` builds on the device for the device; ``tensorrt_rtx`` ahead of time for desktop RTX cards."""
EXTRA: dict[Library, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


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
        # Installed without a driver (as in a container), pycuda fails on import.
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


def quiet_log(trt: Any) -> Any:
    """Return a logger that keeps errors and the description of a built engine, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.described = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message.partition("\n")[0])
            if "LayerType:" in message:
                self.described += message + "\n"

        def first_error(self) -> str:
            return next(filter(None, self.errors), "no reason given")

        def last_error(self) -> str:
            """Return the last error, and clear all."""
            error = self.errors[-1] if self.errors else ""
            self.errors.clear()
            return error or "no reason given"

    return Log()
