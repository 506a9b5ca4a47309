"""INT8: which nodes are quantised, how ranges are read off, what each group costs, scale migration, simulated INT8."""

import copy
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from distill.scoring import outputs_of
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from export.bundle.plot import sensitivity_plot
from export.graphs.cpu_graph import fuse_gelu, store_tables_in_half
from export.graphs.float_graph import export_graph
from export.graphs.policy import choose, group_of, groups
from export.int8.calibrate import Calibration, _percentile
from export.int8.fake_quantise import quantised_modules, simulated_int8
from export.int8.quantise import write_int8
from export.int8.sensitivity import WindowScores, logit_error, measure_sensitivity
from export.int8.smooth import smoothed
from export.options import METHODS
from tests.export.test_export import quantised_nodes
from tests.quantise import quantise
from tests.small_students import POLICY, small_student, windows

BLOCK = {"attention projections": 4, "attention products": 2, "feed-forward": 2}
BLOCKS = {f"block {index} {part}": nodes for index in range(3) for part, nodes in BLOCK.items()}
GROUPS = {
    "whisper": {"convolution 1": 1, "convolution 2": 1, **BLOCKS, "branches": 4, "head": 1},
    "hubert": {"convolution 1": 1, "convolution 2": 1, "feature projection": 1, **BLOCKS, "branches": 4, "head": 1},
}


