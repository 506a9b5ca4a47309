"""Names of cached engines, and (with a GPU) the engines themselves."""

import dataclasses

import pytest

from edge_runtime.bundle import load_bundle
from edge_runtime.windows import WindowPolicy
from export.engine_cache import CudaDevice, build_for_this_device, cuda_device, engine_path

ORIN = CudaDevice("Orin (nvgpu)", (8, 7))  # stands in for a device that CI does not have
FACTS = {
    "bundle_hash": "ab" * 32,
    "library": "tensorrt 10.3.0.30",
    "device": ORIN,
    "policy": WindowPolicy(),
    "precision": "int8-trt",
}


def test_the_name_says_what_it_depends_on(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = engine_path(**FACTS)
    assert path.parent == tmp_path / "edgeemo" / "engines"
    assert path.name == "abababababababab_tensorrt-10.3.0.30_sm87_Orin-nvgpu-_4000-48000_int8-trt.engine"


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_hash": "cd" * 32},
        {"library": "tensorrt 10.7.0.23"},
        {"device": dataclasses.replace(ORIN, compute_capability=(8, 6))},
        {"device": dataclasses.replace(ORIN, name="Other")},
        {"policy": WindowPolicy(seconds=2.0)},
        {"precision": "fp32"},
    ],
)
def test_anything_else_makes_another_name(change):
    assert engine_path(**FACTS) != engine_path(**(FACTS | change))


@pytest.mark.gpu
def test_engines_are_built_on_the_device(bundle_dir, monkeypatch, tmp_path):
    device = cuda_device()
    if device is None:
        pytest.skip("no CUDA device")
    pytest.importorskip("tensorrt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = build_for_this_device(load_bundle(bundle_dir), device)
    assert [path.is_file() for _, path in made] == [True, True]
    assert made[1][0].int8_layers > 0


def test_without_a_gpu_there_is_no_device(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert cuda_device() is None


def test_pycuda_without_a_driver_is_no_device(monkeypatch, tmp_path):
    """pycuda is stood in for: installed, but libcuda is not there."""
    import sys

    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pycuda", raising=False)
    assert cuda_device() is None
    monkeypatch.delitem(sys.modules, "pycuda", raising=False)
