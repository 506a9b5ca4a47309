"""The TensorRT runtime engine on a simulated CUDA driver (no GPU here), and what happens when a part of it fails."""

import contextlib
import os
import sys
import threading

import numpy as np
import pytest

from edge_runtime import backends
from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.chunks import Begun
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EngineError, MissingPartError, WrongUseError
from edge_runtime.events import EmotionEvent
from edge_runtime.loop.listener import Listener
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.file import FileSource
from edge_runtime.tensorrt.build_engines import build_engines
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.tensorrt.engine_cache import cached_engines
from edge_runtime.tensorrt.library import cuda_device, load_library
from edge_runtime.windows import WindowPolicy
from tests.command import python
from tests.conftest import edgeemo, need, tone
from tests.edge_runtime.test_listening import PLAIN, events_of
from tests.small_bundles import save_bundle


@pytest.fixture
def bundle(untrained_bundle):
    return load_bundle(untrained_bundle)


@pytest.fixture
def plan(simulated_gpu, bundle):
    """A (simulated) engine of the INT8 graph, in the cache."""
    assert simulated_gpu.devices
    (made,) = build_engines(bundle, ["int8-trt"], cuda_device())
    return made.path.read_bytes()


@pytest.fixture
def recording(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "tone.wav", tone(5.0), SAMPLE_RATE)
    return tmp_path / "tone.wav"


@pytest.fixture
def engine(plan, bundle):
    """The engine of that plan, closed with the test."""
    with contextlib.closing(TensorRTEngine(plan, bundle.reference(), "int8-trt")) as opened:
        yield opened


