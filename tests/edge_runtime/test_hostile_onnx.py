"""Graphs that reach outside of themselves, or are not what a bundle's graph is, never get as far as a first window."""

import io
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.onnx_file import DEEPEST, MOST_FIELDS, check_onnx
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.windows import WindowPolicy
from tests.plain_bundles import GRAPH, plain_graph, save_plain_bundle


def external(location="secret.bin", *, marked=True):
    """Return a tensor of four numbers that lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    if marked:
        tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def adding(tensor):
    """Return a graph that adds a tensor to its input."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [4])],
        [value("y", TensorProto.FLOAT, [4])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def checked(model):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    check_onnx(io.BytesIO(content), "graph")


def test_why_onnx_runtime_is_not_asked(tmp_path):
    """Given a path it reads a file beside the graph that no manifest names; 1.17 reads any file, 1.32 no other."""
    np.full(4, 9, np.float32).tofile(tmp_path / "secret.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(adding(external()).SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros(4, np.float32)})[0].tolist() == [9, 9, 9, 9]
    with path.open("rb") as stream, pytest.raises(EdgeemoError, match="keeps weights in another file"):
        check_onnx(stream, str(path))


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/hostname", ""])
@pytest.mark.parametrize("marked", [True, False])
def test_external_weights_in_a_bundle(tmp_path, location, marked):
    model = plain_graph()
    model.graph.initializer.append(external(location, marked=marked))
    save_plain_bundle(tmp_path / "b", model)
    with pytest.raises(EdgeemoError, match=r"model\.fp32\.onnx: keeps weights in another file, .* do not trust"):
        load_bundle(tmp_path / "b")


def test_location_without_data():
    checked(adding(TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.DEFAULT)))
    with pytest.raises(EdgeemoError, match="another file"):
        checked(adding(TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)))


def attribute(**parts):
    made = AttributeProto(name="a")
    for name, value in parts.items():
        field = getattr(made, name)
        if name in ("tensors", "graphs", "sparse_tensors"):
            field.add().CopyFrom(value)
        else:
            field.CopyFrom(value)
    return made


def in_attribute(**parts):
    model = plain_graph()
    model.graph.node[1].attribute.append(attribute(**parts))
    return model


def places():
    sparse = onnx.SparseTensorProto(values=external())
    indices = onnx.SparseTensorProto(indices=external())
    inner = onnx.GraphProto(node=[onnx.NodeProto(op_type="Constant", attribute=[attribute(t=external())])])
    function = onnx.FunctionProto(name="f", node=inner.node)
    default = onnx.FunctionProto(name="f", attribute_proto=[attribute(t=external())])
    training = onnx.TrainingInfoProto(algorithm=inner)
    first = onnx.TrainingInfoProto(initialization=inner)

    deep = onnx.GraphProto(initializer=[external()])
    for _ in range(5):
        deep = onnx.GraphProto(node=[onnx.NodeProto(op_type="If", attribute=[attribute(g=deep)])])

    def with_(where=lambda model: model, **parts):
        model = plain_graph()
        for name, value in parts.items():
            getattr(where(model), name).append(value)
        return model

    def in_graph(**parts):
        return with_(lambda model: model.graph, **parts)

    return {
        "initializer": in_graph(initializer=external()),
        "sparse values": in_graph(sparse_initializer=sparse),
        "sparse indices": in_graph(sparse_initializer=indices),
        "constant": in_attribute(t=external()),
        "constants": in_attribute(tensors=external()),
        "sparse constant": in_attribute(sparse_tensor=sparse),
        "sparse constants": in_attribute(sparse_tensors=indices),
        "subgraph": in_attribute(g=inner),
        "subgraphs": in_attribute(graphs=inner),
        "deep subgraph": in_attribute(g=deep),
        "function": with_(functions=function),
        "function's default": with_(functions=default),
        "training": with_(training_info=training),
        "training's start": with_(training_info=first),
    }


@pytest.mark.parametrize("place", places())
def test_external_weights_wherever_there_is_room_for_them(place):
    model = places()[place]
    # Whatever it is that we walk, it is where the onnx package itself puts it.
    assert b"secret.bin" in model.SerializeToString()
    with pytest.raises(EdgeemoError, match="keeps weights in another file"):
        checked(model)


