"""Our own rules for TensorRT's INT8 form: each fault that the parser lets through is named with its node."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundles.onnx_file import read_opset
from edge_runtime.errors import EdgeemoError
from export.int8.quantise import restore_float_routes
from export.int8.tensorrt_check import graph_faults, lint


@pytest.fixture
def model(untrained_bundle):
    return onnx.load(untrained_bundle / "model.int8.trt.onnx")


def constant(model, name, value):
    kept = [item for item in model.graph.initializer if item.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(value, name)])


def first(model, kind, where=lambda node: True):
    return next(node for node in model.graph.node if node.op_type == kind and where(node))


def quantise_input(model, taker):
    """Put a fresh Q/DQ pair before the first input of a node."""
    index = list(model.graph.node).index(taker)
    constant(model, "new_scale", np.float32(0.1))
    constant(model, "new_zero", np.int8(0))
    pair = [
        helper.make_node("QuantizeLinear", [taker.input[0], "new_scale", "new_zero"], ["new_q"], "new_q"),
        helper.make_node("DequantizeLinear", ["new_q", "new_scale", "new_zero"], ["new_dq"], "new_dq"),
    ]
    taker.input[0] = "new_dq"
    for node in reversed(pair):
        model.graph.node.insert(index, node)


def only_fault(model):
    (fault,) = graph_faults(model)
    return fault


@pytest.mark.parametrize("name", ["model.fp32.onnx", "model.int8.trt.onnx"])
def test_our_own_graphs_pass(untrained_bundle, name):
    lint(untrained_bundle / name)


def test_the_cpu_form_is_one_sentence(untrained_bundle):
    with pytest.raises(EdgeemoError, match=r"not in TensorRT's INT8 form: node '.*' .* more such faults\)$"):
        lint(untrained_bundle / "model.int8.cpu.onnx")


def test_activation_per_channel(model):
    node = first(model, "QuantizeLinear")
    constant(model, "many", np.full(32, 0.1, np.float32))
    constant(model, "zeros", np.zeros(32, np.int8))
    node.input[1], node.input[2] = "many", "zeros"
    assert only_fault(model) == (
        f"node '{node.name}' quantises an activation per channel; TensorRT takes one scale for a whole activation"
    )


def test_zero_point(model):
    node = first(model, "QuantizeLinear")
    constant(model, "shifted", np.int8(3))
    node.input[2] = "shifted"
    assert only_fault(model) == f"node '{node.name}' has a zero point other than 0; TensorRT's INT8 is symmetric"


@pytest.mark.parametrize("stated", [True, False])
def test_unsigned_activation(model, stated):
    node = first(model, "QuantizeLinear")
    if stated:
        constant(model, "unsigned", np.uint8(0))
        node.input[2] = "unsigned"
    else:
        del node.input[2]
    assert "uint8" in only_fault(model)


@pytest.mark.parametrize("kind", ["Add", "LayerNormalization", "Softmax"])
def test_quantised_where_it_must_not_be(model, kind):
    node = first(model, kind, lambda node: node.name.startswith("encoder.layers.0"))
    quantise_input(model, node)
    assert only_fault(model) == f"node '{node.name}' ({kind}) is quantised; only MatMul, Gemm, Conv may be"


def test_grouped_convolution(model):
    node = first(model, "Conv", lambda node: node.name.startswith("encoder.conv2"))
    kept = [item for item in node.attribute if item.name != "group"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("group", 2)])
    assert only_fault(model) == f"node '{node.name}' is a grouped convolution in INT8, which is slower than in float"


def test_quantised_bias(model):
    node = first(model, "Gemm")
    constant(model, "bias_int32", np.zeros(32, np.int32))
    constant(model, "bias_scale", np.float32(0.1))
    made = helper.make_node("DequantizeLinear", ["bias_int32", "bias_scale"], ["bias_float"], "bias_dq")
    model.graph.node.insert(list(model.graph.node).index(node), made)
    node.input[2] = "bias_float"
    assert only_fault(model) == "node 'bias_dq' is a quantised bias; TensorRT wants biases in float"


def test_half_quantised(model):
    pair = first(model, "DequantizeLinear", lambda node: node.output[0] in first(model, "Gemm").input[:1])
    made_by = {node.output[0]: node for node in model.graph.node}
    node = first(model, "Gemm")
    node.input[0] = made_by[pair.input[0]].input[0]
    assert "only one of its two factors" in "; ".join(graph_faults(model))


def test_scales_along_the_wrong_axis(model):
    axes = (item for node in model.graph.node if node.op_type == "DequantizeLinear" for item in node.attribute)
    next(item for item in axes if item.name == "axis" and item.i == 1).i = 0
    assert "not along its output channels" in only_fault(model)


def test_scale_that_is_no_positive_number(model):
    node = first(model, "QuantizeLinear")
    constant(model, node.input[1], np.float32(np.nan))
    assert all("not a positive number" in fault for fault in graph_faults(model))
    assert list(graph_faults(model))


def test_foreign_operators(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "com.microsoft" in only_fault(model)


class TestOpset:
    def test_is_that_of_the_package_onnx(self, untrained_bundle):
        for path in untrained_bundle.glob("*.onnx"):
            model = onnx.load(path)
            assert read_opset(path) == next(entry.version for entry in model.opset_import if entry.domain == "")

    @pytest.mark.parametrize("opset", [13, 21, 24])
    def test_others_are_errors_of_one_sentence(self, model, tmp_path, opset):
        model.opset_import[0].version = opset
        onnx.save(model, tmp_path / "x.onnx")
        with pytest.raises(EdgeemoError, match=rf"opset {opset}, and devices read 17 to 20; export the bundle again$"):
            lint(tmp_path / "x.onnx")

    @pytest.mark.parametrize("content", [b"", b"not a graph", b"\xff" * 40])
    def test_no_onnx_file(self, tmp_path, content):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(EdgeemoError, match="is no ONNX file"):
            read_opset(tmp_path / "x.onnx")


def test_a_residual_sum_reads_the_float_tensor():
    """One quantised MatMul and an Add share their input, as in a post-norm encoder."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.int8), "w")
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], "dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["weight"], "weight_dq"),
        helper.make_node("MatMul", ["dq", "weight"], ["product"], "product"),
        helper.make_node("Add", ["dq", "product"], ["y"], "residual"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:], [weight, scale, zero]))
    assert any("residual" in fault for fault in graph_faults(model))
    assert restore_float_routes(model) == 1
    assert list(model.graph.node[4].input) == ["x", "product"]
    assert list(model.graph.node[3].input) == ["dq", "weight"]
