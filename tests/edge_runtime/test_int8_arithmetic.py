"""INT8 products: whether they saturate, sessions with exact ones, and a float simulation where they cannot be exact."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.engines import kernels
from edge_runtime.engines.engine import OnnxEngine, session_options
from export.accuracy_gate.parity import MAX_FLOAT_DIFFERENCE, edge_windows
from export.graphs import open_graphs
from export.graphs.cpu_graph import exact_in_any_session
from tests.largest_products import write_largest_products

ENTRY = "session.x64quantprecision"


@pytest.fixture
def saturating(monkeypatch):
    """A processor whose products saturate unless asked not to, as far as `edge_runtime.engines.kernels` is asked."""
    monkeypatch.setattr(kernels, "products_saturate", lambda: True)


def entry_of(options):
    try:
        return options.get_session_config_entry(ENTRY)
    except RuntimeError:
        return None


class TestProducts:
    def test_they_are_exact_as_sessions_are_opened_here(self):
        assert kernels.products_are_exact()

    def test_the_graph_that_finds_out_is_the_one_that_its_command_writes(self, tmp_path):
        write_largest_products(tmp_path / "x.onnx")
        assert (tmp_path / "x.onnx").read_bytes() == kernels.PRODUCTS.read_bytes()

    def test_wrong_sums_are_noticed(self, tmp_path, monkeypatch):
        """Smaller weights in the last of the three operators stand for sums that were cut off."""
        model = onnx.load(kernels.PRODUCTS)
        name = next(item.name for item in model.graph.initializer if item.name.startswith("gemm_weights_q"))
        item = next(item for item in model.graph.initializer if item.name == name)
        item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) // 2, name))
        onnx.save(model, tmp_path / "x.onnx")
        monkeypatch.setattr(kernels, "PRODUCTS", tmp_path / "x.onnx")
        assert not kernels._exact(onnxruntime.SessionOptions())

    def test_only_where_they_saturate_sessions_ask_for_exact_ones(self, saturating, monkeypatch):
        assert entry_of(session_options("int8-cpu")) == "1"
        assert entry_of(session_options("int8-cpu", simulated=True)) is None
        assert entry_of(session_options("fp32")) is None
        monkeypatch.setattr(kernels, "products_saturate", lambda: False)
        assert entry_of(session_options("int8-cpu")) is None

    def test_asking_changes_no_decision(self, saturating):
        bundle = load_bundle(DEFAULT_BUNDLE)
        noise = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
        asked = OnnxEngine.of(bundle, "int8-cpu").score(noise).logits
        exact = OnnxEngine.of(bundle, "int8-cpu", simulated=True).score(noise).logits
        assert np.abs(asked - exact).max() < bundle.known_answers.tolerance


class TestExport:
    def test_graphs_are_measured_in_float_where_kernels_are_wrong(self, untrained_bundle, monkeypatch):
        reference = load_bundle(untrained_bundle).reference()
        path = untrained_bundle / "model.int8.cpu.onnx"
        assert not open_graphs.open_graph(path, reference, "int8-cpu").simulated
        assert open_graphs.arithmetic_of("int8-cpu").endswith(", which are exact")
        monkeypatch.setattr(open_graphs, "products_are_exact", lambda: False)
        assert open_graphs.open_graph(path, reference, "int8-cpu").simulated
        assert not open_graphs.open_graph(untrained_bundle / "model.fp32.onnx", reference, "fp32").simulated
        assert open_graphs.arithmetic_of("int8-cpu").startswith("a float simulation, since the INT8 kernels of ")

    def test_the_form_for_any_session_gives_the_same(self, untrained_bundle, tmp_path):
        bundle = load_bundle(untrained_bundle)
        (tmp_path / "x.onnx").write_bytes(exact_in_any_session(bundle.read_graph("int8-cpu")))
        model = onnx.load(tmp_path / "x.onnx")
        assert not any(item.data_type == onnx.TensorProto.INT8 for item in model.graph.initializer)
        other = OnnxEngine(tmp_path / "x.onnx", bundle.reference(), "int8-cpu")
        engine = OnnxEngine.of(bundle, "int8-cpu")
        for pcm in edge_windows(bundle.manifest.window.samples).values():
            assert np.abs(other.score(pcm).logits - engine.score(pcm).logits).max() < MAX_FLOAT_DIFFERENCE


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-cpu", "int8-trt"])
def test_sounds_at_the_edge_give_numbers(untrained_bundle, precision):
    """Of the Whisper family; `tests/export/test_families_export.py` has the others."""
    bundle = load_bundle(untrained_bundle)
    engine = OnnxEngine.of(bundle, precision)
    for pcm in edge_windows(bundle.manifest.window.samples).values():
        assert np.isfinite(engine.score(pcm).logits).all()
