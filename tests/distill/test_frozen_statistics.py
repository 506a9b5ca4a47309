"""Heads on a frozen encoder: its statistics are computed once, and are those that the student would take itself."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile
import torch

from distill.corpora import read_corpus
from distill.corpora.auxiliary import meaning, names_for, with_auxiliary
from distill.distillation.build_student import build_student
from distill.distillation.train_student import make_features
from distill.encoders.pooling import loudness, pool, pooled_size, statistics
from distill.folds import FoldSpec, make_fold
from distill.recipe import RandomEncoder, Recipe, Schedule, Speaker
from distill.recipe import Student as StudentRecipe
from distill.runs.run_directory import read_report, read_run
from distill.speech.audio_data import Windows
from distill.speech.augmentation import Augmentation
from distill.training.frozen_statistics import AlignedStatistics, FrozenStatistics, Processing, frozen_statistics
from distill.training.statistics_dataset import StatisticsDataset, collate_statistics
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import read_audio
from edge_runtime.windows import WindowPolicy
from tests.conftest import edgeemo, tone

FROZEN = {
    "random": RandomEncoder(d_model=32, layers=2, heads=2, feed_forward=64, mel_bins=40),
    "frozen": "all",
    "pooled_layers": (2, 0),
    "pooled_frames": ("all", "loud"),
    "hidden_size": 16,
    "training": Schedule(epochs=1, learning_rate=1e-3, keep="last"),
}
POLICY = WindowPolicy(seconds=1.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=5.0)
PROCESSING = Processing(POLICY, ("all", "loud"), True, Augmentation(speed=0.1, noise_db=10), 3)


@pytest.fixture(scope="module")
def corpus(corpus_dir):
    whole = read_corpus(corpus_dir)
    return dataclasses.replace(whole, utterances=whole.utterances[::8])


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return build_student(StudentRecipe(**FROZEN), ("a", "b", "c")).eval()


@pytest.fixture(scope="module")
def computed(student, corpus, tmp_path_factory):
    cache = tmp_path_factory.mktemp("statistics")
    return frozen_statistics(student.encoder, (2, 0), corpus.utterances, PROCESSING, cache), cache


class TestLoudFrames:
    def test_pauses_count_little(self, student):
        speech = torch.from_numpy(tone(1.0))
        pause = torch.cat([speech, torch.randn(16_000) * 1e-5])[None]
        with torch.inference_mode():
            weight = loudness(pause, None, student.encoder)[0]
        assert weight[:45].mean() > 0.8
        assert weight[-45:].max() < 0.01

    def test_they_are_weighted_means_and_deviations(self, student):
        pcm = torch.from_numpy(np.concatenate([tone(0.5), tone(0.5) * 0.05]))[None]
        with torch.inference_mode():
            found = pool(student.encoder, pcm, None, (1,), ("loud",))[0]
            hidden = student.encoder(pcm)[0][1][0].double()
            weight = loudness(pcm, None, student.encoder)[0].double()
        assert 0.2 < weight.mean() < 0.8, "the case says nothing where all frames are alike"
        mean = (weight[:, None] * hidden).sum(0) / weight.sum()
        deviation = ((weight[:, None] * (hidden - mean) ** 2).sum(0) / weight.sum() + 1e-5).sqrt()
        assert torch.allclose(found.double(), torch.cat([mean, deviation]), atol=1e-5)

    def test_means_alone_are_half_of_the_statistics(self, student):
        pcm, layers, frames = torch.from_numpy(tone(1.0))[None], (0, 1), ("all", "loud")
        with torch.inference_mode():
            both = pool(student.encoder, pcm, None, layers, frames)
            means = pool(student.encoder, pcm, None, layers, frames, deviation=False)
        assert means.shape[1] == pooled_size(student.encoder, layers, frames, deviation=False) == both.shape[1] // 2
        assert torch.equal(means, torch.cat(torch.chunk(both, 8, dim=1)[::2], dim=1))

    def test_cached_means_are_no_means_and_deviations(self, student, corpus, computed, tmp_path):
        cache = shutil.copytree(computed[1], tmp_path / "cache")
        found = frozen_statistics(
            student.encoder, (2, 0), corpus.utterances, PROCESSING._replace(deviation=False), cache
        )
        width = student.encoder.hidden_size
        both, means = computed[0].of(corpus.utterances[0]), found.of(corpus.utterances[0])
        assert len(means) == 4 * width
        assert np.allclose(means[:width], both[:width], atol=1e-5)

    def test_the_level_does_not_matter_and_no_frame_gives_numbers(self, student):
        pcm = torch.from_numpy(np.concatenate([tone(0.5), tone(0.5) * 0.05]))[None]
        with torch.inference_mode():
            one, other = (loudness(pcm * gain, None, student.encoder) for gain in (1.0, 0.1))
        assert torch.allclose(one, other, atol=1e-3)
        assert torch.isfinite(statistics(torch.randn(1, 4, 3), torch.zeros(1, 4))).all()


class TestStatistics:
    def test_the_first_copy_is_what_the_student_computes_and_others_differ(self, student, corpus, computed):
        found, _ = computed
        windows = Windows(corpus.utterances, corpus.labels, POLICY)
        for number in (0, 5):
            with torch.inference_mode():
                wanted = student(torch.from_numpy(windows[number].pcm)[None]).statistics[0].numpy()
            assert np.allclose(found.of(corpus.utterances[number]), wanted, atol=1e-4)
        found, _ = computed
        assert found.copies == 3
        rows = [found.of(corpus.utterances[0], copy) for copy in range(3)]
        assert all(np.abs(rows[a] - rows[b]).max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))
        found, _ = computed
        items = corpus.utterances[:7]
        mean, deviation = found.moments(items)
        rows = np.stack([found.of(item, copy) for item in items for copy in range(3)]).astype(np.float64)
        assert np.allclose(mean, rows.mean(axis=0), atol=1e-6)
        assert np.allclose(deviation, rows.std(axis=0), atol=1e-4)

    def test_they_are_computed_once_whatever_the_layers(self, student, corpus, computed):
        found, cache = computed
        before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
        assert len(before) == 3
        again = frozen_statistics(student.encoder, (0,), corpus.utterances, PROCESSING, cache)
        assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == before
        item = corpus.utterances[3]
        half = len(found.of(item)) // 2
        assert np.array_equal(again.of(item, 1), found.of(item, 1)[half:]), "layer 0 is the second of (2, 0)"

    def test_all_of_a_long_utterance_counts(self, corpus, tmp_path):
        """A run processes segments, of which a window is a part."""
        recipe = Recipe(name="long", window=POLICY, student=StudentRecipe(**FROZEN))
        longest = max(corpus.utterances, key=lambda item: item.seconds)
        assert longest.seconds > 1.5 * POLICY.seconds
        features = make_features(recipe, ("a", "b", "c"), [longest], [[longest]], tmp_path, tmp_path)
        encoder = features._encoder
        pcm = torch.from_numpy(read_audio(longest.path))[None]
        with torch.inference_mode():
            whole = pool(encoder, pcm, None, (2, 0), ("all", "loud"))[0].numpy()
        assert np.allclose(features._corpora[0].of(longest), whole, atol=1e-4)

    def test_the_copies_of_voices_have_no_noise(self, student, corpus, computed):
        _, cache = computed
        few = corpus.utterances[:2]
        how = PROCESSING._replace(voices=1)
        found = frozen_statistics(student.encoder, (2,), few, how, cache)
        plain = how._replace(augmentation=Augmentation(speed=0.1), voices=0)
        voices = frozen_statistics(student.encoder, (2,), few, plain, cache)
        assert np.array_equal(found.of(few[0], 1), voices.of(few[0], 1))
        assert not np.array_equal(found.of(few[0], 2), voices.of(few[0], 2))

    def test_other_weights_and_other_augmentation_are_computed_anew(self, student, corpus, computed):
        _, cache = computed
        few = corpus.utterances[:2]
        frozen_statistics(student.encoder, (2,), few, PROCESSING._replace(copies=1), cache)
        count = len(list(cache.rglob("*.npy")))
        louder = PROCESSING._replace(augmentation=Augmentation(noise_db=0), copies=2)
        frozen_statistics(student.encoder, (2,), few, louder, cache)
        assert len(list(cache.rglob("*.npy"))) == count + 1, "the first copy has no augmentation"
        torch.manual_seed(9)
        other = build_student(StudentRecipe(**FROZEN), ("a", "b"))
        frozen_statistics(other.encoder, (2,), few, louder, cache)
        assert len(list(cache.rglob("*.npy"))) == count + 3

    def test_another_corpus_is_brought_to_where_this_one_lies(self, corpus, computed):
        """Moved and stretched as by another microphone, the same utterances give the same rows."""
        found, _ = computed
        half = len(corpus.utterances) // 2
        own, other = corpus.utterances[:half], corpus.utterances[half:]
        width = len(found.of(own[0]))
        gain, offset = np.linspace(0.5, 2.0, width), np.linspace(-1.0, 3.0, width)

        def parts(gain, offset):
            rows = [np.stack([found.of(item, copy) * gain + offset for item in other]) for copy in range(3)]
            places = {item.path: (rows, number) for number, item in enumerate(other)}
            mine = {item.path: found._places[item.path] for item in own}
            moved = FrozenStatistics(places, np.arange(width))
            return AlignedStatistics(FrozenStatistics(mine, found._columns), [moved], corpus.utterances)

        plain, moved = parts(1.0, 0.0), parts(gain, offset)
        assert np.array_equal(moved.of(own[0]), found.of(own[0]))
        assert not np.allclose(plain.of(other[0]), found.of(other[0]), atol=1e-2)
        for copy in range(3):
            assert np.allclose(moved.of(other[3], copy), plain.of(other[3], copy), atol=1e-3)
        aligned = moved.moments(other)
        assert np.allclose(aligned.mean, moved.home.mean, atol=1e-3)
        assert np.allclose(aligned.deviation, moved.home.deviation, atol=1e-3)

    def test_training_draws_by_seed_epoch_and_place(self, corpus, computed):
        found, _ = computed

        def rows(seed, epoch):
            items = StatisticsDataset(found, corpus.utterances, corpus.labels, seed=seed)
            items.set_epoch(epoch)
            return collate_statistics([items[i] for i in range(len(items))])["statistics"]

        assert torch.equal(rows(1, 0), rows(1, 0))
        assert not torch.equal(rows(1, 0), rows(1, 1))
        assert not torch.equal(rows(1, 0), rows(2, 0))


class TestOtherCorpora:
    def test_names(self, corpus):
        assert meaning("Joy") == meaning("happiness") == meaning("happy")
        assert meaning("smug") == "smug"
        other = corpus.labelled({"happy": "joy", "angry": "anger", "sad": "longing", "neutral": "neutral"})
        assert names_for(corpus, other) == {"joy": "happy", "anger": "angry", "neutral": "neutral"}
        assert names_for(other, corpus) == {"happy": "joy", "angry": "anger", "neutral": "neutral"}
        other = corpus.labelled(dict(zip(corpus.labels, "wxyz", strict=True)))
        with pytest.raises(EdgeemoError, match="fewer than two mean"):
            names_for(corpus, other)

    def test_they_are_learnt_from_only(self, corpus):
        fold = make_fold(corpus, FoldSpec(count=3), 0)
        more = with_auxiliary(fold, [corpus])
        assert (more.validation, more.test) == (fold.validation, fold.test)
        assert len(more.train) == len(fold.train) + len(corpus.utterances)
        added = more.train[len(fold.train) :]
        assert not {item.speaker for item in added} & {item.speaker for item in more.validation + more.test}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frozen": "none", "copies": 2}, "'copies' is for a frozen encoder"),
        ({"copies": 2, "voice_copies": 2, "augmentation": {"speed": 0.1}}, "'voice_copies' must be below 'copies'"),
        (
            {"copies": 2, "voice_copies": 1, "augmentation": {"noise_db": 5}},
            "'voice_copies' needs 'augmentation.speed'",
        ),
        ({"refit": True, "training": Schedule(epochs=1, learning_rate=1e-3)}, "'refit' needs training.keep"),
        ({"frozen": "none", "speaker": Speaker()}, "'speaker' is for a frozen encoder"),
        ({"pooled_frames": ("loud", "loud")}, "names one twice"),
    ],
)
def test_recipes_that_make_no_sense(change, says):
    with pytest.raises(ValueError, match=says):
        StudentRecipe(**(FROZEN | change))


RECIPE = """
name = "frozen"
threads = 1
folds = { count = 3 }
window = { seconds = 2.0, hop_seconds = 1.0, minimum_seconds = 0.5, segment_seconds = 6.0 }
[student]
random = { d_model = 32, layers = 2, heads = 2, feed_forward = 64, mel_bins = 40 }
frozen = "all"
pooled_layers = [1, 2]
pooled_frames = ["all", "loud"]
hidden_size = 32
copies = 2
statistics_dropout = 0.1
refit = true
augmentation = { speed = 0.1, noise_db = 10 }
training = { epochs = 4, batch_size = 16, learning_rate = 3e-3, keep = "last" }
"""


@pytest.fixture(scope="module")
def run(corpus_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen-run")
    (folder / "frozen.toml").write_text(RECIPE)
    lines = (corpus_dir / "metadata.csv").read_text().splitlines()
    other = [lines[0], *(line for line in lines[1:] if not line.startswith(("r01", "r02")))]
    for line in other[1:]:
        # Backwards: copies are refused, softer ones too.
        name = line.partition(",")[0]
        pcm, rate = soundfile.read(corpus_dir / name)
        (folder / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "other" / name, pcm[::-1], rate)
    (folder / "other" / "metadata.csv").write_text("\n".join(other).replace(",happy,", ",joy,") + "\n")
    arguments = ("--corpus", corpus_dir, "--auxiliary-corpus", f"more={folder / 'other'}", "--cache", folder / "cache")
    edgeemo("distill", folder / "frozen.toml", *arguments, "--out", folder / "run", code=0)
    return folder, arguments


@pytest.mark.slow
class TestWholeRun:
    def test_both_corpora_are_on_record(self, run):
        record, report = read_run(run[0] / "run"), read_report(run[0] / "run")
        (more,) = record.auxiliary
        assert (more.facts.name, more.speakers) == ("more", 4)
        assert more.labels["joy"] == "happy"
        assert report.parts["train"] > record.corpus.utterances - report.parts["validation"] - report.parts["test"]
        assert report.student.test.ua > 0.3, "four classes"

    def test_a_refitted_student_is_not_the_one_that_was_validated(self, run):
        folder, arguments = run
        out = folder / "plain"
        edgeemo("distill", folder / "frozen.toml", *arguments, "--out", out, "--set", "student.refit=false", code=0)
        refitted, plain = read_report(folder / "run"), read_report(out)
        assert refitted.temperature == pytest.approx(plain.temperature), "fitted on the first training"
        assert refitted.student.validation == plain.student.validation
        assert (folder / "run" / "predictions.csv").read_bytes() != (out / "predictions.csv").read_bytes()

    def test_another_choice_of_corpora_is_another_run(self, run):
        folder, arguments = run
        done = edgeemo(
            "distill", folder / "frozen.toml", *arguments[:2], *arguments[4:], "--out", folder / "run", code=2
        )
        assert "another choice of --auxiliary-corpus" in done.stderr

    def test_the_bundle_knows_both(self, run, corpus_dir, tmp_path):
        folder, _ = run
        edgeemo(
            "export",
            folder / "run",
            "--int8",
            "--max-drop",
            "1",
            "--allow-chance",
            "--out",
            tmp_path / "bundle",
            code=0,
        )
        manifest = load_bundle(tmp_path / "bundle").manifest
        assert [entry.folds is None for entry in manifest.corpora] == [False, True]
        assert "none: trained on all of it" in (tmp_path / "bundle" / "README.md").read_text()
        bench = ("bench", tmp_path / "bundle", "--out", tmp_path / "report", "--corpus")
        done = edgeemo(*bench, folder / "other", code=1)
        assert "the bundle was trained on all of this corpus" in done.stderr
