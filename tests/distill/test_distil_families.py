"""The paper's recipe, other encoders and the acoustic teacher, end to end on a small rendered corpus."""

import json
import os
import resource
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from distill.distillation.build_student import build_student
from distill.distillation.objective import Distillation
from distill.load_recipe import load_recipe
from distill.pruning.prune import prune
from distill.runs.run_directory import read_report, read_run
from distill.student import Student
from distill.teachers.registry import entries
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from export.graphs.float_graph import export_graph
from tests.command import distil
from tests.conftest import edgeemo, tone
from tests.quantise import quantise
from tests.small_models import save_bert, save_encoder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": save_bert(folder / "bert"),
        "hubert": save_encoder(folder / "hubert", "hubert"),
        "wavlm": save_encoder(folder / "wavlm", "wavlm", stable=True, normalise=False),
    }


@pytest.fixture(scope="module")
def paper_run(models, corpus_dir, cache, tmp_path_factory):
    """The paper's recipe, one epoch a model, with small models on disk in place of the hub's."""
    out = tmp_path_factory.mktemp("paper") / "run"
    changes = [f"--set={name}.training.epochs=1" for name in ("teachers.linguistic", "teachers.prosodic", "student")]
    distil(
        "emodistill-hubert-base", corpus_dir, out, cache, "--encoder", models["hubert"],
        f'--set=teachers.linguistic.encoder="{models["bert"]}"', '--set=folds.by="speaker"', "--set=folds.count=3",
        "--set=threads=1", *changes,
    code=0)  # fmt: skip
    return out


class TestThePapersRecipe:
    def test_is_what_the_paper_gives(self):
        recipe = load_recipe("emodistill-hubert-base")
        assert recipe.student.encoder == "facebook/hubert-base-ls960"
        linguistic, prosodic = (entry.settings for entry in entries(recipe))
        assert linguistic.encoder == "google-bert/bert-base-uncased"
        assert (linguistic.signal.temperature, prosodic.signal.temperature) == (4.0, 0.5)
        assert not recipe.student.shared_branch

    @pytest.mark.slow
    def test_runs(self, paper_run, models):
        record, report = read_run(paper_run), read_report(paper_run)
        assert record.recipe.student.encoder == str(models["hubert"])
        assert set(report.teachers) == {"linguistic", "prosodic"}
        student = Student.from_pretrained(paper_run / "student")
        assert student.encoder.family == "hubert"
        # The linguistic teacher's embedding is BERT's, which here is small.
        assert student.config.branch_sizes() == {"linguistic": 32, "prosodic": 128}
        assert report.parameters == sum(weight.numel() for weight in student.parameters())
        assert student.reference.abs().sum() > 0

    @pytest.mark.slow
    def test_exports(self, paper_run, tmp_path):
        edgeemo("export", paper_run, "--allow-chance", "--out", tmp_path / "bundle", code=0)
        manifest = load_bundle(tmp_path / "bundle").manifest
        encoder = manifest.encoder
        assert (encoder.family, encoder.layers, encoder.mel_bins, encoder.pooled_layers) == ("hubert", 3, 0, (-1,))
        assert manifest.level_db == 0.0
        assert manifest.parity[0]["largest_difference"] < 1e-4


@pytest.fixture(scope="module")
def three_teachers(recipe_file, models, tmp_path_factory):
    """The small recipe with all three teachers."""
    path = tmp_path_factory.mktemp("acoustic") / "three.toml"
    path.write_text(
        recipe_file.read_text()
        + f"""
[[teachers]]
kind = "acoustic"
encoder = "{models["wavlm"]}"
layers = 2
pooled_layers = [1, 2]
frozen = 1
seconds = 4.0
embedding_size = 24
training = {{ epochs = 2, learning_rate = 1e-3 }}
signal = {{ temperature = 2.0 }}
"""
    )
    return path


