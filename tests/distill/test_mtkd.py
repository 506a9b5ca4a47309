"""MTKD: several corpora as one, weights of the teachers, monolingual teachers end to end."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.bench.accuracy.graphs import held_out
from distill.caching.arrays import Rows, StackedRows, write_array
from distill.corpora import read_corpus
from distill.corpora.argument import NamedPath
from distill.corpora.pooled import pool_corpora
from distill.distillation.standardised import language_weights
from distill.distillation.weighting import teacher_weights, weighted_loss
from distill.evaluation.predictions import PREDICTIONS, Predictions
from distill.folds import FoldSpec, make_fold
from distill.load_recipe import load_recipe
from distill.recipe import Weighting
from distill.runs.cross_validation import gather
from distill.runs.run_directory import read_report, read_run
from distill.scoring import student_score
from distill.speech.batch_order import BatchOrder
from distill.student import Student
from distill.teachers.supervise import language_fold
from distill.training.outputs import LANGUAGE_LOGITS, LANGUAGE_NUMBER, LanguageOutputs
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.clips import score_clips
from edge_runtime.errors import EdgeemoError, WrongUseError
from export.folds import evaluate_folds
from export.loaded_run import load_run
from export.options import ExportOptions
from tests.command import invoke
from tests.conftest import tone
from tests.small_models import save_encoder

RECIPE = """
name = "two"
threads = 1
folds = { count = 3 }
window = { seconds = 1.0, hop_seconds = 0.5, minimum_seconds = 0.5, segment_seconds = 2.0 }
[[teachers]]
kind = "monolingual"
[student]
random = { d_model = 16, layers = 1, heads = 2, feed_forward = 32, mel_bins = 40 }
frozen = "all"
hidden_size = 8
branches = { linguistic = 8, prosodic = 8 }
language_balance = 1.0
refit = true
training = { epochs = 3, keep = "last", batch_size = 8, learning_rate = 1e-2 }
"""
# Pitch by emotion, and other names for the same in each language.
PITCH = {"angry": 400.0, "sad": 120.0, "happy": 250.0}
NAMES = {"en": dict(zip(PITCH, PITCH, strict=True)), "de": {"angry": "anger", "sad": "sadness", "happy": "joy"}}


def write_corpus(folder, language, *, speakers, names, extra=()):
    """Tones for speech: an emotion a pitch, each recording a little off it, so that no two are equal."""
    folder.mkdir(parents=True)
    rows = ["file,speaker,emotion"]
    for speaker in range(speakers):
        for emotion, label in [*names.items(), *((each, each) for each in extra)]:
            for take in range(2):
                name = f"{language}{speaker}-{emotion}-{take}.wav"
                pitch = PITCH.get(emotion, 800.0) * (1 + 0.05 * speaker + 0.02 * take + 0.003 * (language == "de"))
                soundfile.write(folder / name, tone(0.8, frequency=pitch), 16_000)
                rows.append(f"{name},s{speaker},{label}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    (folder / "corpus.json").write_text(json.dumps({"name": f"corpus-{language}", "language": language}))
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("languages")
    return {
        "en": write_corpus(root / "en", "en", speakers=6, names=NAMES["en"], extra=("calm",)),
        "de": write_corpus(root / "de", "de", speakers=3, names=NAMES["de"]),
    }


@pytest.fixture(scope="module")
def pooled(places):
    return pool_corpora([read_corpus(place) for place in places.values()])


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "two.toml"
    path.write_text(RECIPE)
    return path


class TestPooledCorpora:
    def test_labels_that_mean_the_same_get_one_name_and_others_are_left_out(self, pooled):
        assert (pooled.labels, pooled.languages) == (("angry", "happy", "sad"), ("de", "en"))
        assert len(pooled.speakers) == 9
        assert sum(item.language == "de" for item in pooled.utterances) == 3 * 3 * 2

    def test_every_fold_tests_all_languages_and_shares_no_speaker(self, pooled):
        spec = FoldSpec(count=3)
        tested = set()
        for index in range(3):
            fold = make_fold(pooled, spec, index)
            assert {item.language for item in fold.test} == {"en", "de"}
            speakers = {item.speaker for item in fold.test}
            assert not speakers & {item.speaker for item in (*fold.train, *fold.validation)}
            tested |= speakers
        assert tested == set(pooled.speakers)

    def test_a_fold_in_one_language(self, pooled):
        fold = make_fold(pooled, FoldSpec(count=3), 0)
        german = fold.in_languages(("de",))
        assert german.test == tuple(item for item in fold.test if item.language == "de")
        assert fold.in_languages(None) is fold
        with pytest.raises(EdgeemoError, match="train part of this fold holds no fr"):
            fold.in_languages(("fr",))

    def test_corpora_that_cannot_be_pooled(self, places, tmp_path):
        corpus = read_corpus(places["en"])
        assert pool_corpora([corpus]) is corpus
        with pytest.raises(WrongUseError, match="two corpora are called 'corpus-en'"):
            pool_corpora([corpus] * 2)
        names = {"angry": "anger", "sad": "awe", "happy": "bliss"}
        odd = write_corpus(tmp_path / "odd", "fr", speakers=1, names=names)
        with pytest.raises(EdgeemoError, match="fewer than two"):
            pool_corpora([corpus, read_corpus(odd)])


class TestWeights:
    student = torch.tensor([[3.0, 0.0, -3.0], [-1.0, 2.0, 0.0]])
    teachers = torch.tensor([[[3.0, 0.0, -3.0], [-3.0, 0.0, 3.0]], [[1.0, 1.0, 0.0], [-0.5, 1.0, 0.0]]])
    own = torch.tensor([1, -1])

    def of(self, **changes):
        return teacher_weights(self.student, self.teachers, self.own, Weighting(**changes))

    def test_by_agreement_they_are_the_paper_s_formula(self):
        weights = self.of(weight_temperature=0.25)
        cosine = torch.nn.functional.cosine_similarity(self.student[:, None], self.teachers, dim=2)
        assert torch.allclose(weights, torch.softmax(cosine / 0.25, dim=1))
        assert weights[0, 0] > 0.999  # the same direction against the opposite one
        weights = self.of(by="batch-agreement")
        assert torch.equal(weights[0], weights[1])
        assert not torch.allclose(self.of()[0], self.of()[1])

    def test_by_confidence_language_or_alike(self):
        weights = self.of(by="confidence")
        other = teacher_weights(-self.student, self.teachers, self.own, Weighting(by="confidence"))
        assert torch.equal(weights, other)
        # As sure as each other for the first utterance, the second teacher surer for the second.
        assert torch.allclose(weights[0], torch.tensor([0.5, 0.5]))
        assert weights[1, 1] > weights[1, 0]
        assert self.of(by="own-language").tolist() == [[0.0, 1.0], [0.5, 0.5]]
        assert self.of(by="uniform").tolist() == [[0.5, 0.5], [0.5, 0.5]]

    @pytest.mark.parametrize("how", ["agreement", "batch-agreement", "confidence", "uniform", "own-language"])
    def test_they_sum_to_one_and_carry_no_gradient(self, how):
        student = self.student.clone().requires_grad_()
        weights = teacher_weights(student, self.teachers, self.own, Weighting(by=how))
        assert torch.allclose(weights.sum(dim=1), torch.ones(2))
        assert not weights.requires_grad


class TestLoss:
    def test_loss_is_the_weighted_sum_of_divergences(self):
        torch.manual_seed(0)
        student, teachers = torch.randn(4, 3), torch.randn(4, 2, 3)
        weights = torch.softmax(torch.randn(4, 2), dim=1)
        p = torch.softmax(teachers / 5, dim=2)
        q = torch.softmax(student / 5, dim=1)[:, None]
        expected = (weights * (p * (p / q).log()).sum(dim=2)).sum(dim=1).mean()
        assert torch.allclose(weighted_loss(student, teachers, weights, Weighting()), expected, atol=1e-6)
        squared = weighted_loss(student, teachers, weights, Weighting(squared=True))
        assert torch.allclose(squared, 25 * expected, atol=1e-5)
        logits = torch.tensor([[1.0, -1.0, 0.5]])
        same = logits[:, None].expand(1, 3, 3)
        assert weighted_loss(logits, same, torch.full((1, 3), 1 / 3), Weighting()) == pytest.approx(0.0, abs=1e-6)


class TestBalance:
    def test_languages_are_drawn_alike_and_an_epoch_is_reproduced(self, pooled):
        weights = language_weights(pooled.utterances, 1.0)
        assert weights.mean() == pytest.approx(1.0)
        order = BatchOrder(len(pooled.utterances), 8, seed=0, weights=weights)
        drawn = []
        for epoch in range(40):
            order.epoch = epoch
            drawn += [number for batch in order for number in batch]
        share = np.mean([pooled.utterances[number].language == "de" for number in drawn])
        assert share == pytest.approx(0.5, abs=0.03)
        assert language_weights(pooled.utterances, 0.0) is None
        weights = np.arange(1.0, 21.0)
        one, other = (BatchOrder(20, 4, seed=1, weights=weights) for _ in range(2))
        list(one)
        one.epoch = other.epoch = 3
        assert list(one) == list(other)


class TestOutputs:
    @pytest.fixture
    def outputs(self, tmp_path):
        paths = [tmp_path / f"{teacher}.npy" for teacher in range(2)]
        for teacher, path in enumerate(paths):
            write_array(path, np.arange(12.0, dtype=np.float32).reshape(4, 3) + 100 * teacher)
        rows, own = np.array([3, 0, 1]), np.array([1, 0, -1])
        return LanguageOutputs("monolingual", ("de", "en"), tuple(map(Rows, paths)), rows, own, ([], []))

    def test_rows_of_teachers_side_by_side_and_of_the_own_language(self, outputs):
        targets = outputs.targets(range(1, len(outputs.numbers)))
        rows = targets[LANGUAGE_LOGITS]
        assert isinstance(rows, StackedRows)
        assert len(rows) == 2
        assert rows[0].tolist() == [[0.0, 1.0, 2.0], [100.0, 101.0, 102.0]]
        assert targets[LANGUAGE_NUMBER].tolist() == [0, -1]
        found = outputs.of_own(0)
        assert found.tolist() == [[109.0, 110.0, 111.0], [0.0, 1.0, 2.0], [53.0, 54.0, 55.0]]


def distil(recipe_file, places, out, *more, code=0):
    """In this process: importing torch anew takes longer than all that is trained here."""
    corpora = [f"--corpus={place}" for place in places.values()]
    return invoke("distill", recipe_file, *corpora, "--out", out, *more, code=code)


@pytest.fixture(scope="module")
def run(recipe_file, places, tmp_path_factory):
    out = tmp_path_factory.mktemp("mtkd") / "run"
    distil(recipe_file, places, out, code=0)
    return out


def test_a_run_has_a_teacher_a_language_and_says_what_each_counts(run):
    report = read_report(run)
    assert set(report.teachers) == {"monolingual", "monolingual-de", "monolingual-en"}
    assert set(report.student.test_by["language"]) == {"de", "en"}
    assert report.student.test.ua > 0.6  # of three: pitch tells them apart
    last = report.student.history[-1]
    for language in range(2):
        assert last[f"weight_{language}_0"] + last[f"weight_{language}_1"] == pytest.approx(1.0, abs=1e-5)


def test_no_teacher_is_trained_on_a_tested_speaker(run, pooled):
    record = read_run(run)
    fold = make_fold(pooled, record.recipe.folds, record.fold)
    for language in ("de", "en"):
        own = language_fold(fold, language, record.labels, "monolingual")
        assert {item.language for item in own.train} == {language}
        assert not {item.speaker for item in fold.test} & {item.speaker for item in (*own.train, *own.validation)}
        assert own.test == ()
    fold = make_fold(pooled, FoldSpec(count=3), 0)
    english = type(fold)(fold.train, (), fold.test)
    lent = language_fold(english, "en", pooled.labels, "monolingual")
    assert lent.validation
    assert not {item.speaker for item in lent.train} & {item.speaker for item in lent.validation}


def test_another_weighting_takes_the_teachers_from_the_cache(run, recipe_file, places, tmp_path):
    done = distil(recipe_file, places, tmp_path / "r", "--set", "weighting.by='uniform'", code=0)
    assert done.stderr.count("taken from the cache") == 2
    ours, theirs = read_report(tmp_path / "r"), read_report(run)
    assert ours.teachers["monolingual"].test == theirs.teachers["monolingual"].test
    assert ours.student.history[-1]["weight_0_1"] == pytest.approx(0.5)


def test_one_language_alone_with_one_teacher(recipe_file, places, tmp_path):
    more = ["--set", "languages=['de']", "--set", "teachers.monolingual.languages=['de']"]
    distil(recipe_file, places, tmp_path / "r", *more, code=0)
    report = read_report(tmp_path / "r")
    assert report.student.test.utterances == 6
    assert set(report.teachers) == {"monolingual", "monolingual-de"}


def test_a_corpus_without_a_language_is_refused(recipe_file, tmp_path):
    silent = write_corpus(tmp_path / "c", "", speakers=3, names=NAMES["en"])
    done = distil(recipe_file, {"": silent}, tmp_path / "r", code=1)
    assert "has no language, which the monolingual teacher needs" in done.stderr


def test_folds_are_pooled_by_the_teachers_that_all_have(run, tmp_path):
    """As where languages are left out in turn."""
    for fold in range(2):
        shutil.copytree(run, tmp_path / f"fold-{fold}")
    other = tmp_path / "fold-1"
    record = json.loads((other / "run.json").read_text()) | {"fold": 1}
    (other / "run.json").write_text(json.dumps(record))
    report = json.loads((other / "report.json").read_text())
    del report["teachers"]["monolingual-de"]
    (other / "report.json").write_text(json.dumps(report))
    (other / "predictions-monolingual-de.csv").unlink()
    for path in other.glob("predictions*.csv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *(f"other-{row}" for row in rows)]) + "\n")
    assert set(gather(tmp_path, [0, 1]).systems) == {"student", "monolingual", "monolingual-en"}


def test_export_reads_the_corpora_again_and_names_one_that_moved(run, pooled, places):
    loaded = load_run(run)
    assert loaded.corpus.is_state(pooled.fingerprint())
    assert [part.facts.name for part in loaded.record.corpus.parts] == ["corpus-en", "corpus-de"]
    with pytest.raises(WrongUseError, match="name a corpus of the run's"):
        load_run(run, (NamedPath(places["de"]),))
    assert load_run(run, (NamedPath(places["de"], "corpus-de"),)).corpus


def test_what_is_known_of_short_clips_is_what_the_device_hears(run):
    """Clips of one window are decided on by statistics from the cache; by their waveforms it is the same."""
    loaded = load_run(run)
    found = score_clips(student_score(loaded.student), [item.path for item in loaded.fold.test], loaded.policy)
    tested = Predictions.read(run / PREDICTIONS)
    order = [tested.names.index(item.name) for item in loaded.fold.test]
    expected = tested.probabilities[order]
    np.testing.assert_allclose(found.probabilities(loaded.report.temperature), expected, atol=1e-4)


@pytest.mark.slow
def test_the_paper_s_recipe_runs_on_waveforms_and_resumes(places, tmp_path):
    """With a small wav2vec2 from disk in place of the hub's; a finished teacher is not trained again."""
    encoder = save_encoder(tmp_path / "wav2vec2", "wav2vec2")
    window = [f"window.{key}" for key in ("seconds=1.0", "hop_seconds=0.5", "minimum_seconds=0.5")]
    settings = ["folds.count=3", "student.training.epochs=1", "threads=1", *window]
    more = [f"--encoder={encoder}", *(f"--set={setting}" for setting in settings)]
    distil("mtkd-wav2vec2-base", places, tmp_path / "r", *more, code=0)
    report = read_report(tmp_path / "r")
    assert set(report.teachers) == {"monolingual", "monolingual-de", "monolingual-en"}
    assert Student.from_pretrained(tmp_path / "r" / "student").encoder.family == "wav2vec2"
    (tmp_path / "r" / "report.json").unlink()
    again = distil("mtkd-wav2vec2-base", places, tmp_path / "r", *more, code=0)
    assert again.stderr.count("taken from the cache") == 2