@pytest.mark.parametrize("domain", ["com.microsoft", "\x1b[2J", "x" * 5_000])
@pytest.mark.parametrize("place", ["graph", "subgraph", "function"])
def test_operators_of_another_domain(domain, place):
    model = plain_graph()
    node = onnx.NodeProto(op_type="EPContext", domain=domain)
    if place == "graph":
        model.graph.node.append(node)
    elif place == "subgraph":
        model.graph.node[0].attribute.append(attribute(g=onnx.GraphProto(node=[node])))
    else:
        model.functions.append(onnx.FunctionProto(name="f", node=[node]))
    with pytest.raises(EdgeemoError, match="uses operators of '") as caught:
        checked(model)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_standard_domain_by_name():
    model = plain_graph()
    model.graph.node[0].domain = "ai.onnx"
    checked(model)


def test_real_graphs_pass(untrained_bundle):
    assert len(load_bundle(untrained_bundle).precisions) == 4


def varint(value):
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def part(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


class TestWireFormat:
    """What protobuf readers take in another way than it looks."""

    def test_graph_in_two_pieces(self):
        """Readers merge them, so each counts."""
        second = onnx.GraphProto(initializer=[external()]).SerializeToString()
        content = plain_graph().SerializeToString() + part(7, second)
        assert onnx.load_from_string(content).graph.initializer[1].data_location == TensorProto.EXTERNAL
        with pytest.raises(EdgeemoError, match="another file"):
            checked(content)

    def test_location_of_more_bits_than_readers_keep(self):
        tensor = TensorProto(name="w", data_type=1, dims=[4]).SerializeToString()
        tensor += varint(14 << 3) + varint((1 << 32) + 1)
        content = part(7, part(5, tensor))
        assert onnx.load_from_string(content).graph.initializer[0].data_location == TensorProto.EXTERNAL
        with pytest.raises(EdgeemoError, match="another file"):
            checked(content)

    def test_tag_of_more_bytes_than_needed(self):
        tensor = b"\xea\x80\x00" + part(1, b"")[1:]
        assert TensorProto.FromString(tensor).external_data
        with pytest.raises(EdgeemoError, match="another file"):
            checked(part(7, part(5, tensor)))

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "holds no graph"),
            (b"\x3a", "longer than what holds it"),
            (b"\x3a\x05\x0a", "longer than what holds it"),
            (b"\x38\x01", "wire type 0"),
            (b"\x0f\x00", "wire type 7"),
            (b"\x00\x00", "without a number"),
            (b"\x08" + b"\xff" * 11, "more than ten bytes"),
            (b"\x3a" + b"\xff" * 9 + b"\x01", "longer than what holds it"),
            (b"\x18\x00\x00\x00ORTM" + b"\x00" * 40, ""),
            (b"<html>", ""),
        ],
    )
    def test_malformed(self, content, expected):
        with pytest.raises(EdgeemoError, match=f"^graph: is not an ONNX file that can be trusted .*{expected}"):
            checked(content)

    def test_depth_is_bounded(self):
        graph = b""
        for _ in range(2_000):
            graph = part(1, part(5, part(6, graph)))
        with pytest.raises(EdgeemoError, match=f"more than {DEEPEST} levels"):
            checked(part(7, graph))

    def test_work_is_bounded(self):
        with pytest.raises(EdgeemoError, match=f"more than {MOST_FIELDS} fields"):
            checked(b"\x08\x08" * (MOST_FIELDS + 1))


def test_the_bytes_of_a_graph_are_not_kept(tmp_path):
    """They would count twice for as long as the engine is open."""
    bundle = load_bundle(save_plain_bundle(tmp_path / "b"))
    content = bundle.read_graph("fp32")
    before = sys.getrefcount(content)
    engine = OnnxEngine(bundle.graph("fp32"), bundle.reference(), "fp32", content=content)
    assert engine.score(np.zeros(4_000, np.float32)).logits.shape == (3,)
    assert sys.getrefcount(content) == before


