"""What a figure was measured on; runs on the device.

What a Jetson, a driver and TensorRT say of themselves is what `edgeemo doctor` finds.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from edge_runtime.doctor import accelerators, board
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.probes import probe
from edge_runtime.doctor.system import System
from edge_runtime.engines.kernels import products_saturate
from edge_runtime.machine import instruction_sets, processor

_PACKAGES = ("edgeemo", "numpy", "onnxruntime", "torch", "transformers", "opensmile", "onnx")
_NAMES = {
    "board": "board",
    "Jetson Linux (L4T)": "l4t",
    "JetPack": "jetpack",
    "power mode": "power_mode",
    "cores": "cores_online",
    "CPU governor": "governor",
    "CUDA driver": "cuda_driver",
    "CUDA device 0": "cuda_device",
    "TensorRT": "tensorrt",
    "pycuda": "pycuda",
}
"""What doctor's findings are called in an environment block."""


def describe() -> dict[str, str]:
    """Return processor, instruction sets that INT8 speed depends on, whether its products are exact, and versions."""
    facts = {
        "processor": processor(),
        "instruction_sets": instruction_sets(),
        "int8_products": "saturate, so exact kernels are asked for" if products_saturate() else "exact as they are",
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    return facts | {name: installed[name] for name in _PACKAGES if name in installed}


def describe_board(system: System | None = None) -> dict[str, str]:
    """Return what latency and energy depend on besides: board, L4T, JetPack, power mode, governor, driver, TensorRT.

    What the machine does not tell is there, in doctor's words; TensorRT only where an NVIDIA device or the library is.

    Args:
        system: where the system's files are; this machine's if not told.
    """
    return {_NAMES[each.what]: each.found for each in _findings(system or System()) if each.what in _NAMES}


def _findings(system: System) -> Iterator[Finding]:
    yield from board.board(system)
    yield from board.cores(system)
    jetson = board.is_jetson(system)
    cuda = probe("cuda")
    yield from accelerators.cuda(cuda, jetson=jetson)
    yield from accelerators.tensorrt(nvidia=jetson or "missing" not in cuda, jetson=jetson)
