"""`edgeemo build`: ahead of time with NVIDIA's real builder, and on a simulated device."""

import json
import pickle
import shutil
import stat
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import soundfile

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import GateError
from edge_runtime.tensorrt.build_engines import build_engines, int8_warning
from edge_runtime.tensorrt.check import synthetic_windows
from edge_runtime.tensorrt.engine_cache import cached_engines, engines_directory
from edge_runtime.tensorrt.library import cuda_device
from tests.conftest import edgeemo, need, tone
from tests.plain_bundles import change, entry


def rewritten(bundle, target, edit):
    """Copy a bundle, change its files, and make its manifest fit again."""
    shutil.copytree(bundle, target)
    edit(target)
    change(target, lambda content: content.update(files=[entry(target, each["name"]) for each in content["files"]]))
    return target


TRT = "model.int8.trt.onnx"


def newer_opset(folder):
    model = onnx.load(folder / TRT)
    model.opset_import[0].version = 21
    onnx.save(model, folder / TRT)


class TestAheadOfTime:
    def test_every_graph_is_built(self, untrained_bundle, tmp_path, monkeypatch):
        need("tensorrt_rtx")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        every = [each for precision in ("int8-trt", "fp16", "fp32") for each in ("--precision", precision)]
        done = edgeemo("build", untrained_bundle, "--target", "rtx", *every, "--layers", "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["bundle"] == load_bundle(untrained_bundle).hash
        int8, fp16, fp32 = said["engines"]
        assert int8["library"].startswith("tensorrt_rtx ")
        # The DFT stays in float32; the last classifier is folded into what is before it or too small to be listed.
        assert int8["by_precision"]["int8"] == int8["int8_layers"] >= int8["matrix_layers"] - 2 > 8
        assert set(fp16["by_precision"]) == {"fp16", "fp32"}
        assert set(fp32["by_precision"]) == {"fp32"}
        assert [row["warning"] for row in said["engines"]] == ["", "", ""]
        assert {row["path"] for row in said["engines"]} == {str(path) for path in cached_engines()}
        # Between its INT8 layers the INT8 engine computes in FP16.
        assert "fp16" in done.stderr
        for path in cached_engines():
            assert "_any_4000-32000_" in path.name
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(engines_directory().stat().st_mode) == 0o700

    def test_into_a_file(self, untrained_bundle, tmp_path, monkeypatch):
        need("tensorrt_rtx")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        out = tmp_path / "model.engine"
        done = edgeemo("build", untrained_bundle, "--target", "rtx", "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["engines"]
        assert (row["path"], row["precision"], row["size"]) == (str(out), "int8-trt", out.stat().st_size)
        assert cached_engines() == []

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (newer_opset, "is written in ONNX opset 21, and devices read 17 to 20; export the bundle again"),
            (lambda folder: shutil.copy(folder / "model.int8.cpu.onnx", folder / TRT), "parser rejects it"),
        ],
        ids=["opset", "the CPU's INT8 form"],
    )
    def test_graphs_that_no_device_takes(self, untrained_bundle, tmp_path, change, why):
        need("tensorrt_rtx")
        wrong = rewritten(untrained_bundle, tmp_path / "wrong", change)
        done = edgeemo("build", wrong, "--target", "rtx", "--out", tmp_path / "x.engine")
        assert done.returncode == 1
        assert f"{TRT}: " in done.stderr.splitlines()[-1]
        assert why in done.stderr.splitlines()[-1]
        assert not (tmp_path / "x.engine").exists()

    def test_an_engine_without_int8_is_a_warning(self, untrained_bundle, tmp_path):
        need("tensorrt_rtx")
        float_graph = lambda folder: shutil.copy(folder / "model.fp32.onnx", folder / TRT)  # noqa: E731
        plain = rewritten(untrained_bundle, tmp_path / "plain", float_graph)
        done = edgeemo("build", plain, "--target", "rtx", "--out", tmp_path / "x.engine", "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["engines"]
        assert row["warning"].startswith("no INT8: none of the")
        assert row["warning"] in done.stderr


class TestWrongUse:
    def test_one_file_for_two_engines(self, untrained_bundle, tmp_path):
        arguments = ("--target", "rtx", "--out", tmp_path / "x", "--precision", "fp32", "--precision", "int8-trt")
        done = edgeemo("build", untrained_bundle, *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == "Error: --out takes one engine; give one --precision"

    def test_no_such_graph(self, untrained_bundle, tmp_path):
        shutil.copytree(untrained_bundle, tmp_path / "less")
        kept = [
            each for each in load_bundle(untrained_bundle).manifest.model_dump()["files"] if "fp16" not in each["name"]
        ]
        change(tmp_path / "less", lambda content: content.update(files=kept))
        done = edgeemo("build", tmp_path / "less", "--target", "rtx", "--precision", "fp16")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith("holds no fp16 graph; make one with: edgeemo export --fp16")

    def test_cache_that_cannot_be_written(self, untrained_bundle, tmp_path, monkeypatch):
        need("tensorrt_rtx")
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        done = edgeemo("build", untrained_bundle, "--target", "rtx")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"Error: {tmp_path}/file/edgeemo/engines: cannot be written to (Not a directory); "
            "for another engine cache set XDG_CACHE_HOME, for a file give --out"
        )


class TestOnADevice:
    @pytest.mark.parametrize("version", ["10.3.0.30", "11.4.1.5"])
    def test_from_10_3_to_11(self, untrained_bundle, simulated_gpu, monkeypatch, version):
        """The flag for strong typing is there in 10 and may be gone in 11."""
        monkeypatch.setenv("SIMULATED_TENSORRT", version)
        done = edgeemo("build", untrained_bundle, "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)["engines"]
        assert row["library"] == f"tensorrt {version}"
        assert row["parity"]["windows"] == 8
        assert row["parity"]["largest_difference"] == 0  # the simulated engine runs the graph itself
        assert row["by_precision"] == {"int8": 1}  # what the simulated inspector tells
        (path,) = cached_engines()
        assert f"_tensorrt-{version}_sm87_Orin-simulated-_4000-32000_int8-trt.engine" in path.name
        assert [path.name for path in engines_directory().glob("*.timing")] == [
            f"tensorrt-{version}_sm87_Orin-simulated-.timing"
        ]

    def test_a_damaged_timing_cache_is_ignored(self, untrained_bundle, simulated_gpu):
        bundle = load_bundle(untrained_bundle)
        build_engines(bundle, ["fp32"], cuda_device())
        (timing,) = engines_directory().glob("*.timing")
        timing.write_bytes(b"nonsense")
        (made,) = build_engines(bundle, ["fp32"], cuda_device())
        assert made.path.is_file()

    def test_an_engine_with_other_results_is_not_stored(self, untrained_bundle, simulated_gpu):
        simulated_gpu.noise = 1.0
        with pytest.raises(GateError, match="has other results on this device, and the engine was not stored"):
            build_engines(load_bundle(untrained_bundle), ["int8-trt"], cuda_device())
        assert cached_engines() == []

    def test_the_synthetic_windows_reach_the_corners_of_the_profile(self):
        windows = synthetic_windows(32_000)
        assert {len(pcm) for pcm in windows} >= {4_000, 4_001, 31_999, 32_000}
        assert all(pcm.dtype == np.float32 and 0.05 < np.abs(pcm).max() < 1 for pcm in windows)
        assert all(np.array_equal(a, b) for a, b in zip(windows, synthetic_windows(32_000), strict=True))

    def test_workspace_and_sparsity_reach_the_builder(self, untrained_bundle, simulated_gpu, tmp_path):
        import tensorrt_rtx

        sparse = shutil.copytree(untrained_bundle, tmp_path / "sparse")
        change(sparse, lambda content: content.update(pruning={"sparsity": "2:4"}))
        asked = {}
        for folder in (untrained_bundle, sparse):
            (made,) = build_engines(load_bundle(folder), ["int8-trt"], cuda_device(), workspace_mb=64)
            content = pickle.loads(made.built.plan.removeprefix(b"simulated engine"))
            asked[folder] = (made.built.sparse, content["flags"] >> int(tensorrt_rtx.BuilderFlag.SPARSE_WEIGHTS) & 1)
            assert content["workspace"] == 64 << 20
            assert content["profile"] == [(1, 4_000), (1, 32_000), (1, 32_000)]
        assert asked == {untrained_bundle: (False, 0), sparse: (True, 1)}

    def test_a_bundle_on_read_only_storage(self, untrained_bundle, simulated_gpu, tmp_path):
        shutil.copytree(untrained_bundle, tmp_path / "bundle")
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bundle").iterdir()}
        for path in (*(tmp_path / "bundle").iterdir(), tmp_path / "bundle"):
            path.chmod(path.stat().st_mode & ~0o222)
        soundfile.write(tmp_path / "tone.wav", tone(3.0), 16_000)
        done = edgeemo("listen", tmp_path / "bundle", "--source", tmp_path / "tone.wav", "--no-vad")
        assert done.returncode == 0, done.stderr
        assert '"status":"backend"' not in done.stdout
        assert done.stdout.count('"backend":"tensorrt 10.3.0.30 int8-trt"') > 3
        done = edgeemo("build", tmp_path / "bundle")
        assert done.returncode == 0, done.stderr
        # Root may write anywhere, so look at what was done too.
        assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bundle").iterdir()} == before
        (tmp_path / "bundle").chmod(0o755)

    def test_no_device(self, untrained_bundle, simulated_gpu, tmp_path):
        (tmp_path / "simulated" / "pycuda" / "driver.py").write_text("raise ImportError('libcuda.so.1: not found')")
        done = edgeemo("build", untrained_bundle)
        assert done.returncode == 2
        assert "there is no CUDA driver on this machine (libcuda.so.1: not found)" in done.stderr.splitlines()[-1]


def test_the_best_precision_comes_first(untrained_bundle):
    assert load_bundle(untrained_bundle).engine_precisions == ("int8-trt", "fp16", "fp32")


def test_int8_warning():
    def built(int8, matrix):
        return SimpleNamespace(library="tensorrt 10.3", int8_layers=int8, matrix_layers=matrix)

    assert int8_warning(built(11, 12), "int8-trt") == ""
    assert int8_warning(built(0, 12), "fp32") == ""
    assert "none of the 12" in int8_warning(built(0, 12), "int8-trt")
    assert "in part only: 3 of 12" in int8_warning(built(3, 12), "int8-trt")
    assert "cannot be confirmed" in int8_warning(built(0, 0), "int8-trt")