@pytest.fixture
def opened(bundle):
    """Open an engine as `listen` does; it is closed with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(contextlib.closing(open_engine(bundle, *given, **more)))


class TestCalls:
    def test_scores_are_those_of_the_graph(self, engine, bundle):
        simulation = OnnxEngine.of(bundle, "int8-trt")
        other = np.full_like(bundle.reference(), 0.2)
        # Full windows and shorter ones in turns, both references: nothing of an earlier call may remain.
        for seconds, reference in ((2.0, None), (0.5, other), (2.0, other), (0.25, None), (1.3, None)):
            pcm = tone(seconds, frequency=100 + 100 * seconds)
            got, wanted = engine.score(pcm, reference), simulation.score(pcm, reference)
            assert np.array_equal(got.logits, wanted.logits)
            assert np.array_equal(got.statistics, wanted.statistics)
        assert engine.backend == "tensorrt 10.3.0.30 int8-trt"

    def test_results_stay_when_the_next_window_comes(self, engine):
        first = engine.score(tone(1.0))
        before = first.logits.copy(), first.statistics.copy()
        engine.score(tone(2.0, frequency=700))
        assert np.array_equal(first.logits, before[0])
        assert np.array_equal(first.statistics, before[1])

    def test_all_of_it_runs_on_one_thread_of_its_own(self, plan, bundle, simulated_gpu):
        simulated_gpu.launches = 0
        simulated_gpu.threads.clear()
        engine = TensorRTEngine(plan, bundle.reference(), "int8-trt")
        threads = [threading.Thread(target=lambda: engine.score(tone(0.5))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.close()
        assert simulated_gpu.launches == 1 + 4  # the first on silence, to warm up
        assert len(simulated_gpu.threads) == 1
        assert simulated_gpu.threads.pop().startswith("edgeemo-cuda")

    def test_nothing_is_allocated_per_inference(self, plan, bundle, simulated_gpu):
        at_first = simulated_gpu.allocations
        engine = TensorRTEngine(plan, bundle.reference(), "int8-trt")
        before = simulated_gpu.allocations
        for seconds in (2.0, 1.0, 2.0, 0.5):
            engine.score(tone(seconds))
        assert simulated_gpu.allocations == before == at_first + 8
        engine.close()

    def test_everything_is_freed(self, plan, bundle, simulated_gpu):
        engine = TensorRTEngine(plan, bundle.reference(), "int8-trt")
        assert simulated_gpu.memory
        assert simulated_gpu.retained == 1
        engine.close()
        assert not simulated_gpu.memory
        assert simulated_gpu.retained == 0
        assert not any(simulated_gpu.current.values())
        assert not any(thread.name.startswith("edgeemo-cuda") for thread in threading.enumerate())

    def test_an_engine_that_nobody_holds_gives_all_back(self, plan, bundle, simulated_gpu):
        engine = TensorRTEngine(plan, bundle.reference(), "int8-trt")
        engine.score(tone(1.0))
        assert simulated_gpu.memory
        del engine
        assert simulated_gpu.memory == {}
        assert simulated_gpu.retained == 0

    def test_a_program_may_end_without_closing(self, plan, bundle):
        """pycuda aborts where a thread ends with a context on its stack."""
        assert plan
        code = (
            "import numpy as np; from pathlib import Path\n"
            "from edge_runtime.bundles.bundle import load_bundle\n"
            "from edge_runtime.backends import open_engine\n"
            f"engine = open_engine(load_bundle(Path({str(bundle.root)!r})), 'tensorrt')\n"
            "print(engine.backend, engine.score(np.zeros(16_000, np.float32)).logits.shape)"
        )
        done = python("-c", code)
        assert (done.returncode, done.stdout) == (0, "tensorrt 10.3.0.30 int8-trt (4,)\n"), done.stderr

    def test_a_failed_start_leaves_nothing_behind(self, plan, bundle, simulated_gpu):
        simulated_gpu.room = 1 << 20
        simulated_gpu.memory[1] = bytearray((1 << 20) - 1000)
        with pytest.raises(EngineError, match="out of memory"):
            TensorRTEngine(plan, bundle.reference(), "int8-trt")
        assert list(simulated_gpu.memory) == [1]
        assert simulated_gpu.retained == 0

    @pytest.mark.parametrize("samples", [3_999, 32_001])
    def test_lengths_outside_the_profile_are_refused(self, engine, samples):
        expected = f"{samples} samples do not fit the engine, which was built for 4000 to 32000"
        with pytest.raises(EngineError, match=expected):
            engine.score(np.zeros(samples, np.float32))

    def test_an_engine_of_another_student_is_refused(self, plan, bundle):
        with pytest.raises(EngineError, match="has a reference of"):
            TensorRTEngine(plan, np.zeros((1, 7), np.float32), "int8-trt")


class TestChunks:
    def test_a_window_that_grows_has_the_scores_of_the_graph(self, simulated_gpu, tmp_path):
        assert simulated_gpu.devices
        policy = WindowPolicy(seconds=4.0, segment_seconds=4.0, hop_seconds=0.5, chunk_seconds=0.5)
        bundle = load_bundle(save_bundle(tmp_path / "bundle", policy=policy))
        (made,) = build_engines(bundle, ["int8-trt"], cuda_device())
        simulation, begun = OnnxEngine.of(bundle, "int8-trt"), Begun()
        pcm = tone(2.2, frequency=300) * np.linspace(0.1, 1, round(2.2 * SAMPLE_RATE), dtype=np.float32)
        with contextlib.closing(TensorRTEngine(made.path.read_bytes(), bundle.reference(), "int8-trt")) as engine:
            for seconds in (0.3, 0.5, 1.2, 2.2):
                end = round(seconds * SAMPLE_RATE)
                got, wanted = engine.score(pcm[:end], begun=begun), simulation.score(pcm[:end])
                assert np.array_equal(got.logits, wanted.logits)
                assert np.array_equal(got.statistics, wanted.statistics)
            assert begun.chunks[-1][0] == 2 * SAMPLE_RATE


class TestChoice:
    def test_auto_takes_tensorrt_where_it_is(self, plan, opened):
        engine = opened()
        assert engine.backend == "tensorrt 10.3.0.30 int8-trt"
        assert engine.history() == ()

    def test_auto_without_tensorrt_takes_onnx_runtime_and_says_nothing(self, bundle, monkeypatch):
        monkeypatch.setattr("edge_runtime.backends.installed", lambda package: False)
        engine = open_engine(bundle)
        assert engine.backend.startswith("onnxruntime")
        assert engine.precision == "int8-cpu"
        assert engine.history() == ()

    @pytest.mark.parametrize("how", ["driver", "devices"])
    def test_auto_without_a_device(self, bundle, simulated_gpu, how):
        setattr(simulated_gpu, how, 0)
        assert open_engine(bundle).backend.startswith("onnxruntime")
        with pytest.raises(MissingPartError, match=r"CUDA .*; use --backend onnxruntime$"):
            open_engine(bundle, "tensorrt")

    def test_onnx_runtime_by_name(self, plan, bundle):
        assert open_engine(bundle, "onnxruntime").backend.startswith("onnxruntime")

    def test_the_cpu_form_stays_on_the_cpu(self, plan, bundle):
        assert open_engine(bundle, precision="int8-cpu").backend.startswith("onnxruntime")
        with pytest.raises(WrongUseError, match="use int8-trt"):
            open_engine(bundle, "tensorrt", "int8-cpu")

    def test_tensorrt_by_name_without_it(self, bundle, monkeypatch):
        for name in ("tensorrt", "tensorrt_rtx", "pycuda"):
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr("edge_runtime.backends.installed", lambda library: False)
        with pytest.raises(MissingPartError, match=r'is not installed; run: pip install "edgeemo\[tensorrt\]"$'):
            open_engine(bundle, "tensorrt")


class TestFailures:
    def test_a_missing_engine_is_built(self, opened, simulated_gpu):
        told = []
        engine = opened(say=told.append)
        assert engine.backend.startswith("tensorrt")
        assert told == ["building the TensorRT engine for Orin (simulated); this happens once"]
        (path,) = cached_engines()
        assert "_tensorrt-10.3.0.30_sm87_Orin-simulated-_4000-32000_int8-trt" in path.name

    def test_of_two_that_start_together_one_builds(self, bundle, simulated_gpu, monkeypatch):
        assert simulated_gpu.devices
        built = []
        build = backends._build
        monkeypatch.setattr(backends, "_build", lambda *given: (built.append(given), build(*given)))
        engines = []
        threads = [threading.Thread(target=lambda: engines.append(open_engine(bundle))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(built) == 1
        assert {engine.backend for engine in engines} == {"tensorrt 10.3.0.30 int8-trt"}
        for engine in engines:
            engine.close()

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda plan: b"nonsense", "is damaged"),
            (lambda plan: plan[: len(plan) // 2], "ends before its end"),
            (lambda plan: plan.replace(b"10.3.0.30", b"10.3.0.29"), "10.3.0.29, library 10.3.0.30"),
        ],
        ids=["corrupt", "cut", "another version"],
    )
    def test_an_engine_that_does_not_load_is_built_again_once(self, plan, opened, damage, why):
        (path,) = cached_engines()
        path.write_bytes(damage(plan))
        engine = opened()
        assert engine.backend.startswith("tensorrt")
        (news,) = engine.history()
        assert why in news
        assert news.endswith("; the engine is built again")
        assert path.read_bytes() == plan

    @pytest.mark.parametrize(
        ("tamper", "why"),
        [
            (lambda path: path.chmod(0o664), "may have been written by another user"),
            (lambda path: path.chmod(0o646), "may have been written by another user"),
            (lambda path: path.parent.chmod(0o777), "may have been written by another user"),
            (lambda path: path.symlink_to(path.rename(path.with_name("elsewhere"))), "cannot be read"),
        ],
        ids=["group", "others", "directory", "link"],
    )
    def test_an_engine_that_others_may_write_is_not_loaded(self, plan, opened, tamper, why):
        (path,) = cached_engines()
        tamper(path)
        assert why in opened().history()[0]
        assert path.lstat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_an_engine_that_never_loads_gives_way(self, plan, bundle, simulated_gpu):
        simulated_gpu.room = 1000
        engine = open_engine(bundle)
        first, second = engine.history()
        assert first.endswith("; the engine is built again")
        assert "GPU memory could not be allocated" in second
        assert second.endswith(f"; {engine.backend} takes over")
        assert (engine.backend.partition(" ")[0], engine.precision) == ("onnxruntime", "int8-cpu")
        assert cached_engines() == []
        assert engine.score(tone(1.0)).logits.shape == (4,)

    def test_a_gpu_that_cannot_run_it_is_known_before_the_first_window(self, plan, bundle, simulated_gpu):
        simulated_gpu.fail_launch = True
        engine = open_engine(bundle)
        assert "unspecified launch failure" in engine.history()[-1]
        assert engine.backend.startswith("onnxruntime")
        assert not simulated_gpu.memory

    @pytest.mark.parametrize(("asked", "spare"), [("int8-trt", "int8-cpu"), ("fp16", "fp32"), ("fp32", "fp32")])
    def test_the_cpu_takes_a_form_that_is_fast_there(self, bundle, simulated_gpu, asked, spare):
        simulated_gpu.fail_launch = True
        assert open_engine(bundle, precision=asked).precision == spare

    def test_a_cache_that_cannot_be_written(self, opened, simulated_gpu, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        engine = opened()
        (news,) = engine.history()
        assert "cannot be written to (Not a directory)" in news
        assert news.endswith("; the engine is built for this session only")
        assert engine.backend.startswith("tensorrt")

    def test_a_build_that_fails_gives_way(self, bundle, simulated_gpu, tmp_path):
        load_library("tensorrt")  # works in this process, not in the one that is to build
        code = "raise ImportError('libnvinfer.so.10: cannot open shared object file')\n"
        (tmp_path / "simulated" / "tensorrt" / "__init__.py").write_text(code)
        engine = open_engine(bundle)
        assert "could not be built" in engine.history()[0]
        assert engine.backend.startswith("onnxruntime")

    @pytest.mark.parametrize(
        ("noise", "why"), [(np.nan, "not numbers"), (50.0, "its logits have an error of")], ids=["NaN", "mis-built"]
    )
    def test_an_engine_that_computes_something_else_gives_way(self, plan, bundle, simulated_gpu, noise, why):
        simulated_gpu.noise = noise
        engine = open_engine(bundle)
        (news,) = engine.history()
        assert "tensorrt 10.3.0.30 int8-trt fails the known-answer test" in news
        assert why in news
        assert news.endswith(f"; {engine.backend} takes over")
        assert (engine.backend.partition(" ")[0], engine.precision) == ("onnxruntime", "int8-cpu")
        # The driver may be what is wrong: a build that takes minutes is not thrown away.
        assert len(cached_engines()) == 1
        assert not simulated_gpu.memory

    def test_another_driver_asks_for_another_test(self, plan, bundle, opened, simulated_gpu, monkeypatch):
        import pycuda.driver

        simulated_gpu.noise = 50.0
        assert open_engine(bundle).backend.startswith("onnxruntime")
        simulated_gpu.noise = 0.0
        assert open_engine(bundle).backend.startswith("onnxruntime")  # the verdict is kept
        monkeypatch.setattr(pycuda.driver, "get_driver_version", lambda: 13000)
        engine = opened()
        assert engine.backend.startswith("tensorrt")

    @pytest.mark.parametrize(
        ("fault", "value", "why"),
        [("noise", np.nan, "not numbers (NaN or infinity)"), ("fail_launch", True, "unspecified launch failure")],
    )
    def test_a_gpu_that_fails_while_listening(self, plan, bundle, opened, simulated_gpu, recording, fault, value, why):
        engine, events = opened(), []
        for event in Listener(bundle, engine, PLAIN).listen(FileSource(recording)):
            events.append(event)
            if len(events) > 3:
                setattr(simulated_gpu, fault, value)
        told = [event for event in events if event.type == "status"]
        assert [event.status for event in told] == ["started", "backend", "stopped"]
        assert why in told[1].detail
        assert told[0].backend.startswith("tensorrt")
        assert told[1].backend.startswith("onnxruntime")
        backends = [event.backend.partition(" ")[0] for event in events if isinstance(event, EmotionEvent)]
        assert set(backends) == {"tensorrt", "onnxruntime"}
        assert backends == sorted(backends, reverse=True)
        # Nothing is lost: the same events come as from ONNX Runtime alone.
        alone = Listener(bundle, OnnxEngine.of(bundle), PLAIN).listen(FileSource(recording))
        wanted = [(event.type, event.start, event.end) for event in alone if isinstance(event, EmotionEvent)]
        assert [(e.type, e.start, e.end) for e in events if isinstance(e, EmotionEvent)] == wanted

    def test_on_the_command_line(self, plan, untrained_bundle, recording):
        (path,) = cached_engines()
        path.write_bytes(b"nonsense")
        done = edgeemo("listen", untrained_bundle, "--source", recording, "--backend", "tensorrt", "--no-vad")
        assert done.returncode == 0, done.stderr
        events = events_of(done.stdout)
        assert [event.status for event in events if event.type == "status"] == ["started", "backend", "stopped"]
        assert {event.backend for event in events} == {"tensorrt 10.3.0.30 int8-trt"}


def test_the_device_builds_and_runs_an_engine_without_the_packages_above_the_runtime(
    bundle, recording, simulated_gpu, tmp_path
):
    """Neither imports nor the subprocess that builds may need them, nor what they need."""
    absent = tmp_path / "absent"
    for package in ("benchmarks", "distill", "export", "onnx", "torch", "transformers"):
        (absent / package).mkdir(parents=True)
        (absent / package / "__init__.py").write_text(f"raise ImportError('{package} is not on the device')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(absent), os.environ["PYTHONPATH"]))}
    for command in (
        ["listen", bundle.root, "--source", recording, "--no-vad", "--json"],
        ["build", bundle.root, "--precision", "fp16", "--triton", tmp_path / "models"],
    ):
        done = python("-m", "edge_runtime", *map(str, command), cwd=tmp_path, env=environment)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert command[0] == "build" or '"backend":"tensorrt 10.3.0.30 int8-trt"' in done.stdout
    assert simulated_gpu.devices
    assert [path.stem.rpartition("_")[2] for path in cached_engines()] == ["fp16", "int8-trt"]
    assert (tmp_path / "models" / f"{bundle.root.name}-tensorrt-fp16" / "1" / "model.plan").is_file()


@pytest.mark.parametrize(
    ("ours", "theirs"), [("_Engine", "ICudaEngine"), ("_Execution", "IExecutionContext"), ("_Runtime", "Runtime")]
)
def test_the_simulation_offers_nothing_that_is_not_real(ours, theirs):
    """What it offers exists in the real library (``tensorrt_rtx``, whose interface is the same)."""
    need("tensorrt_rtx")
    import tensorrt_rtx as real

    from tests import simulated_tensorrt

    own = {name for name in vars(getattr(simulated_tensorrt, ours)) if not name.startswith("_")}
    assert own
    assert own <= set(dir(getattr(real, theirs)))
