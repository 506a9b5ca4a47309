"""The CUDA half of the TensorRT engine on a real device, where there may be no TensorRT: ``pytest -m gpu``.

Real are the driver, pycuda, contexts, threads, page-locked and device memory, copies and streams. Simulated is TensorRT
alone: its execution copies what lies on the device to ONNX Runtime and back.
"""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from edge_runtime.bundles.bundle import Bundle, load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EngineError
from edge_runtime.sources.audio import Pcm
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.tensorrt.library import cuda_device
from edge_runtime.windows import SHORTEST
from tests.command import python
from tests.conftest import tone
from tests.small_bundles import POLICY

pytestmark = pytest.mark.gpu


class _Execution:
    def __init__(self, engine):
        self._engine = engine
        self._addresses = {}
        self._shape = ()

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        self._shape = shape
        return True

    def execute_async_v3(self, handle):
        import pycuda.driver as cuda

        # Not on a stream of ours: so wait for the copies that were put on the engine's.
        cuda.Context.synchronize()
        feeds = {}
        for name, shape in (("pcm", self._shape), ("reference", self._engine.get_tensor_shape("reference"))):
            feeds[name] = np.empty(shape, np.float32)
            cuda.memcpy_dtoh(feeds[name], self._addresses[name])
        for name, value in zip(
            ("logits", "statistics"), self._engine.session.run(["logits", "statistics"], feeds), strict=True
        ):
            cuda.memcpy_htod(self._addresses[name], np.ascontiguousarray(value))
        return True


class _Engine:
    def __init__(self, graph: bytes):
        self.session = onnxruntime.InferenceSession(graph)
        self._shapes = {each.name: each.shape for each in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self._shapes)

    def get_tensor_name(self, index):
        return list(self._shapes)[index]

    def get_tensor_shape(self, name):
        return self._shapes[name]

    def get_tensor_dtype(self, name):
        return "float"

    def get_tensor_profile_shape(self, name, profile):
        return (1, SHORTEST), (1, POLICY.samples), (1, POLICY.samples)

    def create_execution_context(self):
        return _Execution(self)


class _Log:
    Severity = SimpleNamespace(ERROR=1)


SIMULATED = SimpleNamespace(
    __version__="simulated",
    ILogger=_Log,
    DataType=SimpleNamespace(FLOAT="float"),
    Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=_Engine),
)


@pytest.fixture(scope="module", autouse=True)
def _device():
    if cuda_device() is None:
        pytest.skip("no CUDA device, or no pycuda")


@pytest.fixture(scope="module")
def bundle(untrained_bundle: Path) -> Bundle:
    return load_bundle(untrained_bundle)


@pytest.fixture
def engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_runtime.tensorrt.engine.load_library", lambda name: SIMULATED)

    def make() -> TensorRTEngine:
        return TensorRTEngine(bundle.graph("fp32").read_bytes(), bundle.reference(), "fp32")

    return make


def sounds() -> list[Pcm]:
    """Every corner of the profile, in an order in which what an earlier stretch left would change the result."""
    return [tone(POLICY.samples / 16_000)[:samples] for samples in (POLICY.samples, SHORTEST, POLICY.samples - 1)]


def test_what_goes_in_and_out_is_what_the_graph_has(engine, bundle):
    on_device, wanted = engine(), OnnxEngine.of(bundle, "fp32")
    other = np.full_like(bundle.reference(), 0.3)
    for pcm in sounds():
        for reference in (None, other):
            for ours, theirs in zip(on_device.score(pcm, reference), wanted.score(pcm, reference), strict=True):
                assert np.allclose(ours, theirs, atol=1e-4)
    on_device.close()


def test_called_from_many_threads(engine):
    on_device = engine()
    pcms = sounds() * 4
    wanted = [on_device.score(pcm).logits for pcm in pcms]
    got = {}
    threads = [
        threading.Thread(target=lambda place=place, pcm=pcm: got.update({place: on_device.score(pcm).logits}))
        for place, pcm in enumerate(pcms)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(got[place], logits) for place, logits in enumerate(wanted))
    on_device.close()


def test_memory_does_not_grow_and_is_given_back(engine):
    import pycuda.driver as cuda

    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        free = []
        for _ in range(20):
            on_device = engine()
            for pcm in sounds():
                on_device.score(pcm)
            on_device.close()
            free.append(cuda.mem_get_info()[0])
        # What the driver itself takes, it takes at first.
        assert free[2] - free[-1] < 1 << 20
    finally:
        context.pop()
        context.detach()


def test_two_engines_in_one_process(engine):
    first, second = engine(), engine()
    wanted = first.score(sounds()[0]).logits
    second.score(sounds()[1])
    second.close()
    assert np.array_equal(first.score(sounds()[0]).logits, wanted)
    first.close()


def test_it_does_not_disturb_torch(engine):
    """The primary context is shared: a training or another model in the same process goes on."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch without CUDA")
    before = torch.arange(8.0, device="cuda")
    on_device = engine()
    on_device.score(sounds()[0])
    assert (before * 2).sum().item() == 56
    on_device.close()
    assert (torch.ones(3, device="cuda") + 1).sum().item() == 6


def test_too_little_memory_is_one_sentence(engine, monkeypatch):
    import pycuda.driver as cuda

    allocate = cuda.mem_alloc
    monkeypatch.setattr(cuda, "mem_alloc", lambda size: allocate(size << 40))
    with pytest.raises(EngineError, match=r"CUDA failed: .*out of memory"):
        engine()


def test_not_closed_the_process_still_ends_well(bundle):
    """pycuda aborts where a context is left on a thread's stack."""
    code = (
        "from tests.edge_runtime.test_cuda_on_gpu import SIMULATED, sounds\n"
        "from pathlib import Path\n"
        "import edge_runtime.tensorrt.engine as module\n"
        "from edge_runtime.bundles.bundle import load_bundle\n"
        "module.load_library = lambda name: SIMULATED\n"
        f"bundle = load_bundle(Path({str(bundle.root)!r}))\n"
        "engine = module.TensorRTEngine(bundle.graph('fp32').read_bytes(), bundle.reference(), 'fp32')\n"
        "print(len(engine.score(sounds()[0]).logits))\n"
    )
    done = python("-c", code, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(bundle.manifest.labels))
    assert done.stderr == ""
