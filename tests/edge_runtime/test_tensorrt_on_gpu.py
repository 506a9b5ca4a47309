"""The real thing, where there is a CUDA device with tensorrt and pycuda: ``pytest -m gpu``.

Never run where this was written: the machine with a GPU that was lent (an H200) had no TensorRT and could fetch none;
TensorRT-RTX refuses its compute capability. The CUDA half did run there: `test_cuda_on_gpu.py`.
"""

import numpy as np
import pytest

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.tensorrt.build_engines import build_engines
from edge_runtime.tensorrt.engine import TensorRTEngine
from edge_runtime.tensorrt.engine_cache import cached_engines, engines_directory
from edge_runtime.tensorrt.library import cuda_device, installed
from tests.conftest import edgeemo, tone
from tests.edge_runtime.test_listening import events_of
from tests.small_bundles import POLICY

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def device():
    found = cuda_device() if installed("tensorrt") else None
    if found is None:
        pytest.skip("no CUDA device, or no tensorrt")
    return found


@pytest.fixture(scope="module")
def bundle(untrained_bundle):
    return load_bundle(untrained_bundle)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("engines")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def made(bundle, device):
    return {each.precision: each for each in build_engines(bundle, ["int8-trt", "fp16", "fp32"], device)}


def load(made, bundle, precision):
    return TensorRTEngine(made[precision].built.plan, bundle.reference(), precision)


def test_int8_took_and_the_rest_is_fp16(made):
    built = made["int8-trt"].built
    assert made["int8-trt"].warning == ""
    assert built.int8_layers > 0
    assert built.by_precision == {
        kind: sum(layer.matrix and layer.precision == kind for layer in built.inspected) for kind in built.by_precision
    }
    assert made["fp32"].built.int8_layers == made["fp16"].built.int8_layers == 0
    assert "fp16" in made["fp16"].built.by_precision


def test_the_timing_cache_is_kept_and_makes_the_next_build_faster(made, bundle, device):
    assert list(engines_directory().glob("*.timing"))
    (again,) = build_engines(bundle, ["fp32"], device)
    assert again.built.seconds <= made["fp32"].built.seconds * 1.5


@pytest.mark.parametrize(
    ("precision", "cosine"), [("fp32", 0.99999), ("fp16", 0.9999), ("int8-trt", 0.995)], ids=lambda value: str(value)
)
def test_the_last_rung_of_the_parity_ladder(made, bundle, precision, cosine):
    """Every corner of the profile: the shortest stretch, the window, and lengths between, in any order."""
    engine, wanted = load(made, bundle, precision), OnnxEngine.of(bundle, precision)
    noise = np.random.default_rng(0)
    for samples in (POLICY.samples, 4_000, POLICY.samples - 1, 4_001, 16_000, POLICY.samples):
        pcm = tone(samples / 16_000)[:samples] + noise.normal(0, 0.02, samples).astype(np.float32)
        got, true = engine.score(pcm), wanted.score(pcm)
        for ours, theirs in zip(got, true, strict=True):
            assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > cosine
    engine.close()


def test_the_reference_reaches_the_graph(made, bundle):
    engine, wanted = load(made, bundle, "fp32"), OnnxEngine.of(bundle, "fp32")
    other = np.full_like(bundle.reference(), 0.3)
    assert np.allclose(engine.score(tone(1.0), other).logits, wanted.score(tone(1.0), other).logits, atol=1e-3)
    engine.close()


def test_a_damaged_engine_is_built_again(made, bundle):
    path = made["int8-trt"].path
    path.write_bytes(path.read_bytes()[:1000])
    engine = open_engine(bundle)
    assert engine.backend.startswith("tensorrt ")
    assert "is built again" in engine.notices()[0]
    engine.close()


def test_listening(made, untrained_bundle, tmp_path):
    import soundfile

    assert set(cached_engines()) >= {each.path for each in made.values()}
    soundfile.write(tmp_path / "tone.wav", tone(5.0), 16_000)
    done = edgeemo("listen", untrained_bundle, "--source", tmp_path / "tone.wav", "--backend", "tensorrt")
    assert done.returncode == 0, done.stderr
    assert {event.backend.partition(" ")[0] for event in events_of(done.stdout)} == {"tensorrt"}
