"""Engines that measure graphs with the arithmetic of the device, on any machine.

Devices compute the CPU form exactly (`edge_runtime/engines/kernels.py`); an engine that does not is not used there. An
export therefore measures it with INT8 kernels if those of this processor are exact, and in float otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill.student import Student
from edge_runtime.bundles.manifest import GRAPHS, Precision
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.kernels import products_are_exact
from edge_runtime.machine import instruction_sets, processor


def open_graph(path: Path, reference: npt.NDArray[np.float32], precision: Precision) -> OnnxEngine:
    """Return the engine that measures a graph."""
    return OnnxEngine(path, reference, precision, simulated=precision == "int8-cpu" and not products_are_exact())


def open_graphs(folder: Path, student: Student) -> dict[Precision, OnnxEngine]:
    """Return an engine for each graph in a directory."""
    reference = student.reference.numpy()
    return {
        precision: open_graph(folder / name, reference, precision)
        for name, precision in GRAPHS.items()
        if (folder / name).is_file()
    }


def arithmetic_of(precision: Precision) -> str:
    """Return a description of the arithmetic that measures an INT8 graph on this machine, for the bundle."""
    here = f"{processor()} ({instruction_sets() or 'no instructions for INT8'})"
    if precision != "int8-cpu":
        return "a float simulation"
    if products_are_exact():
        return f"the INT8 kernels of {here}, which are exact"
    return f"a float simulation, since the INT8 kernels of {here} are not exact"