def test_ort_format_is_not_taken_for_a_graph(tmp_path):
    """ONNX Runtime's own format is recognised by its first bytes, and has none of our checks."""
    (tmp_path / "m.onnx").write_bytes(plain_graph().SerializeToString())
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    content = (tmp_path / "m.ort").read_bytes()
    assert onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_outputs()
    with pytest.raises(EdgeemoError, match="is not an ONNX file"):
        load_bundle(save_plain_bundle(tmp_path / "b", content))
    # Nor where it was not checked before.
    with pytest.raises(EdgeemoError, match="cannot load it"):
        OnnxEngine(tmp_path / "m.onnx", np.zeros((1, 4), np.float32), "fp32", content=content)


class TestForm:
    def refused(self, tmp_path, model, expected):
        bundle = load_bundle(save_plain_bundle(tmp_path / "b", model))
        with pytest.raises(EdgeemoError, match=expected) as caught:
            OnnxEngine.of(bundle)
        assert caught.value.message.startswith(str(tmp_path / "b" / GRAPH))
        assert caught.value.message.isprintable()

    def renamed(self, old, new):
        model = plain_graph()
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
        for value in [*model.graph.input, *model.graph.output]:
            value.name = new if value.name == old else value.name
        return model

    @pytest.mark.parametrize("name", ["pcm", "reference", "logits", "statistics"])
    def test_names(self, tmp_path, name):
        wanted = "inputs .*, not 'pcm', 'reference'" if name in "pcm reference" else "outputs .*, not 'logits', 'stat"
        self.refused(tmp_path, self.renamed(name, "other\x1b[2J"), f"has the {wanted}")

    def test_another_input(self, tmp_path):
        model = plain_graph()
        model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
        self.refused(tmp_path, model, "has the inputs 'more', 'pcm', 'reference', not")

    def test_classes_and_statistics(self, tmp_path):
        wanted = r"'logits' is tensor\(float\) \[1, 4\], not tensor\(float\) \[1, 3\]"
        self.refused(tmp_path / "classes", plain_graph(classes=4), wanted)
        self.refused(tmp_path / "size", plain_graph(size=5), r"'reference' is tensor\(float\) \[1, 5\], not")

    def test_pcm_of_a_fixed_length(self, tmp_path):
        model = plain_graph()
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16_000
        self.refused(tmp_path, model, r"'pcm' is tensor\(float\) \[1, 16000\], not tensor\(float\) \[1, any size\]")

    def test_type(self, tmp_path):
        model = plain_graph()
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
        weights = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
        self.refused(tmp_path, model, r"is tensor\(double\)")

    def test_no_operator_of_that_name(self, tmp_path):
        model = plain_graph()
        model.graph.node[0].op_type = "Reduce\x1b[2J"
        self.refused(tmp_path, model, "cannot load it")

    def test_sizes_left_open_are_looked_at_when_they_are_there(self, tmp_path):
        model = plain_graph()
        model.graph.node[1].CopyFrom(helper.make_node("Identity", ["pcm"], ["logits"]))
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "samples"
        engine = OnnxEngine.of(load_bundle(save_plain_bundle(tmp_path / "b", model)))
        with pytest.raises(EdgeemoError, match=r"gives logits \(1, 4000\) .* not \(1, 3\)"):
            engine.score(np.zeros(4_000, np.float32))

    def test_a_graph_that_fails_while_it_runs(self, tmp_path):
        model = plain_graph()
        shape = numpy_helper.from_array(np.array([1, 7], np.int64), "shape")
        model.graph.initializer.append(shape)
        model.graph.node.insert(0, helper.make_node("Reshape", ["pcm", "shape"], ["seven"]))
        model.graph.node[1].input[0] = "seven"
        engine = OnnxEngine.of(load_bundle(save_plain_bundle(tmp_path / "b", model)))
        with pytest.raises(EdgeemoError, match="ONNX Runtime cannot run it"):
            engine.score(np.zeros(4_000, np.float32))

    @pytest.mark.parametrize("output", ["logits", "statistics"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_no_number_is_no_emotion(self, tmp_path, output, value):
        model = plain_graph()
        weights = np.full((1, 3 if output == "logits" else 4), value, np.float32)
        if output == "logits":
            model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
        else:
            model.graph.initializer.append(numpy_helper.from_array(weights, "bad"))
            model.graph.node[2].input[0] = "bad"
        engine = OnnxEngine.of(load_bundle(save_plain_bundle(tmp_path / "b", model)))
        with pytest.raises(EdgeemoError, match="not numbers"):
            engine.score(np.full(WindowPolicy().samples, 0.1, np.float32))
