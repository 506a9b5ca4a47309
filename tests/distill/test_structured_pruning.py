"""Structured pruning in a recipe: fewer frames, fewer units, training to match the original; a run and its bundle."""

import copy

import numpy as np
import pytest
import torch

from distill.corpora import read_corpus
from distill.distillation.build_student import build_student
from distill.encoders.load import make_encoder
from distill.encoders.pooling import pool
from distill.load_recipe import load_recipe
from distill.pruning.matching import EncoderMatching
from distill.pruning.structured import WEIGHTS, prune_encoder
from distill.pruning.teacher_states import teacher_states
from distill.recipe import EncoderDistillation, RandomEncoder, Recipe, Schedule, StructuredPruning
from distill.recipe import Student as StudentRecipe
from distill.runs.run_directory import read_report
from distill.speech.augmentation import Augmentation
from distill.speech.degraded_speech import DegradedSpeech, Voices, collate_pairs
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from edge_runtime.api import score_file
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import ListenSettings, VadSettings
from edge_runtime.engines.chunks import LEAD
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from tests.command import ALONE
from tests.conftest import edgeemo, tone

RANDOM = RandomEncoder(d_model=32, layers=2, heads=4, feed_forward=64, mel_bins=40)
SCHEDULE = Schedule(epochs=80, keep="last", batch_size=8, learning_rate=1e-2, weight_decay=0.0)
DISTILLATION = EncoderDistillation(layers=(1, 2), voices=1, training=SCHEDULE)
PRUNING = StructuredPruning(heads=2, feed_forward=16, channels=16, every=2, windows=12, distillation=DISTILLATION)
STUDENT = {
    "random": RANDOM,
    "frozen": "all",
    "pooled_layers": (1,),
    "pooled_frames": ("all", "loud"),
    "pooled_deviation": False,
    "lda": {},
}
SET = (
    "--set",
    'student={random={d_model=32, layers=1, heads=4, feed_forward=64, mel_bins=40}, frozen="all", refit=true, '
    "lda={shrinkage=[0.3, 0.9]}, pooled_layers=[1], "
    "pruning={heads=2, feed_forward=32, channels=16, every=2, windows=8, "
    'distillation={voices=2, training={epochs=1, keep="last", learning_rate=1e-3}}}}',
)


@pytest.fixture(scope="module")
def utterances(corpus_dir):
    return read_corpus(corpus_dir).utterances[::6]


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    encoder = build_student(StudentRecipe(**STUDENT | {"pooled_layers": (1, 2)}), ("a", "b")).encoder
    for weight in encoder.parameters():
        # Attention and feed-forward part change the outputs.
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, weight.shape[1] ** -0.5)
    return encoder.eval()


@pytest.fixture
def original(teacher):
    student = build_student(StudentRecipe(**STUDENT), ("a", "b"))
    weights = teacher.state_dict()
    student.encoder.load_state_dict({name: weights[name] for name in student.encoder.state_dict()})
    return student.eval()


def recipe(how):
    return Recipe(name="pruned", window=WindowPolicy(seconds=1.0), student=StudentRecipe(**STUDENT, pruning=how))


class TestThin:
    def test_frames_are_every_other_one_of_the_first_state(self, original):
        thin = copy.deepcopy(original.encoder)
        thin.thin(2)
        pcm = torch.from_numpy(tone(1.0))[None]
        with torch.inference_mode():
            before, after = original.encoder(pcm)[0], thin(pcm)[0]
        assert torch.allclose(after[0], before[0][:, ::2], atol=1e-5)
        assert after[1].shape[1] == thin.frames(16_000) == (original.encoder.frames(16_000) + 1) // 2

    @pytest.mark.parametrize("seconds", [0.31, 0.5, 0.99])
    def test_a_padded_batch_gives_what_each_waveform_alone_gives(self, original, seconds):
        original.encoder.thin(2)
        short, long = (torch.from_numpy(tone(each)) for each in (seconds, 1.0))
        batch = torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True)
        lengths = torch.tensor([len(short), len(long)])
        with torch.inference_mode():
            together = pool(original.encoder, batch, lengths, (0, 1), ("all", "loud"))
            alone = [pool(original.encoder, each[None], None, (0, 1), ("all", "loud"))[0] for each in (short, long)]
        assert torch.allclose(together, torch.stack(alone), atol=1e-4)

    def test_settings_rebuild_it(self, original):
        original.encoder.thin(2)
        again = make_encoder("whisper", original.encoder.settings).eval()
        again.drop_final_norm()
        again.load_state_dict(original.encoder.state_dict())
        pcm = torch.from_numpy(tone(1.0))[None]
        with torch.inference_mode():
            assert torch.equal(again(pcm)[0][1], original.encoder(pcm)[0][1])


