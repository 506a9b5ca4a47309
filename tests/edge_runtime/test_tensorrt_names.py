"""Every name of TensorRT that we use exists in the real library (``tensorrt_rtx``, whose interface is the same)."""

import ast
import inspect
from pathlib import Path

import pytest

import edge_runtime.tensorrt.builder
import edge_runtime.tensorrt.engine
from tests.conftest import need

MODULES = (edge_runtime.tensorrt.engine, edge_runtime.tensorrt.builder)
# What our variables hold.
KINDS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "_runtime": "Runtime",
    "_execution": "IExecutionContext",
}
# What a call returns, where the result is used at once.
RETURNS = {
    "Runtime": "Runtime",
    "create_engine_inspector": "EngineInspector",
    "get_timing_cache": "ITimingCache",
    "get_error": "ParserError",
}
DIFFERING: set[str] = set()
"""Names of ``tensorrt`` that ``tensorrt_rtx`` lacks; none today."""


def used_names():
    """Return (owner, attribute) of every use of TensorRT in our modules."""
    found = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                owner = _owner(node.value)
                if owner is not None:
                    found.add((owner, node.attr))
    return found


def _owner(value):
    if isinstance(value, ast.Name):
        return "" if value.id == "trt" else KINDS.get(value.id)
    if isinstance(value, ast.Call):
        return RETURNS.get(value.func.attr) if isinstance(value.func, ast.Attribute) else None
    if isinstance(value, ast.Attribute):
        above = _owner(value.value)
        return value.attr if above == "" else KINDS.get(value.attr)
    return None


def test_all_are_real():
    need("tensorrt_rtx")
    import tensorrt_rtx as real

    names = used_names()
    assert len(names) >= 40
    for expected in (("IExecutionContext", "execute_async_v3"), ("", "Runtime"), ("MemoryPoolType", "WORKSPACE")):
        assert expected in names
    missing = {f"{owner}.{name}" for owner, name in names if not hasattr(getattr(real, owner) if owner else real, name)}
    assert missing == DIFFERING


@pytest.mark.parametrize(("ours", "theirs"), [("_Engine", "ICudaEngine"), ("_Execution", "IExecutionContext")])
def test_the_simulation_offers_nothing_that_is_not_real(ours, theirs):
    need("tensorrt_rtx")
    import tensorrt_rtx as real

    from tests import simulated_tensorrt

    own = {name for name in vars(getattr(simulated_tensorrt, ours)) if not name.startswith("_")}
    assert own
    assert own <= set(dir(getattr(real, theirs)))


def test_pycuda_is_used_by_the_names_that_the_simulation_has():
    """pycuda is not here: the names are those of its documentation, in one place."""
    from tests import simulated_cuda

    tree = ast.parse(Path(edge_runtime.tensorrt.engine.__file__).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cuda"
    }
    assert used == {
        "Device", "Error", "Stream", "get_driver_version", "init", "mem_alloc", "memcpy_dtoh_async",
        "memcpy_htod_async", "pagelocked_empty",
    }  # fmt: skip
    assert all(hasattr(simulated_cuda, name) for name in used)