def test_the_paper_s_recipe_is_what_the_paper_gives():
    found = load_recipe("mtkd-wav2vec2-base")
    assert found.student.encoder == "facebook/wav2vec2-base"
    figures = {"weight_temperature": 0.25, "temperature": 5.0, "share": 0.25}
    assert found.weighting == Weighting(by="agreement", squared=False, **figures)
    assert (found.student.training.learning_rate, found.student.training.epochs) == (3e-5, 20)


class TestForEveryone:
    """A student that has learnt from all speakers, with the figures of its folds."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folds(recipe_file, places, tmp_path_factory):
        folder = tmp_path_factory.mktemp("folds")
        for number in range(3):
            distil(recipe_file, places, folder / f"fold-{number}", f"--fold={number}", "--without=monolingual", code=0)
        return folder

    @pytest.fixture(scope="class")
    @staticmethod
    def everyone(recipe_file, places, tmp_path_factory):
        out = tmp_path_factory.mktemp("everyone") / "run"
        distil(recipe_file, places, out, "--without=monolingual", "--set=student.train_on_all=true", code=0)
        return out

    @pytest.mark.slow
    def test_its_run_tells_the_figures_of_one_that_has_not_heard_the_tested(self, everyone, folds):
        report, plain = read_report(everyone), read_report(folds / "fold-0")
        assert "trained on all speakers" in report.note
        assert report.student.validation == plain.student.validation
        ours, theirs = (Student.from_pretrained(run / "student") for run in (everyone, folds / "fold-0"))
        assert not torch.equal(ours.reference, theirs.reference)

    @pytest.mark.slow
    def test_it_is_exported_with_the_figures_of_its_folds_only(self, everyone, folds, places, tmp_path):
        out = ("--out", tmp_path / "b")
        assert "--folds" in invoke("export", everyone, *out).stderr
        done = invoke("export", folds / "fold-0", *out, f"--folds={folds}")
        assert "has test speakers of its own" in done.stderr
        invoke("export", everyone, *out, f"--folds={folds}", "--allow-chance", code=0)
        bundle = load_bundle(tmp_path / "b")
        tested = [Predictions.read(folds / f"fold-{number}" / PREDICTIONS) for number in range(3)]
        assert bundle.manifest.metrics["fp32"].ua == pytest.approx(Predictions.pool(tested).accuracy.ua, abs=0.02)
        assert bundle.manifest.metrics["fp32"].speakers == 9
        languages = bundle.manifest.languages
        assert sum(each["fp32"].utterances for each in languages.values()) == bundle.manifest.metrics["fp32"].utterances
        card = (tmp_path / "b" / "README.md").read_text()
        assert "figures are cross-validated" in card
        for language, graphs in languages.items():
            assert f"| {language} | {graphs['fp32'].speakers} | {graphs['fp32'].utterances} | " in card
        for place in places.values():
            with pytest.raises(EdgeemoError, match="trained on all of this corpus"):
                held_out(bundle, read_corpus(place))

    @pytest.mark.slow
    def test_folds_are_evaluated_once_some_at_a_time(self, everyone, folds, tmp_path):
        """In two processes, as in one; after an interruption, finished folds come from the cache."""
        run, said = load_run(everyone), []
        together = evaluate_folds(run, ExportOptions(folds=folds, jobs=2), tmp_path, print).evaluations["fp32"]
        (kept,) = tmp_path.glob("fold-1/measured-*.npz")
        kept.unlink()
        again = evaluate_folds(run, ExportOptions(folds=folds), tmp_path, said.append).evaluations["fp32"]
        wanted = ["fold 0: is measured already", "fold 1", "fold 2: is measured already"]
        assert [each for each in said if each.startswith("fold")] == wanted
        assert [item.name for item in again.utterances] == [item.name for item in together.utterances]
        assert len({item.speaker for item in again.utterances}) == 9
        assert np.allclose(again.probabilities, together.probabilities, atol=1e-5)

    @pytest.mark.slow
    def test_a_fold_s_bundle_is_tested_on_its_own_test_speakers(self, folds, places, pooled, tmp_path):
        invoke("export", folds / "fold-1", "--allow-chance", "--out", tmp_path / "b", code=0)
        bundle = load_bundle(tmp_path / "b")
        expected = {item.name for item in make_fold(pooled, FoldSpec(count=3), 1).test}
        found = set()
        for place in places.values():
            corpus = read_corpus(place)
            part = held_out(bundle, corpus)
            assert part.speaker_independent
            found |= {f"{corpus.facts.name}/{item.name}" for item in part.utterances}
            assert {item.emotion for item in part.utterances} == set(bundle.manifest.labels)
        assert found == expected