def pruned(original, teacher, how, utterances, folder):
    return prune_encoder(original, teacher, recipe(how), utterances, [utterances], folder, folder / "cache")


def unexplained(teacher, encoder, waveforms):
    """Return the share of the variance of the teacher's deepest states that no linear map of the student's explains."""
    inputs, wanted = [], []
    with torch.inference_mode():
        for pcm in waveforms:
            row = torch.from_numpy(pcm)[None]
            state = encoder(row)[0][-1][0]
            inputs.append(state)
            wanted.append(teacher(row)[0][-1][0][::2][: len(state)])
    x, y = torch.cat(inputs).double(), torch.cat(wanted).double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((y - x @ torch.linalg.lstsq(x, y).solution).square().sum() / y.square().sum())


def test_least_squares_and_then_distillation_from_a_deeper_layer_explain_more(original, teacher, utterances, tmp_path):
    sliced = build_student(StudentRecipe(**STUDENT, pruning=PRUNING), ("a", "b")).encoder
    with torch.no_grad():
        first = copy.deepcopy(original.encoder)
        first.thin(2)
        first.resize(sliced.sizes)
    without = PRUNING.model_copy(update={"distillation": None})
    fitted = pruned(original, teacher, without, utterances, tmp_path / "a")
    distilled = pruned(original, teacher, PRUNING, utterances, tmp_path / "b")
    assert fitted.sizes == distilled.sizes == sliced.sizes
    waveforms = list(spread_windows(utterances, WindowPolicy(seconds=1.0), 12))
    shares = [unexplained(teacher, each, waveforms) for each in (first, fitted, distilled)]
    assert shares[2] < 0.9 * min(shares[:2]), shares


class TestLoss:
    """Of a student with both blocks of the teacher, on the teacher's own input."""

    def loss(self, student, teacher, utterances, folder, layers):
        voices = Voices(1, 0.0, 80_000)
        states = teacher_states(teacher, layers, ("all", "loud"), 1, utterances[:6], voices, folder)
        means = torch.from_numpy(np.stack([states.of(item, 0).statistics for item in utterances[:6]])).float()
        spread = means.view(6, len(layers), 2, -1)[:, :, 0].reshape(6, -1).std(dim=0)
        mean = means.view(6, len(layers), 2, -1)[:, :, 0].reshape(6, -1).mean(dim=0)
        matching = EncoderMatching(student, layers, ("all", "loud"), mean, torch.ones_like(mean), spread)
        data = DegradedSpeech(utterances[:6], states.of, 1, Augmentation(chance=0.0), 0.0, 0)
        batch = collate_pairs([data[number] for number in range(6)])
        with torch.inference_mode():
            return float(matching(**batch)["loss"])

    def test_is_zero_for_the_teacher_itself(self, teacher, utterances, tmp_path):
        assert self.loss(teacher, teacher, utterances, tmp_path, (1, 2)) < 1e-2

    def test_compares_a_layer_with_the_same_layer(self, teacher, utterances, tmp_path):
        other = copy.deepcopy(teacher)
        torch.nn.init.normal_(other.block(1).down.weight)
        assert self.loss(other, teacher, utterances, tmp_path, (1,)) < 1e-2
        assert self.loss(other, teacher, utterances, tmp_path, (1, 2)) > 0.1


