"""Every family of encoders through the one export path: FP32, INT8 for CPUs and for TensorRT, NVIDIA's parser."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from distill.distillation.build_student import build_student
from distill.recipe import Schedule
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.engines.engine import session_options
from edge_runtime.tensorrt.builder import build
from edge_runtime.windows import SHORTEST
from export.accuracy_gate.parity import MEAN_FLOAT_DIFFERENCE, edge_windows
from export.graphs.float_graph import export_graph
from export.graphs.half import write_half
from export.graphs.policy import choose
from export.int8.tensorrt_check import lint
from tests.conftest import need
from tests.quantise import quantise
from tests.small_models import save_encoder
from tests.small_students import POLICY, windows

pytestmark = pytest.mark.slow
SCHEDULE = Schedule(epochs=1, learning_rate=1e-3)


# The base shape and the large one, both normalisations, one pooled layer and several, disjoint branches and shared.
SHAPES = {
    "hubert": ("hubert", False, True, (-1,), "disjoint"),
    "wav2vec2-stable": ("wav2vec2", True, True, (1, 3), "shared"),
    "wavlm": ("wavlm", False, False, (-1, 2), "disjoint"),
    "wavlm-stable": ("wavlm", True, True, (-1,), "disjoint"),
}


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    need("onnx", "onnxscript")
    family, stable, normalise, pooled, branches = SHAPES[request.param]
    folder = tmp_path_factory.mktemp(family)
    encoder = save_encoder(folder / "encoder", family, stable=stable, normalise=normalise)
    recipe = StudentRecipe(
        encoder=str(encoder),
        hidden_size=32,
        pooled_layers=pooled,
        shared_branch=branches == "shared",
        training=SCHEDULE,
    )
    torch.manual_seed(0)
    built = build_student(recipe, ("a", "b", "c"), {"linguistic": 24, "prosodic": 16, "acoustic": 16})
    built.reference.normal_(0, 0.1)
    built.save_pretrained(folder / "student")
    student = Student.from_pretrained(folder / "student").eval()
    export_graph(student, POLICY, folder / "model.fp32.onnx")
    for precision in ("int8-cpu", "int8-trt"):
        target = folder / f"{precision}.onnx"
        quantise(folder / "model.fp32.onnx", target, precision, windows(12), student.reference.numpy())
    return folder, student


def run(path, pcm, reference, precision="fp32"):
    session = onnxruntime.InferenceSession(path, session_options(precision))
    return session.run(None, {"pcm": pcm, "reference": reference})


@pytest.mark.parametrize("samples", [1_040, 4_000, 16_001, 32_000, 160_000])
def test_the_float_graph_is_the_model(exported, samples):
    folder, student = exported
    pcm = (np.random.default_rng(samples).normal(size=(1, samples)) * 0.1).astype(np.float32)
    reference = np.random.default_rng(1).normal(size=student.reference.shape).astype(np.float32)
    logits, statistics = run(folder / "model.fp32.onnx", pcm, reference)
    with torch.no_grad():
        output = student(torch.from_numpy(pcm), reference=torch.from_numpy(reference))
    assert np.abs(logits - output.logits.numpy()).max() < MEAN_FLOAT_DIFFERENCE / 50
    assert np.abs(statistics - output.statistics.numpy()).max() < MEAN_FLOAT_DIFFERENCE / 5


@pytest.mark.parametrize("precision", ["int8-cpu", "int8-trt"])
def test_int8_graphs_give_nearly_the_same(exported, precision):
    folder, student = exported
    reference = student.reference.numpy()
    for pcm in windows(6):
        wanted, statistics = run(folder / "model.fp32.onnx", pcm[None], reference)
        logits, judged = run(folder / f"{precision}.onnx", pcm[None], reference, precision)
        assert (logits * wanted).sum() / np.linalg.norm(logits) / np.linalg.norm(wanted) > 0.97
        assert np.abs(judged - statistics).mean() < 0.1 * np.abs(statistics).mean()


@pytest.mark.parametrize("precision", ["fp32", "int8-cpu", "int8-trt", "fp16"])
def test_sounds_at_the_edge_give_numbers(exported, precision, tmp_path):
    folder, student = exported
    path = folder / ("model.fp32.onnx" if precision == "fp32" else f"{precision}.onnx")
    if precision == "fp16":
        path = tmp_path / "fp16.onnx"
        write_half(folder / "model.fp32.onnx", path)
    reference = student.reference.numpy()
    for name, pcm in edge_windows(POLICY.samples, max(SHORTEST, student.encoder.minimum_samples)).items():
        logits, statistics = run(path, pcm[None], reference, precision)
        assert np.isfinite(logits).all(), name
        assert np.isfinite(statistics).all(), name
        if precision == "fp32":
            with torch.no_grad():
                output = student(torch.from_numpy(pcm)[None], reference=torch.from_numpy(reference))
            assert np.abs(logits - output.logits.numpy()).max() < MEAN_FLOAT_DIFFERENCE, name


def test_what_is_quantised_and_how_nodes_are_named(exported):
    folder, student = exported
    choices = choose(onnx.load(folder / "model.fp32.onnx"))
    left = {
        choice.node.partition("/")[0].rpartition(".")[2]: choice.reason for choice in choices if not choice.quantise
    }
    wanted = {"conv": "grouped convolution", "student": "statistics over time", "3": "last classifier"}
    if student.encoder.family == "wavlm":
        wanted["gru_rel_pos_linear"] = "fewer than 16 channels"
    first = [choice for choice in choices if "feature_extractor.conv_layers.0." in choice.node]
    assert [choice.reason for choice in first] == ["fewer than 16 channels"]
    assert left == wanted
    # Two convolutions, the projection; a block's four projections, two attention products, two of its feed-forward;
    # the branches' two each, one of the head.
    branches = len(student.branches)
    assert sum(choice.quantise for choice in choices) == 3 + 8 * student.encoder.depth + 2 * branches + 1
    folder, _ = exported
    names = {node.name.partition("/")[0] for node in onnx.load(folder / "model.fp32.onnx").graph.node}
    assert {
        "encoder.feature_extractor.conv_layers.0.conv",
        "encoder.encoder.pos_conv_embed.conv",
        "encoder.encoder.layers.0.attention.q_proj",
        "encoder.encoder.layers.1.feed_forward.intermediate_dense",
        "head.0",
    } <= names
    folder, student = exported
    # No vectors: the biases of a fresh model are equal, and the exporter stores equal tensors once.
    stored = [int(np.prod(item.dims)) for item in onnx.load(folder / "model.fp32.onnx").graph.initializer]
    wanted = [weight.numel() for weight in student.parameters()]
    assert sum(size for size in stored if size > 100) == sum(size for size in wanted if size > 100)


def test_nvidias_parser_and_builder_take_it(exported):
    need("tensorrt_rtx")
    folder, _ = exported
    assert build(folder / "model.fp32.onnx", POLICY, "tensorrt_rtx").int8_layers == 0
    built = build(folder / "int8-trt.onnx", POLICY, "tensorrt_rtx")
    assert built.int8_layers > 15
    assert built.int8_layers < built.matrix_layers
    assert "fp16" in {layer.precision for layer in built.inspected}
    write_half(folder / "model.fp32.onnx", folder / "model.fp16.onnx")
    assert build(folder / "model.fp16.onnx", POLICY, "tensorrt_rtx").by_precision["fp16"] > 5


def test_norms_over_time_stay_in_float32(exported):
    folder, _ = exported
    # In a post-norm encoder the quantiser would lead the residual sums through INT8.
    lint(folder / "model.fp32.onnx")
    lint(folder / "int8-trt.onnx")
    model = onnx.load(folder / "int8-trt.onnx")
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    norms = [node for node in model.graph.node if node.op_type in ("InstanceNormalization", "LayerNormalization")]
    assert norms
    assert {kinds[node.output[0]] for node in norms} == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in kinds.values()


def test_whisper_with_several_pooled_layers(tmp_path):
    need("onnx", "onnxscript")
    encoder = str(save_encoder(tmp_path / "encoder", "whisper"))
    recipe = StudentRecipe(encoder=encoder, hidden_size=16, pooled_layers=(0, 2), training=SCHEDULE)
    student = build_student(recipe, ("a", "b", "c")).eval()
    assert student.encoder.depth == 2
    export_graph(student, POLICY, tmp_path / "model.onnx")
    (pcm,) = windows(1)
    logits, statistics = run(tmp_path / "model.onnx", pcm[None], student.reference.numpy())
    with torch.no_grad():
        output = student(torch.from_numpy(pcm)[None])
    assert np.abs(logits - output.logits.numpy()).max() < 1e-4
    assert np.abs(statistics - output.statistics.numpy()).max() < 1e-4
    model = onnx.load(tmp_path / "model.onnx")
    front = [choice for choice in choose(model) if choice.reason == "front end"]
    assert {choice.node.partition("/")[0] for choice in front} == {"encoder.log_mel"}
    assert not any(node.name.startswith("encoder.layer_norm") for node in model.graph.node)
