"""The engine cache: names, who may write, whole files or none."""

import dataclasses
import sys

import pytest

from edge_runtime.doctor import storage
from edge_runtime.errors import EdgeemoError, EngineError
from edge_runtime.tensorrt.engine_cache import cached_engines, engine_path, store_engine
from edge_runtime.tensorrt.library import CudaDevice, cuda_device
from edge_runtime.trusted_files import read_trusted
from edge_runtime.windows import WindowPolicy

ORIN = CudaDevice("Orin (nvgpu)", (8, 7))  # stands in for a device that CI does not have
FACTS = {
    "bundle_hash": "ab" * 32,
    "library": "tensorrt 10.3.0.30",
    "device": ORIN,
    "policy": WindowPolicy(),
    "precision": "int8-trt",
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_name_says_what_it_depends_on(tmp_path):
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


def test_an_engine_for_every_card_has_no_device_in_its_name():
    assert "_any_" in engine_path(**(FACTS | {"device": None})).name


def test_what_is_stored_is_read_again_and_no_other_user_can_write_it():
    path = engine_path(**FACTS)
    store_engine(path, b"old")
    store_engine(path, b"engine")
    assert read_trusted(path) == b"engine"
    assert cached_engines() == [path]
    assert [entry.stat().st_mode & 0o777 for entry in (path, path.parent)] == [0o600, 0o700]
    # No temporary file is left behind.
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_another_user_is_not_read(monkeypatch):
    path = engine_path(**FACTS)
    store_engine(path, b"engine")
    monkeypatch.setattr("os.getuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(EngineError, match="may have been written by another user"):
        read_trusted(path)


def test_a_write_that_is_cut_short_leaves_the_old_engine(monkeypatch):
    path = engine_path(**FACTS)
    store_engine(path, b"old")

    def full(self, *_):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(EdgeemoError, match="No space left on device"):
        store_engine(path, b"engine")
    assert read_trusted(path) == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_without_a_gpu_there_is_no_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert cuda_device() is None


class TestDoctor:
    def finding(self):
        (finding,) = storage.engine_cache()
        return finding

    def test_nothing_there_and_nothing_made(self, monkeypatch, tmp_path):
        finding = self.finding()
        assert finding.state == "ok"
        assert finding.found == f"{tmp_path}/edgeemo/engines: writable; no engines yet"
        assert not list(tmp_path.iterdir())

    def test_engines_are_listed(self, monkeypatch, tmp_path):
        path = engine_path(**FACTS)
        store_engine(path, bytes(2_500_000))
        assert self.finding().found.endswith(f"writable; {path.name} (2.5 MB)")

    def test_others_may_write(self, monkeypatch, tmp_path):
        path = engine_path(**FACTS)
        store_engine(path, b"engine")
        path.parent.chmod(0o777)
        finding = self.finding()
        assert (finding.state, finding.remedy) == ("can be better", f"chmod 700 {path.parent}")
