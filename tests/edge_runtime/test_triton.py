"""Model repositories for Triton: what the configuration says is what the graph does, versions, the README's client.

Triton itself cannot run here. Its core (2.51) was seen to load such a repository and to answer the README's client,
with a Python backend in the place of ONNX Runtime's.
"""

import errno
import http.server
import json
import re
import threading

import numpy as np
import onnxruntime
import pytest
import soundfile

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.decision import decision_on, softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.tensorrt.engine_cache import cached_engines
from edge_runtime.triton import repository
from edge_runtime.windows import WindowPolicy
from export.triton.serve_graphs import serve_graphs
from tests.command import python
from tests.conftest import edgeemo, invoke, need, tone
from tests.model_config import parse_config
from tests.plain_bundles import change, hearing_graph, save_plain_bundle
from tests.small_bundles import save_bundle

SHORT = {"seconds": 1.0, "hop_seconds": 0.5, "minimum_seconds": 0.5, "segment_seconds": 6.0}


@pytest.fixture
def plain(tmp_path):
    """A bundle of milliseconds, called `plain`."""
    return save_plain_bundle(tmp_path / "bundles" / "plain", hearing_graph())


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture(scope="module")
def served(untrained_bundle, tmp_path_factory):
    """The model repository of a student's bundle, by the command."""
    models = tmp_path_factory.mktemp("triton") / "models"
    done = edgeemo("export", untrained_bundle, "--triton", models)
    assert done.returncode == 0, done.stderr
    return models


def serve_again(bundle, models):
    """Serve a bundle whose content has changed."""
    change(bundle, lambda content: content.update(temperature=2.5))
    return serve_graphs(load_bundle(bundle), models)


def config_of(model):
    return parse_config((model / "config.pbtxt").read_text())


def parameters_of(config):
    return {key: value.string_value for key, value in config.parameters.items()}


class TestConfig:
    def test_each_graph_of_onnx_runtime_is_a_model(self, served, untrained_bundle):
        name = untrained_bundle.name
        assert sorted(path.name for path in served.iterdir()) == ["README.md", f"{name}-fp32", f"{name}-int8-cpu"]
        for model in served.glob(f"{name}-*"):
            config = config_of(model)
            assert (config.name, config.backend) == (model.name, "onnxruntime")
            (group,) = config.instance_group
            assert (group.kind, group.count) == (2, 1)  # KIND_CPU
            assert config.version_policy.latest.num_versions == 1
            assert parameters_of(config)["intra_op_thread_count"] == "1"

    def test_sizes_are_those_that_the_graph_takes_and_gives(self, served):
        """In ONNX Runtime by itself, with the longest window and the shortest, and the reference of the parameters."""
        random = np.random.default_rng(0)
        for model in served.glob("*-*"):
            config = config_of(model)
            told = parameters_of(config)
            session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
            # Without batching, sizes must be all there are, the first one too.
            assert config.max_batch_size == 0
            inputs, outputs = (
                [(each.name, list(each.dims)) for each in which] for which in (config.input, config.output)
            )
            for said, there in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
                sizes = {each.name: [n if isinstance(n, int) else -1 for n in each.shape] for each in there}
                assert dict(said) == sizes
            assert dict(inputs)["pcm"] == [1, -1]
            assert {each.data_type for each in (*config.input, *config.output)} == {11}  # TYPE_FP32
            reference = np.array([json.loads(told["edgeemo.reference"])], np.float32)
            for samples in (int(told["edgeemo.shortest_samples"]), int(told["edgeemo.longest_samples"])):
                pcm = random.normal(0, 0.1, (1, samples)).astype(np.float32)
                given = session.run([name for name, _ in outputs], {"pcm": pcm, "reference": reference})
                assert [list(each.shape) for each in given] == [sizes for _, sizes in outputs]

    def test_a_client_is_told_what_it_needs(self, served, untrained_bundle):
        bundle = load_bundle(untrained_bundle)
        manifest = bundle.manifest
        for model in served.glob("*-*"):
            told = parameters_of(config_of(model))
            assert told["edgeemo.bundle"] == bundle.hash
            assert tuple(json.loads(told["edgeemo.labels"])) == manifest.labels
            assert int(told["edgeemo.sample_rate"]) == manifest.sample_rate
            assert float(told["edgeemo.temperature"]) == manifest.temperature
            assert float(told["edgeemo.threshold"]) == manifest.threshold
            assert int(told["edgeemo.longest_samples"]) == manifest.window.samples
            reference = np.array([json.loads(told["edgeemo.reference"])], np.float32)
            assert np.array_equal(reference, bundle.reference())
            (labelled,) = [each for each in config_of(model).output if each.label_filename]
            assert labelled.name == "logits"
            assert tuple((model / labelled.label_filename).read_text().splitlines()) == manifest.labels

    def test_references_to_the_last_bit_and_labels_of_any_script(self, plain, models):
        numbers, labels = [1 / 3, -1e-30, 123456.789, 2.5], ['a "b" \\n', "기쁨", "{}: #"]
        change(plain, lambda content: content.update(reference=numbers, labels=labels))
        serve_graphs(load_bundle(plain), models)
        told = parameters_of(config_of(models / "plain-fp32"))
        found = np.array(json.loads(told["edgeemo.reference"]), np.float32)
        assert np.array_equal(found, np.array(numbers, np.float32))
        assert json.loads(told["edgeemo.labels"]) == labels
        assert (models / "plain-fp32" / "labels.txt").read_text(encoding="utf-8").splitlines() == labels


