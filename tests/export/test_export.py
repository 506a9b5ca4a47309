"""The graphs of a bundle: which nodes are quantised, what old runtimes read, parity, NVIDIA's parser."""

import json
import sys

import numpy as np
import onnx
import pytest

from distill.runs.run_directory import read_report
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.engines.known_answer_test import known_answer_test
from edge_runtime.errors import EdgeemoError, GateError, MissingPartError
from edge_runtime.tensorrt.builder import build
from edge_runtime.tensorrt.layers import described_layers
from edge_runtime.windows import WindowPolicy
from export.accuracy_gate.parity import MAX_FLOAT_DIFFERENCE, MEAN_FLOAT_DIFFERENCE, compare
from export.graphs.policy import choose
from tests.conftest import edgeemo, need


@pytest.fixture(scope="module")
def graphs(bundle_dir):
    return {name: onnx.load(load_bundle(bundle_dir).graph(name)) for name in load_bundle(bundle_dir).precisions}


def producers(model):
    return {output: node for node in model.graph.node for output in node.output}


def quantised_nodes(model):
    """Return MatMul, Gemm and Conv nodes whose two first inputs come from DequantizeLinear."""
    made_by = producers(model)
    found = set()
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            sources = [made_by[name].op_type for name in node.input[:2] if name in made_by]
            if sources == ["DequantizeLinear"] * 2:
                found.add(node.name)
    return found