@pytest.fixture(scope="module", params=["whisper", "hubert"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    student = small_student(folder, request.param)
    export_graph(copy.deepcopy(student), POLICY, folder / "model.onnx")
    model = onnx.load(folder / "model.onnx")
    return folder, student, model, Calibration(model, windows(8), student.reference.numpy())


def engine(path, student, precision="int8-cpu"):
    return OnnxEngine(path, student.reference.numpy(), precision)


class TestPolicy:
    def test_groups(self, exported):
        _, student, model, _ = exported
        assert groups(choose(model)) == GROUPS[student.encoder.family]

    @pytest.mark.parametrize("precision", ["int8-cpu", "int8-trt"])
    def test_kept_groups_and_no_others_are_float(self, exported, tmp_path, precision):
        _, _, model, calibration = exported
        kept = ["block 1 feed-forward", "convolution 2"]
        done = write_int8(model, tmp_path / "x.onnx", precision, calibration.minmax, kept)
        everything = {choice.node for choice in choose(model) if choice.quantise}
        wanted = {node for node in everything if group_of(node) not in kept}
        assert len(everything) - len(wanted) == 3
        assert quantised_nodes(onnx.load(tmp_path / "x.onnx")) == wanted
        assert done["quantised"] == len(wanted)
        reasons = {node: reason for node, reason in done["left_in_float"].items() if reason == "kept in float"}
        assert set(reasons) == everything - wanted


class TestCalibration:
    def test_minmax_covers_everything_and_percentile_clips(self, exported):
        _, _, _, calibration = exported
        whole = calibration.ranges("minmax")
        for method in METHODS:
            found = calibration.ranges(method)
            assert found.keys() == whole.keys()
            for name, (low, high) in found.items():
                assert whole[name][0] <= low <= 0 <= high <= whole[name][1], (method, name)
        found = calibration.ranges("percentile")
        clipped = [high - low < 0.999 * (whole[name][1] - whole[name][0]) for name, (low, high) in found.items()]
        assert np.mean(clipped) > 0.1

    def test_an_outlier_is_clipped(self):
        draw = np.abs(np.random.default_rng(0).normal(size=200_000))
        counts, edges = np.histogram(np.append(draw, 60.0), 2048, (0.0, 60.0))
        assert 3.5 < _percentile(counts, edges[-1]) < 4.5
        assert _percentile(np.full(2048, 100), 1.0) > 0.999

    def test_empty_and_nan(self, exported):
        _, student, model, _ = exported
        with pytest.raises(EdgeemoError, match="no windows to calibrate"):
            Calibration(model, [], student.reference.numpy())
        broken = windows(2)
        broken[1][7] = np.nan
        with pytest.raises(EdgeemoError, match="calibration window 1 holds samples that are not numbers"):
            Calibration(model, broken, student.reference.numpy())

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_gives_a_graph(self, exported, tmp_path, method):
        folder, student, _, _ = exported
        path = tmp_path / "x.onnx"
        done = quantise(folder / "model.onnx", path, "int8-cpu", windows(8), student.reference.numpy(), method=method)
        assert done["calibration"] == method
        assert np.isfinite(engine(path, student).score_windows(windows(2))).all()


class TestSensitivity:
    def test_every_group_is_measured_and_the_worst_comes_first(self, exported, tmp_path):
        folder, student, model, calibration = exported
        heard = windows(6)
        wanted = engine(folder / "model.onnx", student, "fp32").score_windows(heard)

        def evaluate(path, precision):
            return WindowScores(
                error=logit_error(engine(path, student, precision).score_windows(heard), wanted), ua=0.5
            )

        # A tensor with an absurd range, as an outlier would make it: its group must be found.
        ranges = dict(calibration.minmax)
        node = next(each.node for each in choose(model) if group_of(each.node) == "block 1 feed-forward")
        (node,) = [each for each in model.graph.node if each.name == node]
        ranges[node.input[0]] = tuple(np.float32(400) * value for value in ranges[node.input[0]])
        rows = measure_sensitivity(model, ranges, "int8-cpu", evaluate)
        assert {row.group: row.nodes for row in rows} == GROUPS[student.encoder.family]
        assert rows[0].group == "block 1 feed-forward"
        assert [row.gain for row in rows] == sorted((row.gain for row in rows), reverse=True)
        write_int8(model, tmp_path / "x.onnx", "int8-cpu", ranges, [rows[0].group])
        assert evaluate(tmp_path / "x.onnx", "int8-cpu").error == pytest.approx(rows[0].error, rel=1e-6)
        picture = sensitivity_plot(rows)
        assert picture.startswith("<svg")
        assert all(row.group in picture for row in rows)


class TestScaleMigration:
    def test_moves_outliers_and_changes_nothing(self, exported):
        _, student, _, _ = exported
        if student.encoder.family == "hubert":
            assert smoothed(student, windows(2)) is None, "the norms come after the sums"
            return
        loud = copy.deepcopy(student)
        with torch.no_grad():
            block = loud.encoder.block(0)
            block.attention_norm.weight[3] *= 50.0
        other = smoothed(loud, windows(4))
        wanted, found = (outputs_of(each, windows(4)) for each in (loud, other))
        assert torch.allclose(found[0], wanted[0], atol=1e-4)
        assert torch.allclose(found[1], wanted[1], atol=1e-4)
        before, after = (each.encoder.block(0).attention_norm.weight.abs() for each in (loud, other))
        assert after.max() / after.median() < 0.5 * before.max() / before.median()
        assert torch.equal(loud.encoder.block(0).attention_norm.weight[3], before[3]), "the given one stays as it is"


class TestSimulatedInt8:
    def test_is_what_the_int8_graph_computes(self, exported, tmp_path):
        """Nearer to the graph with Q/DQ than that is to the float graph, and gone when the block ends.

        FP16 between the layers is not simulated: it moves some values over to the next of 256 levels.
        """
        _, student, model, calibration = exported
        heard = windows(8)
        simulated = copy.deepcopy(student)
        before = {name: value.clone() for name, value in simulated.state_dict().items()}
        write_int8(model, tmp_path / "x.onnx", "int8-trt", calibration.minmax, half=False)
        graph = engine(tmp_path / "x.onnx", student, "int8-trt").score_windows(heard)
        modules = quantised_modules(student, POLICY)
        with simulated_int8(simulated, modules, heard):
            found = outputs_of(simulated, heard)[0].numpy()
        wanted = outputs_of(student, heard)[0].numpy()
        assert logit_error(found, graph) < 0.5 * logit_error(wanted, graph)
        after = simulated.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert np.array_equal(outputs_of(simulated, heard)[0].numpy(), wanted)

    def test_modules_are_those_of_the_policy_and_learn_under_a_mask(self, exported):
        _, student, model, _ = exported
        modules = quantised_modules(student, POLICY)
        nodes = {choice.node.partition("/")[0] for choice in choose(model) if choice.quantise}
        assert set(modules) == nodes
        assert sum(kind == "attention" for kind in modules.values()) == 3
        _, student, _, _ = exported
        learning = copy.deepcopy(student).requires_grad_(True)
        modules = quantised_modules(student, POLICY)
        name = next(name for name in modules if name.endswith(("fc1", "intermediate_dense")))
        mask = torch.ones_like(student.get_submodule(name).weight)
        mask[:, ::2] = 0.0
        with simulated_int8(learning, modules, windows(4), {name: mask}):
            optimiser = torch.optim.SGD(learning.parameters(), lr=1e-2)
            learning(torch.from_numpy(np.stack(windows(2)))).logits.square().sum().backward()
            optimiser.step()
        weight = learning.get_submodule(name).weight
        assert (weight[:, ::2] == 0).all()
        for other in modules:
            if modules[other] == "layer" and other != name:
                assert not torch.equal(learning.get_submodule(other).weight, student.get_submodule(other).weight), other


class TestCpuGraph:
    def test_gelu_is_one_node_and_gives_the_same(self, exported, tmp_path):
        folder, student, model, _ = exported
        fused = onnx.ModelProto()
        fused.CopyFrom(model)
        before = sum(node.op_type == "Erf" for node in fused.graph.node)
        assert fuse_gelu(fused) == before > 3
        assert not any(node.op_type == "Erf" for node in fused.graph.node)
        onnx.checker.check_model(fused, full_check=True)
        onnx.save(fused, tmp_path / "x.onnx")
        wanted, found = (
            engine(path, student, "fp32").score_windows(windows(3))
            for path in (folder / "model.onnx", tmp_path / "x.onnx")
        )
        assert np.abs(found - wanted).max() < 1e-4

    def test_positions_are_stored_in_fp16(self, exported, tmp_path):
        """Logits change by less than a thousandth of their deviation, the file by half of the positions."""
        folder, student, model, calibration = exported
        write_int8(model, tmp_path / "x.onnx", "int8-cpu", calibration.minmax)
        stored = {item.name: item for item in onnx.load(tmp_path / "x.onnx").graph.initializer}
        halves = [name for name, item in stored.items() if item.data_type == onnx.TensorProto.FLOAT16]
        table = "student.encoder.embed_positions.weight"
        assert halves == ([f"{table}_half"] if student.encoder.family == "whisper" else [])
        compact = onnx.ModelProto()
        compact.CopyFrom(model)
        assert store_tables_in_half(compact) == len(halves)
        onnx.checker.check_model(compact, full_check=True)
        onnx.save(compact, tmp_path / "compact.onnx")
        wanted, found = (
            engine(path, student, "fp32").score_windows(windows(8))
            for path in (folder / "model.onnx", tmp_path / "compact.onnx")
        )
        assert logit_error(found, wanted) < 1e-3
        if halves:
            values = student.encoder.embed_positions.weight[: stored[halves[0]].dims[0]].numel()
            saved = (folder / "model.onnx").stat().st_size - (tmp_path / "compact.onnx").stat().st_size
            assert 2 * values - 300 < saved < 2 * values

    def test_the_runtime_converts_tables_when_it_opens_the_graph(self, exported, tmp_path):
        _, _, model, calibration = exported
        write_int8(model, tmp_path / "x.onnx", "int8-cpu", calibration.minmax)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), options, providers=["CPUExecutionProvider"])
        kinds = {item.data_type for item in onnx.load(tmp_path / "optimised.onnx").graph.initializer}
        assert onnx.TensorProto.FLOAT16 not in kinds

    def test_only_tables_become_fp16(self):
        """Not weights of products, biases, small constants, indices, nor values that FP16 cannot hold."""
        shape = [64, 32]
        kept = {
            "weight": np.ones((32, 32)),
            "bias": np.ones((64, 32)),
            "small": np.ones((4, 32)),
            "far": np.full(shape, 1e6),
        }
        kept["both"] = np.ones(shape)
        nodes = [
            onnx.helper.make_node("Gather", [name, "row"], [f"{name}_row"], f"encoder/{name}", axis=0)
            for name in ("table", "small", "far", "both")
        ]
        nodes += [
            onnx.helper.make_node("MatMul", ["x", "weight"], ["product"], "encoder/product"),
            onnx.helper.make_node("Add", ["product", "bias"], ["sum"], "encoder/sum"),
            onnx.helper.make_node("Add", ["sum", "both"], ["more"], "encoder/more"),
            onnx.helper.make_node(
                "Sum", ["more", *(f"{name}_row" for name in ("table", "small", "far", "both"))], ["y"]
            ),
        ]
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
        constants = {"table": np.full(shape, 1 / 3), **kept}
        graph = onnx.helper.make_graph(
            nodes,
            "g",
            values[:1],
            values[1:],
            [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
            + [onnx.numpy_helper.from_array(np.array([1]), "row")],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        (before,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.ones(shape, np.float32)})
        assert store_tables_in_half(model) == 1
        kinds = {item.name: item.data_type for item in model.graph.initializer}
        assert kinds.pop("table_half") == onnx.TensorProto.FLOAT16
        assert kinds == dict.fromkeys(kept, onnx.TensorProto.FLOAT) | {"row": onnx.TensorProto.INT64}
        (after,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.ones(shape, np.float32)})
        assert after == pytest.approx(before, rel=2**-11)

    def test_the_runtime_really_multiplies_in_int8(self, exported, tmp_path):
        """In the graph that ONNX Runtime makes of it, matrix products are integer ones; Softmax and GELU stay float."""
        _, student, model, calibration = exported
        write_int8(model, tmp_path / "x.onnx", "int8-cpu", calibration.minmax)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), options, providers=["CPUExecutionProvider"])
        used = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
        quantised = sum(choice.quantise for choice in choose(model))
        integer = sum(used[name] for name in ("QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearConv"))
        assert integer == quantised
        assert used["Softmax"] == student.encoder.depth
        assert used["Erf"] == 0