class TestVersions:
    def test_the_same_again_changes_nothing(self, plain, models):
        (first,) = serve_graphs(load_bundle(plain), models)
        config = models / "plain-fp32" / "config.pbtxt"
        edited = config.read_text().replace("count: 1", "count: 4")
        config.write_text(edited)
        (again,) = serve_graphs(load_bundle(plain), models)
        assert (first.version, first.added, again.version, again.added) == (1, True, 1, False)
        assert config.read_text() == edited

    def test_another_export_is_the_next_version(self, plain, models):
        serve_graphs(load_bundle(plain), models)
        model = models / "plain-fp32"
        before = (model / "config.pbtxt").read_text()
        (made,) = serve_again(plain, models)
        assert (made.version, made.added) == (2, True)
        assert parameters_of(config_of(model))["edgeemo.temperature"] == "2.5"
        assert (model / "1" / "config.pbtxt").read_text() == before
        assert (model / "2" / "config.pbtxt").read_text() == (model / "config.pbtxt").read_text()
        assert sorted(path.name for path in model.iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
        assert "| plain-fp32 | 2 |" in (models / "README.md").read_text()

    def test_versions_that_triton_does_not_see_do_not_count(self, plain, models):
        serve_graphs(load_bundle(plain), models)
        for name in ("07", "old", "²"):
            (models / "plain-fp32" / name).mkdir()
        (models / "plain-fp32" / "1").rename(models / "plain-fp32" / "10")
        (made,) = serve_again(plain, models)
        assert made.version == 11

    @pytest.mark.parametrize(
        ("said", "what"),
        [
            ({"labels": ["angry", "happy", "bored"]}, "other labels (angry, happy, sad, not angry, happy, bored)"),
            ({"window": SHORT}, "other samples in a window (32000, not 16000)"),
        ],
    )
    def test_what_would_break_clients_is_refused(self, plain, models, said, what):
        serve_graphs(load_bundle(plain), models)
        change(plain, lambda content: content.update(said))
        with pytest.raises(WrongUseError, match=re.escape(what)):
            serve_graphs(load_bundle(plain), models)
        assert not (models / "plain-fp32" / "2").exists()

    def test_somebody_elses_model_is_refused(self, plain, models):
        (models / "plain-fp32" / "1").mkdir(parents=True)
        (models / "plain-fp32" / "1" / "model.onnx").write_bytes(b"theirs")
        with pytest.raises(WrongUseError, match="is another model, not made by edgeemo"):
            serve_graphs(load_bundle(plain), models)
        assert (models / "plain-fp32" / "1" / "model.onnx").read_bytes() == b"theirs"

    def test_somebody_elses_readme_is_left(self, plain, models):
        models.mkdir()
        (models / "README.md").write_text("# Ours\n")
        serve_graphs(load_bundle(plain), models)
        assert (models / "README.md").read_text() == "# Ours\n"


class TestWhole:
    """A server that starts meanwhile takes every directory for a model, and ends where one is none."""

    def test_nothing_half_made_is_ever_in_the_repository(self, plain, models, monkeypatch):
        seen = []
        write = repository._write

        def look(folder, files):
            write(folder, files)
            seen.append({path.name for path in models.iterdir()})

        monkeypatch.setattr(repository, "_write", look)
        serve_graphs(load_bundle(plain), models)
        serve_again(plain, models)
        assert seen == [set(), {"README.md", "plain-fp32"}]

    def test_a_full_disk_leaves_what_there_was(self, plain, models, monkeypatch):
        def full(folder, _files):
            (folder / "model.onnx").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        serve_graphs(load_bundle(plain), models)
        before = sorted(models.rglob("*"))
        change(plain, lambda content: content.update(temperature=2.5))
        changed = load_bundle(plain)
        with monkeypatch.context() as patched:
            patched.setattr(repository, "_write", full)
            with pytest.raises(EdgeemoError, match=r"2: cannot be written \(No space"):
                serve_graphs(changed, models)
        assert sorted(models.rglob("*")) == before
        assert sorted(path.name for path in models.parent.iterdir()) == ["bundles", "models"]
        assert serve_graphs(load_bundle(plain), models)[0].version == 2

    def test_one_that_was_killed_before_the_version_was_there(self, plain, models):
        serve_graphs(load_bundle(plain), models)
        serve_again(plain, models)
        (models / "plain-fp32" / "2").rename(models / "plain-fp32" / ".2.part")
        assert serve_graphs(load_bundle(plain), models)[0].version == 2
        assert not (models / "plain-fp32" / ".2.part").exists()


class Triton(http.server.BaseHTTPRequestHandler):
    """Stands in for Triton's HTTP endpoint: the model configuration, and inference with JSON tensors (KServe v2)."""

    def do_GET(self):
        model, _, what = self.path.removeprefix("/v2/models/").partition("/")
        config = config_of(self.server.models / model)
        assert what == "config"
        parameters = {key: {"string_value": text} for key, text in parameters_of(config).items()}
        inputs = [{"name": each.name, "dims": list(each.dims)} for each in config.input]
        self.answer({"parameters": parameters, "input": inputs})

    def do_POST(self):
        model = self.server.models / self.path.removeprefix("/v2/models/").removesuffix("/infer")
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        feeds = {}
        for wanted, given in zip(config_of(model).input, asked["inputs"], strict=True):
            assert (given["name"], given["datatype"]) == (wanted.name, "FP32")
            assert all(size in (n, -1) for n, size in zip(given["shape"], wanted.dims, strict=True))
            feeds[given["name"]] = np.array(given["data"], np.float32).reshape(given["shape"])
        session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        names = [each.name for each in config_of(model).output]
        rows = [
            {"name": name, "datatype": "FP32", "shape": list(value.shape), "data": value.ravel().tolist()}
            for name, value in zip(names, session.run(names, feeds), strict=True)
        ]
        self.answer({"model_name": model.name, "model_version": "1", "outputs": rows})

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served_in_chunks(tmp_path_factory):
    """The model repository of a bundle that encodes in chunks, and the bundle."""
    folder = tmp_path_factory.mktemp("chunks")
    policy = WindowPolicy(seconds=4.0, segment_seconds=4.0, hop_seconds=0.5, chunk_seconds=0.5)
    bundle = save_bundle(folder / "bundle", policy=policy)
    serve_graphs(load_bundle(bundle), folder / "models")
    return folder / "models", bundle


@pytest.mark.parametrize("chunks", [False, True])
def test_the_readmes_client_decides_as_the_runtime_does(chunks, request, served, untrained_bundle, tmp_path):
    if chunks:
        served, untrained_bundle = request.getfixturevalue("served_in_chunks")
    speech = tone(3.0)
    soundfile.write(tmp_path / "speech.wav", speech, 16_000, subtype="FLOAT")
    (code,) = re.findall(r"^```python\n(.*?)^```", (served / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert f"/v2/models/{untrained_bundle.name}-int8-cpu" in code
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Triton) as server:
        server.models = served
        threading.Thread(target=server.serve_forever).start()
        try:
            code = code.replace(":8000", f":{server.server_port}")
            done = python("-c", code, cwd=tmp_path)
        finally:
            server.shutdown()
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(untrained_bundle)
    manifest = bundle.manifest
    logits = OnnxEngine.of(bundle, "int8-cpu").score(speech[: manifest.window.samples]).logits
    wanted = decision_on(softmax(logits, manifest.temperature), manifest.labels, manifest.threshold)
    label, confidence, *uncertain = done.stdout.split()
    assert (label, bool(uncertain)) == (wanted.label, wanted.uncertain)
    assert float(confidence) == pytest.approx(wanted.confidence, abs=1e-6)


class TestCommands:
    def test_export_of_a_run_serves_its_bundle(self, run_dir, tmp_path):
        need("onnx", "onnxscript")
        done = edgeemo("export", run_dir, "--allow-chance", "--out", tmp_path / "new", "--triton", tmp_path / "models")
        assert done.returncode == 0, done.stderr
        assert f"{tmp_path}/models/new-fp32: version 1\n" in done.stderr
        content = (tmp_path / "models" / "new-fp32" / "1" / "model.onnx").read_bytes()
        assert content == (tmp_path / "new" / "model.fp32.onnx").read_bytes()
        assert (tmp_path / "models" / "new-fp32" / "1" / "bundle.json").is_file()
        assert f"edgeemo build {tmp_path}/new --triton {tmp_path}/models" in done.stderr
        # As rendered speech has it.
        licence = load_bundle(tmp_path / "new").manifest.corpora[0].licence
        assert f"| as its speech: {licence} |" in (tmp_path / "models" / "README.md").read_text()

    def test_the_default_bundle(self, tmp_path):
        done = edgeemo("export", DEFAULT_BUNDLE, "--triton", tmp_path)
        assert done.returncode == 0, done.stderr
        assert config_of(tmp_path / "default-int8-cpu").name == "default-int8-cpu"
        # It holds no graph for TensorRT, so nothing is said of it.
        assert "TensorRT" not in done.stderr
        assert "research" in (tmp_path / "README.md").read_text()

    def test_a_name_that_triton_cannot_use_is_told_before_the_export(self, run_dir, tmp_path):
        done = edgeemo(
            "export", run_dir, "--allow-chance", "--out", tmp_path / "my bundle", "--triton", tmp_path / "models"
        )
        assert done.returncode == 2
        assert "its name is the prefix of Triton's model names, so it must be of letters" in done.stderr
        assert "FP32 graph" not in done.stderr

    def test_a_graph_that_failed_the_accuracy_gate_is_a_warning(self, plain, models):
        drop = {"ua": 0.05, "low": 0.01, "high": 0.09}
        gate = {"failed": ["fp32"], "max_drop": 0.01, "drops": {"fp32": drop}}
        change(plain, lambda content: content.update(gate=gate))
        done = edgeemo("export", plain, "--triton", models)
        assert done.returncode == 0, done.stderr
        assert "fp32 failed the accuracy gate: it loses +5.0 points" in done.stderr

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "is a bundle already; to serve it with Triton, give a model repository (--triton)"),
            (("--triton", "m", "--int8", "--jobs", "2"), "Error: --int8, --jobs: is for the export of a run, and"),
        ],
    )
    def test_a_bundle_is_not_exported_again(self, plain, tmp_path, words, says):
        done = edgeemo("export", plain, *words, cwd=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr.splitlines()[-1]
        assert not (tmp_path / "m").exists()

    def test_engines_for_desktop_cards_are_none_for_triton(self, plain, tmp_path):
        done = edgeemo("build", plain, "--target", "rtx", "--triton", tmp_path / "models")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("Error: --triton: Triton runs engines of TensorRT, not of")


class TestEngines:
    def test_a_built_engine_is_a_model_of_its_own(self, untrained_bundle, simulated_gpu, models):
        name = f"{untrained_bundle.name}-tensorrt-int8"
        done = edgeemo("build", untrained_bundle, "--triton", models)
        assert done.returncode == 0, done.stderr
        assert f"{models}/{name}: version 1\n" in done.stderr
        config = config_of(models / name)
        assert (config.name, config.backend, config.max_batch_size) == (name, "tensorrt", 0)
        assert [(group.kind, group.count) for group in config.instance_group] == [(1, 1)]  # KIND_GPU
        assert [(each.name, each.dims[1]) for each in config.input] == [("pcm", -1), ("reference", 64)]
        told = parameters_of(config)
        assert told["edgeemo.precision"] == "int8-trt"
        assert "intra_op_thread_count" not in told
        (engine,) = cached_engines()
        assert (models / name / "1" / "model.plan").read_bytes() == engine.read_bytes()
        assert f"/v2/models/{name}" in (models / "README.md").read_text()

    def test_export_serves_the_engines_that_it_builds(self, untrained_bundle, simulated_gpu, models):
        done = edgeemo("export", untrained_bundle, "--triton", models)
        assert done.returncode == 0, done.stderr
        names = {path.name.removeprefix(f"{untrained_bundle.name}-") for path in models.iterdir() if path.is_dir()}
        assert names == {"fp32", "int8-cpu", "tensorrt-int8", "tensorrt-fp16", "tensorrt-fp32"}
        for model in (path for path in models.iterdir() if path.is_dir()):
            assert config_of(model).name == model.name
        assert "on the server itself" not in done.stderr

    def test_an_engine_with_other_results_is_not_served(self, untrained_bundle, simulated_gpu, models):
        simulated_gpu.noise = 1.0
        assert invoke("build", untrained_bundle, "--triton", models).returncode == 3
        assert not models.exists()


def test_a_bundle_that_was_changed_meanwhile(plain, models):
    bundle = load_bundle(plain)
    change(plain, lambda content: content.update(temperature=9.0))
    with pytest.raises(EdgeemoError, match="was changed while it was read"):
        serve_graphs(bundle, models)
    assert not models.exists()
