"""Speech encoders of every family: Hugging Face's own results, padding, levels, layers, freezing."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Wav2Vec2FeatureExtractor

from distill.distillation.build_student import build_student
from distill.encoders.load import load_encoder
from distill.encoders.pooling import statistics
from distill.recipe import Schedule
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import tone
from tests.small_models import FAMILIES, RAW, save_encoder

SHAPES = [(family, stable) for family in RAW for stable in (False, True)]
EVERY = pytest.mark.parametrize(("family", "stable"), [*SHAPES, ("whisper", False)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    shapes = [*SHAPES, ("whisper", False)]
    return {(name, stable): save_encoder(folder / f"{name}-{stable}", name, stable=stable) for name, stable in shapes}


def speechlike(samples, seed=0):
    noise = np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.02
    return torch.from_numpy(tone(samples / 16_000, frequency=150 + 40 * seed) + noise)


def padded(lengths):
    batch = torch.zeros(len(lengths), max(lengths))
    for seed, (row, length) in enumerate(zip(batch, lengths, strict=True)):
        row[:length] = speechlike(length, seed)
    return batch, torch.tensor(lengths)


def recipe(path, **changes):
    return StudentRecipe(encoder=str(path), hidden_size=16, training=Schedule(epochs=1, learning_rate=1e-3), **changes)


class TestAgainstHuggingFace:
    @pytest.mark.parametrize(("family", "stable"), SHAPES)
    @pytest.mark.parametrize("offset", [0.0, 0.1])
    def test_every_hidden_state_is_hugging_faces(self, saved, family, stable, offset):
        """With its feature extractor in front: normalisation, convolutions, positions, blocks, final norm."""
        path = saved[family, stable]
        pcm = speechlike(16_000) + offset
        values = Wav2Vec2FeatureExtractor.from_pretrained(path)(pcm.numpy(), sampling_rate=16_000).input_values[0]
        model = AutoModel.from_pretrained(path, dtype="float32").eval()
        encoder = load_encoder(str(path), None, "student").eval()
        with torch.no_grad():
            theirs = model(torch.from_numpy(values)[None], output_hidden_states=True)
            states, valid = encoder(pcm[None])
        assert valid is None
        assert len(states) == 4
        # Hugging Face's last hidden state of the stable shape is behind the final norm.
        for ours, wanted in zip(states[:3], theirs.hidden_states, strict=False):
            assert torch.allclose(ours, wanted, atol=2e-5)
        assert torch.allclose(encoder.normed(states[3]), theirs.last_hidden_state, atol=2e-5)

    @pytest.mark.parametrize("layers", [1, 2])
    @EVERY
    def test_the_first_layers_are_those_of_the_whole(self, saved, family, stable, layers):
        path = str(saved[family, stable])
        pcm = speechlike(8_000)[None]
        with torch.no_grad():
            whole, _ = load_encoder(path, None, "student").eval()(pcm)
            encoder = load_encoder(path, layers, "student").eval()
            states, _ = encoder(pcm)
        assert encoder.depth == layers
        assert len(states) == layers + 1
        for ours, wanted in zip(states, whole, strict=False):
            assert torch.equal(ours, wanted)
        if encoder.final_norm is not None:
            # Learnt for another layer, so started afresh.
            assert torch.equal(encoder.final_norm.weight, torch.ones(32))
            assert not encoder.final_norm.bias.any()

    @pytest.mark.parametrize("family", FAMILIES)
    def test_training_mode_gives_the_same(self, saved, family):
        """No dropout, dropped layers or SpecAugment, which pretrained configurations switch on."""
        encoder = load_encoder(str(saved[family, False]), None, "student")
        pcm = speechlike(48_000)[None]
        with torch.no_grad():
            ours, wanted = encoder.train()(pcm)[0], encoder.eval()(pcm)[0]
        assert all(torch.equal(a, b) for a, b in zip(ours, wanted, strict=True))


class TestPadding:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("lengths", [(16_000, 40_000), (12_345, 33_333, 7_001), (1_040, 48_000)])
    @EVERY
    def test_a_padded_batch_is_the_same_as_each_alone(self, saved, family, stable, lengths, training):
        encoder = load_encoder(str(saved[family, stable]), None, "student").train(training)
        batch, counts = padded(lengths)
        with torch.no_grad():
            together, valid = encoder(batch, counts)
            for row, length in enumerate(lengths):
                alone, _ = encoder(batch[row : row + 1, :length])
                assert valid[row].sum() == alone[0].shape[1]
                for ours, wanted in zip(together, alone, strict=True):
                    assert torch.allclose(ours[row, valid[row]], wanted[0], atol=2e-5)

    @EVERY
    def test_gradients_are_those_of_each_alone(self, saved, family, stable):
        student = build_student(recipe(saved[family, stable]), ("a", "b", "c")).train()
        lengths = (9_000, 20_000)
        batch, counts = padded(lengths)
        reference = torch.zeros(1, 64)
        student(batch, counts, reference=reference).statistics.sum().backward()
        together = {name: weight.grad.clone() for name, weight in student.named_parameters() if weight.grad is not None}
        student.zero_grad()
        for row, length in enumerate(lengths):
            student(batch[row : row + 1, :length], reference=reference).statistics.sum().backward()
        assert together
        for name, gradient in together.items():
            wanted = student.get_parameter(name).grad
            assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-3 * (1 + wanted.abs().max())), name


class TestLevels:
    @pytest.mark.parametrize("gain", [0.05, 4.0])
    @pytest.mark.parametrize("normalise", [True, False])
    @pytest.mark.parametrize("family", RAW)
    def test_level_does_not_matter(self, family, normalise, gain, tmp_path):
        encoder = load_encoder(str(save_encoder(tmp_path, family, normalise=normalise)), None, "student").eval()
        pcm = speechlike(16_000)[None]
        assert encoder.level_db == (0.0 if normalise else -26.0)
        rms = encoder.level(pcm * gain).square().mean().sqrt().item()
        assert 20 * np.log10(rms) == pytest.approx(encoder.level_db, abs=0.05)
        with torch.no_grad():
            ours, wanted = encoder(pcm * gain)[0][-1], encoder(pcm)[0][-1]
        assert torch.allclose(ours, wanted, atol=2e-3)

    def test_without_a_preprocessor_file_it_is_as_hugging_faces_default(self, tmp_path):
        save_encoder(tmp_path, "hubert", normalise=False)
        (tmp_path / "preprocessor_config.json").unlink()
        assert load_encoder(str(tmp_path), None, "student").level_db == 0.0
        assert Wav2Vec2FeatureExtractor().do_normalize

    @EVERY
    def test_nothing_in_gives_nothing_infinite_out(self, saved, family, stable):
        """Silence, a constant, full scale, one click; also in a batch with a waveform too short for a frame."""
        student = build_student(recipe(saved[family, stable]), ("a", "b")).train()
        click = torch.zeros(16_000)
        click[8_000] = 1.0
        waves = [torch.zeros(16_000), torch.full((16_000,), 0.5), torch.sign(speechlike(16_000)), click, click]
        lengths = torch.tensor([16_000, 16_000, 16_000, 16_000, 100])
        output = student(torch.stack(waves), lengths)
        assert torch.isfinite(output.logits).all()
        assert torch.isfinite(output.statistics).all()
        output.logits.square().sum().backward()
        for name, weight in student.named_parameters():
            assert weight.grad is None or torch.isfinite(weight.grad).all(), name


class TestStudentOnAnyFamily:
    @EVERY
    @pytest.mark.parametrize("pooled", [(-1,), (0, 2), (1, -1)])
    def test_saved_and_loaded_is_the_same(self, saved, family, stable, pooled, tmp_path):
        student = build_student(recipe(saved[family, stable], pooled_layers=pooled), ("a", "b"), {"acoustic": 7}).eval()
        student.reference.normal_()
        student.save_pretrained(tmp_path)
        again = Student.from_pretrained(tmp_path).eval()
        pcm = speechlike(20_000)[None]
        with torch.no_grad():
            ours, wanted = again(pcm), student(pcm)
        assert torch.allclose(ours.logits, wanted.logits, atol=1e-6)
        assert ours.statistics.shape == (1, 64 * len(pooled))
        assert ours.embeddings["acoustic"].shape == (1, 7)
        assert again.encoder.family == family
        assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in student.parameters())

    @EVERY
    def test_pooled_layers_are_the_statistics_of_the_hidden_states(self, saved, family, stable):
        path = str(saved[family, stable])
        student = build_student(recipe(path, pooled_layers=(3, 0, -1)), ("a", "b")).eval()
        whole = load_encoder(path, None, "student").eval()
        pcm = speechlike(20_000)[None]
        with torch.no_grad():
            states, _ = whole(pcm)
            wanted = [states[3], states[0], whole.normed(states[3])]
            assert torch.equal(student(pcm).statistics, torch.cat([statistics(x, None) for x in wanted], dim=1))

    @pytest.mark.parametrize("family", FAMILIES)
    def test_no_parameter_is_idle(self, saved, family):
        student = build_student(recipe(saved[family, False]), ("a", "b"))
        student(speechlike(8_000)[None]).logits.sum().backward()
        idle = {name for name, weight in student.named_parameters() if weight.grad is None}
        # Whisper's positions are constants.
        assert idle == ({"encoder.embed_positions.weight"} if family == "whisper" else set())


class TestFreezing:
    @pytest.mark.parametrize(("frozen", "trained"), [("none", "all"), (0, 3), (2, 1), (3, 0), (-1, "nothing")])
    @EVERY
    def test_what_is_frozen_gets_no_gradient_and_stays_in_evaluation_mode(self, saved, family, stable, frozen, trained):
        student = build_student(recipe(saved[family, stable], frozen=frozen), ("a", "b")).eval().train()
        encoder = student.encoder
        student(speechlike(8_000)[None]).logits.sum().backward()
        moved = [any(weight.grad is not None for weight in block.parameters()) for block in encoder.blocks]
        count = {"all": 3, "nothing": 0}.get(trained, trained)
        assert moved == [False] * (3 - count) + [True] * count
        assert [block.training for block in encoder.blocks] == moved
        stem = [weight for part in encoder.stem for weight in part.parameters()]
        assert any(weight.grad is not None for weight in stem) == (trained == "all")
        if encoder.final_norm is not None:
            assert (encoder.final_norm.weight.grad is not None) == (trained != "nothing")
        assert student.head.training
        assert student.head[0].weight.grad is not None

    def test_frozen_weights_are_the_same_after_a_step(self, saved):
        student = build_student(recipe(saved["wavlm", False], frozen=1), ("a", "b")).train()
        before = {name: weight.clone() for name, weight in student.named_parameters()}
        optimiser = torch.optim.AdamW([w for w in student.parameters() if w.requires_grad], lr=1e-2)
        student(speechlike(8_000)[None]).logits.square().sum().backward()
        optimiser.step()
        same = {name for name, weight in student.named_parameters() if torch.equal(weight, before[name])}
        frozen = {name for name, weight in student.named_parameters() if not weight.requires_grad}
        assert {name.split(".")[1] for name in frozen} == {"feature_extractor", "feature_projection", "encoder"}
        assert frozen <= same
        # A key's bias cancels in the softmax: what moves it is rounding.
        assert all(name.endswith("k_proj.bias") for name in same - frozen)


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layers": 4}, "student.layers: .* has 3 layers, not 4"),
            ({"pooled_layers": (4,)}, "student.layers: .* has 3 layers, not 4"),
            ({"pooled_layers": (-1, 4)}, "student.pooled_layers: the encoder has 3 layers, not 4"),
            ({"layers": 2, "pooled_layers": (3,)}, "layer 3 cannot be pooled, since only 2 are kept"),
            ({"frozen": 4}, "student.frozen: the encoder has 3 layers, not 4"),
        ],
    )
    def test_layers_that_are_not_there(self, saved, changes, message):
        with pytest.raises(WrongUseError, match=message):
            build_student(recipe(saved["hubert", False], **changes), ("a", "b"))

    def test_a_checkpoint_that_lacks_weights(self, tmp_path):
        save_encoder(tmp_path, "hubert")
        weights = load_file(tmp_path / "model.safetensors")
        weights.pop("encoder.layers.1.attention.q_proj.weight")
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(EdgeemoError, match=r"holds no weights for encoder.layers.1.attention.q_proj.weight"):
            load_encoder(str(tmp_path), None, "student")
        assert load_encoder(str(tmp_path), 1, "student").depth == 1, "the missing one is not needed"

    def test_a_hub_that_cannot_be_reached(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(EdgeemoError, match=r"hub cannot be reached; .*--set \"student.encoder='PATH'\""):
            load_encoder("openai/whisper-base", None, "student")

    def test_a_download_is_announced_once(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        cached = tmp_path / "models--some--hubert"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0" * 40)
        weights = save_encoder(cached / "snapshots" / ("0" * 40), "hubert") / "model.safetensors"
        load_encoder("some/hubert", None, "student")
        assert "getting" not in capsys.readouterr().err
        weights.unlink()
        with pytest.raises(EdgeemoError, match="holds no weights"):  # where the hub can be reached, it would give them
            load_encoder("some/hubert", None, "student")
        assert "getting 'some/hubert' from the Hugging Face hub" in capsys.readouterr().err

    def test_positions_with_a_batch_norm(self, tmp_path):
        save_encoder(tmp_path, "hubert", conv_pos_batch_norm=True)
        with pytest.raises(WrongUseError, match=r"student.encoder: .* conv_pos_batch_norm"):
            load_encoder(str(tmp_path), None, "student")
