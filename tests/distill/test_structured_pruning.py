"""Structured pruning in a recipe: fewer frames, fewer units, training to match the original; a run and its bundle."""

import copy

import pytest
import torch

from distill.corpora import read_corpus
from distill.distillation.build_student import build_student
from distill.encoders.load import make_encoder
from distill.encoders.pooling import pool
from distill.load_recipe import load_recipe
from distill.pruning.structured import WEIGHTS, prune_encoder
from distill.recipe import RandomEncoder, Recipe, Schedule, StructuredPruning
from distill.recipe import Student as StudentRecipe
from distill.runs.run_directory import read_report
from distill.scoring import outputs_of
from distill.speech.spread_windows import spread_windows
from distill.student import Student
from edge_runtime.api import score_file
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import ListenSettings, VadSettings
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from tests.command import ALONE
from tests.conftest import edgeemo, tone

RANDOM = RandomEncoder(d_model=32, layers=2, heads=4, feed_forward=64, mel_bins=40)
TAUGHT = Schedule(epochs=6, keep="last", batch_size=8, learning_rate=1e-2, weight_decay=0.0)
PRUNING = StructuredPruning(heads=2, feed_forward=16, channels=16, every=2, windows=12, training=TAUGHT)
STUDENT = {"random": RANDOM, "frozen": "all", "pooled_layers": (1, 2), "pooled_frames": ("all", "loud"), "lda": {}}
SET = (
    "--set",
    'student={random={d_model=32, layers=1, heads=4, feed_forward=64, mel_bins=40}, frozen="all", refit=true, '
    "lda={shrinkage=[0.3, 0.9]}, pooled_layers=[1], "
    "pruning={heads=2, feed_forward=32, channels=16, every=2, windows=8, "
    'training={epochs=1, keep="last", learning_rate=1e-3}}}',
)


@pytest.fixture(scope="module")
def utterances(corpus_dir):
    return read_corpus(corpus_dir).utterances[::6]


@pytest.fixture
def original():
    torch.manual_seed(0)
    student = build_student(StudentRecipe(**STUDENT), ("a", "b"))
    for weight in student.encoder.parameters():
        # Attention and feed-forward part have a say.
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, weight.shape[1] ** -0.5)
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
            together = pool(original.encoder, batch, lengths, (0, 2), ("all", "loud"))
            alone = [pool(original.encoder, each[None], None, (0, 2), ("all", "loud"))[0] for each in (short, long)]
        assert torch.allclose(together, torch.stack(alone), atol=1e-4)

    def test_settings_rebuild_it(self, original):
        original.encoder.thin(2)
        again = make_encoder("whisper", original.encoder.settings).eval()
        again.drop_final_norm()
        again.load_state_dict(original.encoder.state_dict())
        pcm = torch.from_numpy(tone(1.0))[None]
        with torch.inference_mode():
            assert torch.equal(again(pcm)[0][2], original.encoder(pcm)[0][2])


def error(student, encoder, heard):
    """Return the squared error of statistics in units of their deviation, against those of all units."""
    wanted = copy.deepcopy(student)
    wanted.encoder.thin(2)
    changed = copy.deepcopy(student)
    changed.encoder = encoder
    target = outputs_of(wanted, heard)[1]
    found = outputs_of(changed, heard)[1]
    return float(((found - target) / target.std(dim=0).clamp(min=1e-4)).square().mean())


def test_least_squares_make_up_for_units_and_training_makes_up_for_more(original, utterances, tmp_path):
    labels = sorted({item.emotion for item in utterances})
    sliced = build_student(StudentRecipe(**STUDENT, pruning=PRUNING), ("a", "b")).encoder
    with torch.no_grad():
        first = copy.deepcopy(original.encoder)
        first.thin(2)
        first.resize(sliced.sizes)
    fitted = prune_encoder(
        original, recipe(PRUNING.model_copy(update={"training": None})), labels, utterances, tmp_path / "a"
    )
    taught = prune_encoder(original, recipe(PRUNING), labels, utterances, tmp_path / "b")
    assert fitted.sizes == taught.sizes == sliced.sizes
    heard = list(spread_windows(utterances, WindowPolicy(seconds=1.0), 12))
    errors = [error(original, each, heard) for each in (first, fitted, taught)]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2], errors


def test_finished_weights_are_loaded_again(original, utterances, tmp_path):
    how = recipe(PRUNING.model_copy(update={"training": None}))
    labels = sorted({item.emotion for item in utterances})
    once = prune_encoder(original, how, labels, utterances, tmp_path)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    # With nothing to measure units on: so they were not measured.
    again = prune_encoder(original, how, labels, [], tmp_path)
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in once.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frozen": "none", "lda": None, "training": TAUGHT}, "'pruning' is for a frozen encoder"),
        ({"pruning": {"training": {"epochs": 2, "learning_rate": 1e-3}}}, 'needs keep = "last"'),
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
        edgeemo("export", run, "--int8", "--allow-drop", "--out", tmp_path / "bundle", code=0)
        settings = ListenSettings(vad=VadSettings(enabled=False))
        (event,) = score_file(sorted(corpus_dir.rglob("*.flac"))[0], tmp_path / "bundle", settings)
        assert event.label in load_bundle(tmp_path / "bundle").manifest.labels