class TestGraphs:
    def test_inputs_outputs_opset_and_metadata_are_the_contract(self, graphs, bundle_dir):
        manifest = load_bundle(bundle_dir).manifest
        size = manifest.statistics_size
        for model in graphs.values():
            shapes = {
                value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in [*model.graph.input, *model.graph.output]
            }
            assert shapes["pcm"][0] == 1
            assert isinstance(shapes["pcm"][1], str)
            assert shapes["reference"] == [1, size]
            assert shapes["logits"] == [1, 4]
            assert shapes["statistics"] == [1, size]
            (opset,) = [entry.version for entry in model.opset_import if entry.domain == ""]
            assert 17 <= opset <= 20
            assert [entry.domain for entry in model.opset_import] == [""]
            assert model.ir_version <= 9
            props = {item.key: item.value for item in model.metadata_props}
            assert json.loads(props["edgeemo.labels"]) == list(manifest.labels)
            assert float(props["edgeemo.temperature"]) == pytest.approx(manifest.temperature, rel=1e-4)

    @pytest.mark.parametrize("precision", ["int8-cpu", "int8-trt"])
    def test_what_is_quantised_and_what_is_not(self, graphs, precision):
        choices = choose(graphs["fp32"])
        wanted = {choice.node for choice in choices if choice.quantise}
        assert quantised_nodes(graphs[precision]) == wanted
        left = {choice.reason for choice in choices if not choice.quantise}
        assert left == {"front end", "statistics over time", "last classifier"}
        # One layer: two convolutions, four projections, two attention products, two of the feed-forward, four of the
        # branches, one of the head.
        assert len(wanted) == 15

    def test_form_for_tensorrt(self, graphs):
        model = graphs["int8-trt"]
        weights = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
        pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert pairs
        for node in pairs:
            zero = weights[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
        assert not any(value.dtype == np.int32 and name.endswith("_quantized") for name, value in weights.items())
        per_channel = [node for node in pairs if weights[node.input[1]].size > 1]
        assert len(per_channel) >= 13
        for node in per_channel:
            assert node.op_type == "DequantizeLinear", "activations must have one scale"
            assert node.input[0] in weights
        model = graphs["int8-trt"]
        for node in model.graph.node:
            if node.op_type == "DequantizeLinear":
                takers = {other.op_type for other in model.graph.node if node.output[0] in other.input}
                assert takers <= {"MatMul", "Gemm", "Conv"}

    def test_form_for_cpus(self, graphs):
        model = graphs["int8-cpu"]
        weights = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
        activations = {weights[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}
        assert activations == {np.dtype(np.uint8)}
        stored = {value.dtype for name, value in weights.items() if name.endswith("weight_quantized")}
        assert stored == {np.dtype(np.int8)}

    def test_any_length_up_to_the_window_runs(self, bundle_dir):
        bundle = load_bundle(bundle_dir)
        window = bundle.manifest.window.samples
        noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
        for precision in bundle.precisions:
            engine = OnnxEngine.of(bundle, precision)
            for samples in (4_000, 16_001, window - 1, window):
                assert np.isfinite(engine.score(noise[:samples]).logits).all()
            # It has no positions for more, and the window policy never gives more.
            with pytest.raises(EdgeemoError, match="cannot run it"):
                engine.score(noise)


class TestExport:
    def test_measured_figures_are_in_the_bundle(self, bundle_dir, run_dir):
        manifest, report = load_bundle(bundle_dir).manifest, read_report(run_dir)
        assert manifest.metrics["fp32"].ua == pytest.approx(report.student.test.ua, abs=0.02)
        assert set(manifest.metrics) == {"fp32", "int8-cpu", "int8-trt"}
        for inputs in ("speech", "edge cases"):
            rungs = [rung for rung in manifest.parity if rung["inputs"] == inputs]
            assert [rung["lower"] for rung in rungs] == ["fp32", "int8-cpu", "int8-trt"]
            assert rungs[0]["largest_difference"] < 1e-3
            assert inputs == "edge cases" or all(rung["mean_cosine"] > 0.99 for rung in rungs)
        assert manifest.quantisation["int8-cpu"]["windows"] >= report.parts["train"]
        assert {teacher.name for teacher in manifest.teachers} == {"linguistic", "prosodic"}

    def test_every_engine_gives_the_known_answers(self, bundle_dir):
        bundle = load_bundle(bundle_dir)
        assert set(bundle.known_answers.logits) == set(bundle.precisions)
        assert bundle.known_answers.tolerance > 0
        for precision in bundle.precisions:
            verdict = known_answer_test(OnnxEngine.of(bundle, precision), bundle)
            assert (verdict.outcome, verdict.detail) == ("passed", ""), precision
            assert verdict.error < verdict.tolerance / 2

    def test_the_model_card_is_rendered(self, bundle_dir):
        card = (bundle_dir / "README.md").read_text()
        (corpus,) = load_bundle(bundle_dir).manifest.corpora
        assert f"> **{corpus.note}**" in card, "the note on rendered speech comes first"
        assert "| int8-cpu |" in card
        assert "{{" not in card

    def test_fp16_beside(self, run_dir, float_bundle_dir, tmp_path):
        assert load_bundle(float_bundle_dir).precisions == ("fp32",)
        edgeemo("export", run_dir, "--fp16", "--allow-chance", "--allow-drop", "--out", tmp_path / "b", code=0)
        bundle = load_bundle(tmp_path / "b")
        assert bundle.precisions == ("fp32", "fp16")
        rungs = {(rung["lower"], rung["inputs"]): rung for rung in bundle.manifest.parity}
        assert set(rungs) == {(graph, inputs) for graph in ("fp32", "fp16") for inputs in ("speech", "edge cases")}
        assert rungs["fp16", "speech"]["mean_cosine"] > 0.9999
        assert bundle.manifest.metrics["fp16"].ua == pytest.approx(bundle.manifest.metrics["fp32"].ua, abs=0.02)


class TestParity:
    LOGITS, NOISE = np.random.default_rng(0).normal(size=(2, 9, 4))

    def test_equal(self):
        rung = compare("fp32", self.LOGITS, "pytorch", self.LOGITS)
        assert (rung.largest_difference, rung.agreement) == (0, 1)
        assert rung.mean_cosine == pytest.approx(1)

    @pytest.mark.parametrize(
        ("graph", "upper", "logits", "message"),
        [
            ("fp32", "pytorch", LOGITS + 0.01, "differs from PyTorch"),
            ("fp32", "pytorch", LOGITS * np.nan, ""),
            ("int8-cpu", "fp32", NOISE, "INT8 breaks this student"),
            ("fp16", "fp32", LOGITS + 0.2 * NOISE, r"limit 0.999\): FP16 breaks this student"),
        ],
    )
    def test_a_broken_graph_is_an_error(self, graph, upper, logits, message):
        with pytest.raises(GateError, match=message):
            compare(graph, logits, upper, self.LOGITS)

    def test_one_near_silent_window_may_differ_a_little(self):
        logits = np.random.default_rng(0).normal(size=(64, 4))
        one = np.zeros_like(logits)
        one[5, 1] = MAX_FLOAT_DIFFERENCE
        assert compare("fp32", logits + 0.5 * one, "pytorch", logits).mean_difference < MEAN_FLOAT_DIFFERENCE
        with pytest.raises(GateError, match=r"0\.03 in the worst"):
            compare("fp32", logits + 1.5 * one, "pytorch", logits)


class TestTensorRT:
    def test_nvidias_parser_and_builder_take_both_graphs(self, bundle_dir):
        need("tensorrt_rtx")
        policy = load_bundle(bundle_dir).manifest.window
        float_build = build(bundle_dir / "model.fp32.onnx", policy, "tensorrt_rtx")
        int8_build = build(bundle_dir / "model.int8.trt.onnx", policy, "tensorrt_rtx")
        assert float_build.int8_layers == 0
        # All that the policy quantises, less what the builder fuses; the DFT stays in float.
        assert 8 <= int8_build.int8_layers < int8_build.matrix_layers
        assert int8_build.size == len(int8_build.plan) > 0

    def test_the_cpu_form_is_an_error_with_a_reason(self, bundle_dir):
        need("tensorrt_rtx")
        with pytest.raises(EdgeemoError, match="parser rejects it"):
            build(bundle_dir / "model.int8.cpu.onnx", WindowPolicy(), "tensorrt_rtx")

    def test_a_missing_library_names_its_extra(self, monkeypatch, bundle_dir):
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        with pytest.raises(MissingPartError, match=r'pip install "edgeemo\[rtx\]"'):
            build(bundle_dir / "model.fp32.onnx", WindowPolicy(), "tensorrt_rtx")

    def test_layers_are_read_from_the_builders_description(self):
        described = (
            "Name: log_mel/Conv_1, LayerType: correlation, Inputs: [ { Datatype: Float }], Outputs: []\n"
            "Name: fc1/MatMul_2, LayerType: gemm, Inputs: [ { Datatype: Int8 }], Outputs: [ { Datatype: Float }]\n"
            "Name: cast, LayerType: kgen, Inputs: [ { Datatype: Float }], Outputs: [ { Datatype: Int8 }]\n"
            "Name: _gemm_mha_v2, LayerType: kgen, Inputs: [ { Datatype: Int8 }], Outputs: [ { Datatype: Int8 }]\n"
            "I/O Tensors:\n Name: pcm, IOMode: Input, DataType: Float"
        )
        layers = described_layers(described)
        assert [(layer.matrix, layer.precision == "int8") for layer in layers] == [
            (True, False),
            (True, True),
            (False, False),
            (True, True),
        ]