def test_finished_weights_are_loaded_again(original, teacher, utterances, tmp_path):
    how = PRUNING.model_copy(update={"distillation": None})
    once = pruned(original, teacher, how, utterances, tmp_path)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    # With nothing to measure units on: so they were not measured.
    again = pruned(original, teacher, how, [], tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in once.state_dict().items())


def test_half_way_is_the_mean_of_the_weights_before_and_after(original, teacher, utterances, tmp_path):
    short = DISTILLATION.model_copy(update={"training": SCHEDULE.model_copy(update={"epochs": 1})})
    found = {}
    for share in (0.5, 1.0):
        how = StructuredPruning(distillation=short.model_copy(update={"interpolation": share}))
        found[share] = pruned(original, teacher, how, utterances, tmp_path / str(share)).state_dict()
    for name, before in original.encoder.state_dict().items():
        assert torch.allclose(found[0.5][name], (before + found[1.0][name]) / 2, atol=1e-6), name
    assert not torch.allclose(found[0.5]["layers.0.fc1.weight"], found[1.0]["layers.0.fc1.weight"])


def test_the_teachers_frames_are_those_of_a_student_in_chunks(original, teacher, utterances, tmp_path):
    """The same waveform in one chunk: all that differs from the teacher's is the level and the zeros before it."""
    original.encoder.in_chunks(16_000)
    voices = Voices(1, 0.0, 16_000)
    targets = teacher_states(teacher, [1], ["all"], 1, utterances[:4], voices, tmp_path, LEAD)
    for item in utterances[:4]:
        target = targets.of(item, 0)
        with torch.inference_mode():
            states, valid = original.encoder(torch.from_numpy(target.pcm)[None])
        found = states[1][valid].numpy()
        # A rest of less than 50 ms is left out.
        assert 0 <= len(target.states) - len(found) <= 3
        wanted = target.states[: len(found)].astype(np.float32)
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.999
        assert np.corrcoef(found[1:].ravel(), wanted[:-1].ravel())[0, 1] < 0.99


class TestTargets:
    def test_are_the_teachers_states_of_the_clean_voice(self, teacher, utterances, tmp_path):
        voices = Voices(2, 0.2, 16_000)
        found = teacher_states(teacher, (1, 2), ("all",), 2, utterances, voices, tmp_path)
        for item in (utterances[0], utterances[-1]):
            for voice in range(2):
                pcm = torch.from_numpy(voices.of(item, voice))[None]
                with torch.inference_mode():
                    states = teacher(pcm)[0]
                target = found.of(item, voice)
                wanted = torch.cat([states[1][0], states[2][0]], dim=1)
                assert np.allclose(target.states, wanted[::2].numpy(), atol=2e-3)
                assert np.allclose(target.statistics, wanted.mean(dim=0).numpy(), atol=1e-4)
                assert np.allclose(target.pcm, pcm[0] / pcm.abs().max(), atol=1e-4)

    def test_are_computed_once(self, teacher, utterances, tmp_path):
        for _ in range(2):
            found = teacher_states(teacher, (2,), ("all",), 1, utterances[:3], Voices(1, 0.0, 16_000), tmp_path)
            times = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.states.f16"))]
            assert len(times) == 1
            assert found.width == 32
        assert times == [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.states.f16"))]


class TestDegradedSpeech:
    def make(self, utterances, clean_share):
        def targets(item, voice):
            pcm = Voices(3, 0.2, 16_000).of(item, voice)
            return pcm, np.full((3, 2), voice, np.float16), np.full(4, voice, np.float32)

        how = Augmentation(noise_db=0.0, chance=1.0, talkers=True)
        return DegradedSpeech(utterances, targets, 3, how, clean_share, 0)

    @pytest.fixture
    def data(self, utterances):
        return self.make(utterances, 0.0)

    @pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.0, 0.0), (0.5, 0.2, 0.8), (1.0, 1.0, 1.0)])
    def test_a_share_stays_clean(self, utterances, share, least, most):
        data = self.make(utterances, share)
        clean = [
            np.array_equal(pair.pcm, Voices(3, 0.2, 16_000).of(item, int(pair.states[0, 0])))
            for item, pair in zip(utterances, (data[number] for number in range(len(data))), strict=True)
        ]
        assert least <= np.mean(clean) <= most

    def test_an_epoch_draws_voices_and_the_next_one_others(self, data):
        drawn = []
        for epoch in range(2):
            data.set_epoch(epoch)
            drawn.append([int(data[number].states[0, 0]) for number in range(len(data))])
        assert set(drawn[0]) == {0, 1, 2}
        assert drawn[0] != drawn[1]
        data.set_epoch(0)
        assert drawn[0] == [int(data[number].states[0, 0]) for number in range(len(data))]

    def test_the_waveform_is_the_clean_voice_with_noise(self, data, utterances):
        pair = data[0]
        clean = Voices(3, 0.2, 16_000).of(utterances[0], int(pair.states[0, 0]))
        assert len(pair.pcm) == len(clean)
        assert 0.3 < np.corrcoef(pair.pcm, clean)[0, 1] < 0.9999

    def test_batches_are_padded(self, data):
        batch = collate_pairs([data[0], data[1]._replace(pcm=np.ones(5, np.float32))])
        assert batch["lengths"].tolist() == [len(data[0].pcm), 5]
        assert batch["pcm"][1, 5:].abs().max() == 0.0
        assert batch["states"].shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frozen": "none", "lda": None, "training": SCHEDULE}, "'pruning' is for a frozen encoder"),
        ({"pruning": {"distillation": {"training": {"epochs": 2, "learning_rate": 1e-3}}}}, 'needs keep = "last"'),
    ],
)
def test_recipes_that_make_no_sense(change, says):
    with pytest.raises(ValueError, match=says):
        StudentRecipe(**(STUDENT | {"pruning": {"heads": 1}} | change))