@pytest.fixture(scope="module")
def three_run(three_teachers, corpus_dir, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("acoustic") / "run"
    done = distil(three_teachers, corpus_dir, out, cache, code=0)
    assert "acoustic teacher: epoch 2/2" in done.stderr
    return out


@pytest.mark.slow
class TestAcousticTeacher:
    def test_it_is_in_the_report(self, three_run):
        report = read_report(three_run)
        assert list(report.teachers) == ["linguistic", "prosodic", "acoustic"]
        assert len(report.teachers["acoustic"].history) == 2
        assert 0 <= report.teachers["acoustic"].test.ua <= 1
        student = Student.from_pretrained(three_run / "student")
        assert list(student.branches) == ["linguistic", "prosodic", "acoustic"]
        assert student.config.branch_sizes()["acoustic"] == 24

    def test_other_weights_at_the_same_path_are_another_teacher(
        self, three_run, three_teachers, corpus_dir, cache, tmp_path, models
    ):
        before = (models["wavlm"] / "model.safetensors").read_bytes()
        try:
            save_encoder(models["wavlm"], "wavlm", stable=True, normalise=False, intermediate_size=48)
            done = distil(three_teachers, corpus_dir, tmp_path / "r", cache, "--set", "student.training.epochs=1")
        finally:
            (models["wavlm"] / "model.safetensors").write_bytes(before)
        assert done.stderr.count("taken from the cache") == 2
        assert "acoustic teacher: epoch" in done.stderr

    def test_an_encoder_that_is_not_there_leaves_no_run_behind(self, three_teachers, corpus_dir, cache, tmp_path):
        setting = f'teachers.acoustic.encoder="{tmp_path}"'
        done = distil(three_teachers, corpus_dir, tmp_path / "r", cache, "--set", setting, code=1)
        assert "acoustic.encoder: " in done.stderr
        assert "is no model directory" in done.stderr
        assert not (tmp_path / "r").exists()


class TestRecipeKeys:
    def test_encoder_and_frozen_options(self, recipe_file):
        recipe = load_recipe(str(recipe_file), encoder="some/model", settings=("student.layers=3",))
        assert (recipe.student.encoder, recipe.student.random, recipe.student.layers) == ("some/model", None, 3)
        assert load_recipe(str(recipe_file), settings=("student.frozen=-1",)).student.frozen == "all"
        assert load_recipe(str(recipe_file), settings=("student.frozen=0",)).student.frozen == 0
        assert load_recipe(str(recipe_file)).student.frozen == "none"
        saved = load_recipe(str(recipe_file), settings=("student.frozen=2",)).model_dump_json()
        assert json.loads(saved)["student"]["frozen"] == 2

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ("student.pooled_layers=[]", r"'student.pooled_layers': must not be empty$"),
            ("student.pooled_layers=[1, 1]", r"'student.pooled_layers': names a layer twice$"),
            ("student.pooled_layers=[-2]", r"'student.pooled_layers 1': must be at least -1$"),
            ("student.frozen=-2", r"'student.frozen"),
            ('student.frozen="some"', r"'student.frozen"),
            ("student.branches={}", r"'student.branches': must not be empty$"),
            ("student.branches.linguistic=0", r"'student.branches.linguistic': must be at least 1$"),
            ('student.branches={"a.b"=4}', r"must be a name of letters, digits, '-' and '_'$"),
        ],
    )
    def test_nonsense_is_refused(self, recipe_file, setting, message):
        with pytest.raises(WrongUseError, match=message):
            load_recipe(str(recipe_file), settings=(setting,))


@pytest.mark.slow
def test_a_student_of_full_size(tmp_path):
    """HuBERT-base with random weights: optimisation, export, pruning, INT8.

    Of its twelve blocks, which are alike, two; ``EDGEEMO_BLOCKS=12`` has them all, and takes six times as long.
    """
    blocks = int(os.environ.get("EDGEEMO_BLOCKS", "2"))
    policy = WindowPolicy(seconds=1.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=2.0)
    HubertModel(HubertConfig(num_hidden_layers=blocks)).save_pretrained(tmp_path / "hubert")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "hubert")
    recipe = load_recipe("emodistill-hubert-base", encoder=str(tmp_path / "hubert"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        student = build_student(recipe.student, ("angry", "happy", "neutral", "sad"))
        # A block has 7.1 million.
        assert 94e6 < sum(weight.numel() for weight in student.parameters()) + (12 - blocks) * 7.088e6 < 97e6
        signals = {entry.name: entry.settings.signal for entry in entries(recipe)}
        objective = Distillation(student, recipe.student, signals).train()
        optimiser = torch.optim.AdamW([w for w in student.parameters() if w.requires_grad], lr=3e-5)
        pcm = torch.from_numpy(np.stack([tone(1.0), tone(1.0, frequency=180)]))
        targets = {f"{name}_logits": torch.randn(2, 4) for name in signals}
        targets |= {"linguistic_embedding": torch.randn(2, 768), "prosodic_embedding": torch.randn(2, 128)}
        batch = torch.tensor([0, 2]), pcm, torch.tensor([16_000, 12_000])
        losses = []
        for _ in range(2):
            loss = objective(*batch, targets=targets)["loss"]
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert losses[1] < losses[0]
        del optimiser, objective, loss

        student.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_graph(student, policy, tmp_path / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
        window = tone(1.0)[None]
        inputs = {"pcm": window, "reference": student.reference.numpy()}
        with torch.inference_mode():
            wanted = student(torch.from_numpy(window)).logits.numpy()
        assert np.abs(session.run(None, inputs)[0] - wanted).max() < 1e-3
        del session

        sounds = [tone(1.0, frequency=120 + 30 * number) for number in range(3)]
        pruned, plan = prune(student, 0.5, sounds, policy.samples)
        export_graph(pruned, policy, tmp_path / "pruned.onnx")
        done = quantise(tmp_path / "pruned.onnx", tmp_path / "int8.onnx", "int8-cpu", sounds, student.reference.numpy())
        session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", options)
        assert np.isfinite(session.run(None, inputs)[0]).all()
    finally:
        torch.set_num_threads(threads)
    assert 0.5 <= plan.removed < 0.52
    assert min(plan.sizes.heads) >= 1
    assert all(size % 32 == 0 for size in (*plan.sizes.feed_forward, *plan.sizes.channels))
    assert done["quantised"] > blocks * 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 12e6, "kilobytes"
    assert not list(tmp_path.glob("*.data")), "no external data"
    size = (tmp_path / "model.onnx").stat().st_size
    small = (tmp_path / "int8.onnx").stat().st_size
    assert small < size / 3, "what comes before the blocks stays in float"
