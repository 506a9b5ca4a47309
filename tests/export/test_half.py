"""FP16 between the quantised layers: what becomes FP16, what must not, and what it costs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.engine import OnnxEngine
from export.accuracy_gate.parity import MIN_FP16_COSINE, compare
from export.graphs.half import HALF_OPSET, SMALLEST_SCALE, to_half
from export.int8.tensorrt_check import graph_faults
from tests.conftest import tone

FRONT_END = {"level", "log_mel"}


@pytest.fixture(scope="module", params=["model.fp16.onnx", "model.int8.trt.onnx"])
def half(request, untrained_bundle):
    return onnx.load(untrained_bundle / request.param)


def types(model):
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {item.name: item.data_type for item in typed.initializer}
    for value in [*typed.value_info, *typed.input, *typed.output]:
        found[value.name] = value.type.tensor_type.elem_type
    return found


def test_sums_front_end_and_head_stay_in_float32(half):
    kinds = ("LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "Pow", "Sqrt", "Log", "InstanceNormalization")
    known = types(half)
    found = [known[node.input[0]] for node in half.graph.node if node.op_type in kinds]
    assert len(found) >= 8
    assert TensorProto.FLOAT16 not in found
    known = types(half)
    for node in half.graph.node:
        module = node.name.partition("/")[0].split(".")
        if node.op_type != "Cast" and (module[0] != "encoder" or FRONT_END & set(module)):
            kinds = {known[name] for name in [*node.input, *node.output] if name}
            made = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            assert made or TensorProto.FLOAT16 not in kinds, node.name


def test_the_encoders_arithmetic_is_fp16(half):
    known = types(half)
    products = {
        node.name: known[node.output[0]]
        for node in half.graph.node
        if node.op_type in ("MatMul", "Conv") and node.name.startswith("encoder.") and "log_mel" not in node.name
    }
    assert len(products) == 10
    assert set(products.values()) == {TensorProto.FLOAT16}
    residual = [node for node in half.graph.node if node.op_type == "Add" and node.name.startswith("encoder.layers.0/")]
    assert {known[node.output[0]] for node in residual} == {TensorProto.FLOAT16}


def test_the_interface_is_unchanged(half):
    values = [*half.graph.input, *half.graph.output]
    assert {value.type.tensor_type.elem_type for value in values} == {TensorProto.FLOAT}
    assert [value.name for value in values] == ["pcm", "reference", "logits", "statistics"]
    assert [entry.version for entry in half.opset_import] == [HALF_OPSET]
    assert half.ir_version <= 9
    names = [node.name for node in half.graph.node]
    assert len(set(names)) == len(names)
    used = {name for node in half.graph.node for name in node.input}
    assert {item.name for item in half.graph.initializer} <= used


def test_int8_form_is_kept(untrained_bundle):
    model = onnx.load(untrained_bundle / "model.int8.trt.onnx")
    assert list(graph_faults(model)) == []
    known = types(model)
    scales = {known[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert scales == {TensorProto.FLOAT, TensorProto.FLOAT16}  # the head's, and the encoder's


def test_parity(untrained_bundle):
    bundle = load_bundle(untrained_bundle)
    windows = [tone(2.0, frequency=110 + 60 * index) for index in range(6)]
    logits = {name: OnnxEngine.of(bundle, name).score_windows(windows) for name in ("fp32", "fp16", "int8-trt")}
    rung = compare("fp16", logits["fp16"], "fp32", logits["fp32"])
    assert rung.mean_cosine > MIN_FP16_COSINE
    assert 0 < rung.largest_difference < 1e-3
    compare("int8-trt", logits["int8-trt"], "fp32", logits["fp32"])


def small(nodes, **constants):
    """Return a graph from ``x`` to ``z`` of some nodes of an encoder and a head that adds one to their output ``y``."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("Add", ["y", "one"], ["z"], "head/Add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in (constants | {"one": np.float32(1)}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("constant", "becomes"), [(0.5, True), (1e6, False), (-np.inf, False), (1e-9, False), (0.0, True)]
)
def test_constants_that_fp16_cannot_hold(constant, becomes):
    model = small([helper.make_node("Mul", ["x", "c"], ["y"], "encoder.a/Mul")], c=np.float32(constant))
    to_half(model)
    assert (types(model)["y"] == TensorProto.FLOAT16) == becomes


def test_small_scales_of_weights_are_raised_and_the_weights_fitted():
    scale = np.array([1e-6, 1e-3], np.float32)
    levels = np.array([[127, 100], [-60, 3]], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "zero"], ["weight"], "pair", axis=1),
        helper.make_node("MatMul", ["x", "weight"], ["y"], "encoder.a/MatMul"),
    ]
    model = small(nodes, w=levels, s=scale, zero=np.zeros(2, np.int8))
    assert to_half(model) == 1
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    pair = model.graph.node[0]
    assert stored[pair.input[1]].dtype == np.float16
    got = stored[pair.input[0]] * stored[pair.input[1]].astype(np.float32)
    assert np.abs(got - levels * scale).max() <= SMALLEST_SCALE / 2 + 1e-3 * 127 * 2**-11
    assert np.array_equal(stored[pair.input[0]][:, 1], levels[:, 1])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {"x": np.ones((1, 2), np.float32)})
    assert result == pytest.approx(np.ones((1, 2)) + (levels * scale).sum(axis=0), abs=1e-3)
