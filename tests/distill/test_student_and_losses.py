"""The student and its losses, against hand-made values and independent implementations."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import WhisperFeatureExtractor, WhisperModel
from transformers.audio_utils import mel_filter_bank

from distill.distillation.build_student import build_student
from distill.distillation.objective import Distillation
from distill.encoders.frontend import LevelNormalisation, LogMel
from distill.recipe import RandomEncoder, Schedule, TeacherSignal
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from distill.training.losses import distribution_loss, embedding_loss
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import SHARED, tone

RECIPE = StudentRecipe(
    random=RandomEncoder(d_model=32, layers=2, heads=2, feed_forward=64, mel_bins=40),
    hidden_size=16,
    training=Schedule(epochs=1, learning_rate=1e-3),
)


@pytest.fixture
def student():
    torch.manual_seed(0)
    built = build_student(RECIPE, ("a", "b", "c"), {"linguistic": 6, "prosodic": 5}).eval()
    built.reference.normal_()
    return built


def speechlike(seconds, seed=0):
    noise = np.random.default_rng(seed).standard_normal(round(seconds * 16_000)).astype(np.float32) * 0.02
    return torch.from_numpy(tone(seconds, frequency=150 + 40 * seed) + noise)


def log_mel_in_float64(pcm, bins):
    """Return Whisper's features of a waveform, without padding, by NumPy's FFT."""
    frames = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float64), 400)[::160]
    power = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)))) ** 2
    log = np.log10(np.maximum(1e-10, power @ mel_filter_bank(201, bins, 0, 8000, 16_000, "slaney", "slaney")))
    return (np.maximum(log, log.max() - 8).T + 4) / 4


SIGNALS = [
    pytest.param(lambda draw, time: 0.05 * draw.standard_normal(len(time)), 2e-6, id="noise"),
    pytest.param(lambda draw, time: np.zeros(len(time)), 1e-7, id="silence"),
    pytest.param(lambda draw, time: np.rint(2 * draw.standard_normal(len(time))) / 32768, 2e-6, id="lowest bits"),
    # Bins far from a tone hold the rounding of its samples, up to eight decades below.
    pytest.param(lambda draw, time: np.sin(880 * np.pi * time) * (time < 0.5), 1e-5, id="tone beside silence"),
    pytest.param(lambda draw, time: 0.9 * np.sin(6666 * np.pi * time), 1e-4, id="loud tone"),
]


class TestFrontEnd:
    @pytest.mark.parametrize("bins", [40, 80])
    def test_log_mel_is_whispers(self, bins):
        """Equal to Hugging Face's feature extractor, but for its padding at both ends."""
        pcm = speechlike(2.0)
        extractor = WhisperFeatureExtractor(feature_size=bins)
        # Its frame t is centred at sample 160 t; ours starts there, so frame t of ours is frame t + 1.25 of theirs:
        # shift by 200 samples to line them up.
        theirs = extractor._np_extract_fbank_features(pcm.numpy()[None], device="cpu")[0]
        ours = LogMel(bins)(torch.cat([torch.zeros(200), pcm])[None])[0][0].numpy()
        edge = 3
        inner = slice(edge, 190)
        assert np.abs(ours[:, inner] - theirs[:, inner]).max() < 1e-3

    @pytest.mark.parametrize("bins", [40, 80])
    @pytest.mark.parametrize(("signal", "tolerance"), SIGNALS)
    def test_log_mel_is_that_of_an_fft_in_float64(self, signal, tolerance, bins):
        pcm = signal(np.random.default_rng(0), np.arange(16_123) / 16_000).astype(np.float32)
        ours = LogMel(bins)(torch.from_numpy(pcm)[None])[0][0].numpy()
        assert ours.dtype == np.float32
        assert np.abs(ours - log_mel_in_float64(pcm, bins)).max() < tolerance

    @pytest.mark.parametrize("samples", [400, 559, 560, 1040, 16_000, 16_159])
    def test_log_mel_of_any_length(self, samples):
        pcm = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
        ours = LogMel(40)(torch.from_numpy(pcm)[None])[0][0].numpy()
        assert ours.shape == (40, (samples - 400) // 160 + 1)
        assert np.abs(ours - log_mel_in_float64(pcm, 40)).max() < 1e-5

    def test_log_mel_of_a_padded_batch(self):
        """Each waveform as alone: the maximum, relative to which values are clamped, is its own."""
        waves = [speechlike(1.0) * 1e-3, speechlike(0.7, 1)]
        padded = torch.stack([waves[0], functional.pad(waves[1], (0, 4_800))])
        frames = torch.tensor([[(len(wave) - 400) // 160 + 1] for wave in waves])
        features, _ = LogMel(40)(padded, torch.arange(98) < frames)
        for found, wave, count in zip(features, waves, frames, strict=True):
            assert torch.allclose(found[:, :count], LogMel(40)(wave[None])[0][0], atol=1e-6)
            assert not found[:, count:].any()

    def test_log_mel_counts_its_products(self):
        """A quarter of the 2 x 201 x 400 of a DFT by its definition, and a filter for each of 199 bins."""
        assert LogMel(80).macs_per_frame == 100 * 2 * (99 + 100) + 199 * 80

    @pytest.mark.parametrize("gain", [0.05, 1.0, 4.0])
    def test_level_does_not_matter(self, gain):
        pcm = speechlike(1.0)[None]
        level = LevelNormalisation()
        assert torch.allclose(level(pcm * gain), level(pcm), atol=1e-5)
        rms = level(pcm).square().mean().sqrt().item()
        assert 20 * np.log10(rms) == pytest.approx(-26, abs=0.01)

    def test_silence_is_not_blown_up(self):
        assert LevelNormalisation()(torch.full((1, 100), 1e-6)).abs().max() < 1e-3
        assert torch.isfinite(LogMel(40)(LevelNormalisation()(torch.zeros(1, 16_000)))[0]).all()


class TestStudent:
    def test_the_reference_is_taken_off(self, student):
        pcm = speechlike(1.0)[None]
        usual = student(pcm).statistics
        centred = student(pcm, reference=usual)
        zero = student(pcm, reference=torch.zeros_like(usual))
        assert not torch.allclose(centred.logits, zero.logits)
        assert torch.equal(centred.statistics, zero.statistics)
        expected = student.linguistic(torch.zeros_like(usual))
        assert torch.allclose(centred.embeddings["linguistic"], expected, atol=1e-6)

    def test_default_reference_follows_the_training_mean(self, student):
        student.reference.zero_()
        student.train()
        pcm = torch.stack([speechlike(1.0), speechlike(1.0, 1)])
        student(pcm)
        first = student.reference.clone()
        assert first.abs().sum() > 0
        for _ in range(200):
            student(pcm)
        student.eval()
        mean = student(pcm).statistics.mean(dim=0, keepdim=True)
        # In training mode and in evaluation the statistics must be the same ones: no dropout before the pooling.
        assert torch.allclose(student.reference, mean, atol=1e-4)
        frozen = student.reference.clone()
        student(pcm)
        assert torch.equal(student.reference, frozen)

    def test_a_random_encoder_has_no_blocks_behind_the_last_pooled_one(self):
        built = build_student(RECIPE.model_copy(update={"pooled_layers": (1, 0)}), ("a", "b"))
        assert (built.encoder.depth, built.reference.shape) == (1, (1, 128))
        with pytest.raises(WrongUseError, match=r"layer 3 cannot be pooled, since only 2 are kept"):
            build_student(RECIPE.model_copy(update={"pooled_layers": (3,)}), ("a", "b"))

    def test_a_directory_that_is_no_encoder(self, tmp_path):
        with pytest.raises(EdgeemoError, match="is no model directory"):
            build_student(RECIPE.model_copy(update={"random": None, "encoder": str(tmp_path)}), ("a", "b"))
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(WrongUseError, match="family 'bert'"):
            build_student(RECIPE.model_copy(update={"random": None, "encoder": str(tmp_path)}), ("a", "b"))

    def test_the_first_layers_of_a_real_whisper(self):
        """The encoder of the student is Hugging Face's own, layer for layer."""
        path = SHARED / "models" / "whisper-base"
        if not path.is_dir():
            pytest.skip("../shared/models/whisper-base is not here")
        recipe = RECIPE.model_copy(update={"random": None, "encoder": str(path), "layers": 3})
        built = build_student(recipe, ("a", "b")).eval()
        assert len(built.encoder.layers) == 3
        source = WhisperModel.from_pretrained(path, dtype="float32").encoder.eval()
        pcm = speechlike(2.0)[None]
        features, _ = built.encoder.log_mel(built.encoder.level(pcm))
        # Hugging Face wants 30 s: compare the convolution, which has no attention over the padding.
        padded = functional.pad(features, (0, 3000 - features.shape[2]))
        theirs = functional.gelu(source.conv2(functional.gelu(source.conv1(padded))))[:, :, :90]
        ours = functional.gelu(built.encoder.conv2(functional.gelu(built.encoder.conv1(features))))[:, :, :90]
        assert torch.allclose(ours, theirs, atol=1e-4)
        for layer, wanted in zip(built.encoder.layers, source.layers, strict=False):
            hidden = torch.randn(1, 50, 512)
            assert torch.allclose(layer(hidden, None), wanted(hidden, None), atol=1e-5)
        with pytest.raises(WrongUseError, match="has 6 layers, not 7"):
            build_student(recipe.model_copy(update={"layers": 7}), ("a", "b"))


class TestLosses:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_distribution_loss_by_hand(self, temperature):
        student, teacher = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]]), np.array([[0.3, 1.0, 0.0], [2.0, 0.0, 1.0]])

        def probabilities(logits):
            raised = np.exp(logits / temperature)
            return raised / raised.sum(axis=1, keepdims=True)

        p, q = probabilities(teacher), probabilities(student)
        wanted = (p * np.log(p / q)).sum(axis=1).mean() * temperature**2
        got = distribution_loss(torch.tensor(student), torch.tensor(teacher), temperature).item()
        assert got == pytest.approx(wanted, rel=1e-9)

    def test_distribution_and_embedding_loss(self):
        logits = torch.randn(5, 4)
        assert distribution_loss(logits, logits + 3.0, 2.0).item() == pytest.approx(0, abs=1e-6)
        other = torch.randn(5, 4)
        each = torch.stack([distribution_loss(other[i : i + 1], logits[i : i + 1], 2.0) for i in range(5)])
        assert distribution_loss(other, logits, 2.0).item() == pytest.approx(each.mean().item(), rel=1e-5)
        sizes = []
        for temperature in (1.0, 4.0, 16.0):
            student = torch.tensor([[0.1, -0.1, 0.0]], requires_grad=True)
            distribution_loss(student, torch.tensor([[0.5, 0.0, -0.5]]), temperature).backward()
            sizes.append(student.grad.norm().item())
        assert max(sizes) < 1.5 * min(sizes)
        x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        assert embedding_loss(x, 3 * x).item() == pytest.approx(0)
        assert embedding_loss(x, -x).item() == pytest.approx(2)
        assert embedding_loss(x, x.flip(0)).item() == pytest.approx(1)

    def test_the_whole_loss_is_the_weighted_sum(self, student):
        signals = {
            "linguistic": TeacherSignal(temperature=4.0, logit_weight=0.3, embedding_weight=2.0),
            "prosodic": TeacherSignal(temperature=0.5, logit_weight=0.7, embedding_weight=0.5),
        }
        # In training; dropout alone is off.
        objective = Distillation(student, RECIPE.model_copy(update={"label_weight": 0.9}), signals).train()
        student.eval()
        torch.manual_seed(1)
        pcm = torch.stack([speechlike(1.0), speechlike(1.0, 1)])
        batch = {"pcm": pcm, "lengths": torch.tensor([16_000, 16_000]), "labels": torch.tensor([0, 2])}
        targets = {f"{name}_logits": torch.randn(2, 3) for name in signals}
        targets |= {"linguistic_embedding": torch.randn(2, 6), "prosodic_embedding": torch.randn(2, 5)}
        output = student(batch["pcm"], batch["lengths"])
        wanted = 0.9 * functional.cross_entropy(output.logits, batch["labels"])
        wanted += 0.3 * distribution_loss(output.logits, targets["linguistic_logits"], 4.0)
        wanted += 2.0 * embedding_loss(output.embeddings["linguistic"], targets["linguistic_embedding"])
        wanted += 0.7 * distribution_loss(output.logits, targets["prosodic_logits"], 0.5)
        wanted += 0.5 * embedding_loss(output.embeddings["prosodic"], targets["prosodic_embedding"])
        assert objective(**batch, targets=targets)["loss"].item() == pytest.approx(wanted.item(), rel=1e-5)
        plain = functional.cross_entropy(output.logits, batch["labels"]).item()
        assert objective(**batch)["loss"].item() == pytest.approx(plain, rel=1e-6)
        # What validation is told of teachers is for watching their weights: it does not change its loss.
        assert objective.eval()(**batch, targets=targets)["loss"].item() == pytest.approx(plain, rel=1e-6)

    def test_an_acoustic_branch_is_disjoint_too(self):
        built = build_student(RECIPE, ("a", "b", "c"), {"linguistic": 6, "prosodic": 5, "acoustic": 4})
        assert list(built.branches) == ["linguistic", "prosodic", "acoustic"]
        output = built(speechlike(1.0)[None])
        assert output.embeddings["acoustic"].shape == (1, 4)
        embedding_loss(output.embeddings["acoustic"], torch.randn(1, 4)).backward()
        assert built.acoustic[0].weight.grad.abs().sum() > 0
        assert built.linguistic[0].weight.grad is None
        assert built.prosodic[0].weight.grad is None

    def test_a_student_without_the_teacher_is_no_smaller(self):
        """Sizes in the recipe stand for those of a teacher that was left out."""
        recipe = RECIPE.model_copy(update={"branches": {"linguistic": 6, "prosodic": 5, "acoustic": 4}})
        with_all = build_student(recipe, ("a", "b"), {"linguistic": 6, "prosodic": 5, "acoustic": 4})
        with_none = build_student(recipe, ("a", "b"))
        ours, theirs = ([(name, w.shape) for name, w in each.named_parameters()] for each in (with_all, with_none))
        assert ours == theirs


EMBEDDINGS = {"linguistic": 60, "prosodic": 50, "acoustic": 40}


class TestSharedBranch:
    def build(self, branches, **changes):
        torch.manual_seed(0)
        recipe = RECIPE.model_copy(update={"shared_branch": branches == "shared", "hidden_size": 32, **changes})
        return build_student(recipe, ("a", "b", "c"), EMBEDDINGS)

    def parameters(self, student):
        return sum(weight.numel() for weight in student.parameters())

    @pytest.mark.parametrize("hidden", [16, 32, 128])
    def test_it_has_the_parameters_of_disjoint_branches(self, hidden):
        disjoint, shared = self.build("disjoint", hidden_size=hidden), self.build("shared", hidden_size=hidden)
        inputs, outputs = disjoint.reference.shape[1], sum(EMBEDDINGS.values())
        assert abs(self.parameters(disjoint) - self.parameters(shared)) <= (inputs + 1 + outputs) / 2
        assert disjoint.head[0].weight.shape == shared.head[0].weight.shape

    def test_every_teacher_moves_the_same_branch(self):
        student = self.build("shared").eval()
        signals = {name: TeacherSignal(temperature=1.0, logit_weight=0.0) for name in ("linguistic", "acoustic")}
        objective = Distillation(student, RECIPE.model_copy(update={"label_weight": 0.0}), signals)
        targets = {f"{name}_logits": torch.randn(2, 3) for name in signals}
        targets |= {f"{name}_embedding": torch.randn(2, EMBEDDINGS[name]) for name in signals}
        pcm = torch.stack([speechlike(1.0), speechlike(1.0, 1)])
        loss = objective(torch.tensor([0, 1]), pcm, torch.tensor([16_000] * 2), targets=targets)["loss"]
        shared = student(pcm).embeddings["shared"]
        assert shared.shape == (2, 150)
        mapped = {name: functional.linear(shared, each.weight, each.bias) for name, each in objective.maps.items()}
        wanted = sum(embedding_loss(mapped[name], targets[f"{name}_embedding"]) for name in signals)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        loss.backward()
        assert student.shared[0].weight.grad.abs().sum() > 0
        assert all(each.weight.grad.abs().sum() > 0 for each in objective.maps.values())
        assert set(objective.maps) == set(signals)

    def test_the_maps_stay_behind(self, tmp_path):
        student = self.build("shared").eval()
        Distillation(student, RECIPE, {"linguistic": TeacherSignal(temperature=1.0)})
        student.save_pretrained(tmp_path)
        again = Student.from_pretrained(tmp_path).eval()
        assert self.parameters(again) == self.parameters(student)
        assert not any("maps" in name for name in again.state_dict())
        pcm = speechlike(1.0)[None]
        assert torch.allclose(again(pcm).logits, student(pcm).logits, atol=1e-6)