def test_more_units_than_there_are_is_one_sentence():
    with pytest.raises(WrongUseError, match=r"student.pruning.heads: blocks.0.attention has 4, not 5"):
        build_student(StudentRecipe(**STUDENT, pruning=StructuredPruning(heads=5)), ("a", "b"))


def test_the_second_tier_has_the_parameters_that_it_may_have():
    """Of its own sizes on Whisper-base's, without its weights: positions for a window of 5 s, eight classes."""
    how = load_recipe("small").student
    settings = {"d_model": 512, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": how.layers}
    encoder = make_encoder("whisper", settings)
    encoder.drop_final_norm()
    assert how.pruning is not None
    encoder.thin(how.pruning.every)
    sizes = encoder.sizes.replaced("heads", 0, how.pruning.heads).replaced("feed_forward", 0, how.pruning.feed_forward)
    encoder.resize(sizes.replaced("channels", 0, how.pruning.channels))
    encoder.shorten(80_000)
    statistics = 2 * 512 * len(how.pooled_layers) * len(how.pooled_frames)
    assert sum(each.numel() for each in encoder.parameters()) + 8 * (statistics + 1) <= 1_500_000


@pytest.fixture(scope="module")
def run(corpus_dir, recipe_file, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("pruning") / "run"
    edgeemo("distill", recipe_file, "--corpus", corpus_dir, *ALONE, *SET, "--cache", cache, "--out", out, code=0)
    return out


class TestRun:
    def test_the_student_has_the_sizes_of_the_recipe(self, run):
        student = Student.from_pretrained(run / "student")
        assert student.encoder.sizes.model_dump() == {"heads": (2,), "feed_forward": (32,), "channels": (16,)}
        assert student.encoder.hop_samples == 640
        assert read_report(run).parameters == sum(each.numel() for each in student.parameters())

    def test_it_becomes_a_bundle(self, run, corpus_dir, tmp_path):
        edgeemo("export", run, "--int8", "--allow-drop", "--allow-chance", "--out", tmp_path / "bundle", code=0)
        settings = ListenSettings(vad=VadSettings(enabled=False))
        (event,) = score_file(sorted(corpus_dir.rglob("*.flac"))[0], tmp_path / "bundle", settings)
        assert event.label in load_bundle(tmp_path / "bundle").manifest.labels
