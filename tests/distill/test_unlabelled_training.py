"""Training on unlabelled speech: what it changes, and that its emotions change nothing."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional

from distill.checks.identity import identified
from distill.corpora import read_corpus, read_unlabelled
from distill.corpus import UNLABELLED
from distill.distillation.objective import Distillation
from distill.folds import make_fold
from distill.load_recipe import load_recipe
from distill.recipe import TeacherSignal
from distill.runs.run_directory import is_finished, read_report, read_run
from distill.student import Student
from distill.training.frozen_statistics import AlignedStatistics, FrozenStatistics
from distill.training.losses import distribution_loss
from tests.command import ALONE, edgeemo
from tests.distill.test_mtkd import RECIPE, distil, places  # noqa: F401
from tests.distill.test_structured_pruning import SET
from tests.distill.test_student_and_losses import RECIPE as STUDENT
from tests.distill.test_student_and_losses import speechlike, student  # noqa: F401
from tests.distill.test_teachers import PLAIN, one_file  # noqa: F401
from tests.distill.test_unlabelled import sounds


class TestLoss:
    def test_labels_are_masked_and_teachers_are_not(self, student):  # noqa: F811
        signal = TeacherSignal(temperature=2.0, embedding_weight=0.0)
        objective = Distillation(student, STUDENT, {"linguistic": signal}, branches={}).train()
        student.eval()
        pcm, lengths = torch.stack([speechlike(1.0), speechlike(1.0, 1)]), torch.tensor([16_000] * 2)
        targets = {"linguistic_logits": torch.randn(2, 3)}
        loss = objective(torch.tensor([2, UNLABELLED]), pcm, lengths, targets=targets)["loss"]
        logits = student(pcm, lengths).logits
        wanted = functional.cross_entropy(logits[:1], torch.tensor([2])) / 2
        wanted = STUDENT.label_weight * wanted + distribution_loss(logits, targets["linguistic_logits"], 2.0)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_statistics_are_aligned_though_nothing_of_the_corpus_is_labelled(tmp_path):
    random = np.random.default_rng(0)
    items = read_unlabelled(sounds(tmp_path / "x", [f"{number}.wav" for number in range(8)])).utterances
    rows = random.normal(0, 1, (8, 3)).astype(np.float32)
    rows[4:] = 5 + 3 * rows[4:]
    parts = [
        FrozenStatistics(
            {item.path: ([rows], number) for number, item in enumerate(items) if number in chosen}, np.arange(3)
        )
        for chosen in (range(4), range(4, 8))
    ]
    aligned = AlignedStatistics(parts[0], parts[1:], items[:4])
    other = np.stack([aligned.of(item) for item in items[4:]])
    assert np.allclose(other.mean(axis=0), rows[:4].mean(axis=0), atol=1e-4)
    assert np.allclose(other.std(axis=0), rows[:4].std(axis=0), atol=1e-4)


@pytest.fixture
def wild(tmp_path):
    """Unlabelled speech: recordings, and a manifest with emotions that are not used."""
    folder = sounds(tmp_path / "wild", [f"{number}.wav" for number in range(12)], seed=3)
    rows = [f"{number}.wav,{'sad' if number % 2 else 'angry'}" for number in range(12)]
    (folder / "metadata.csv").write_text("\n".join(["file,emotion", *rows]))
    (folder / "corpus.json").write_text('{"name": "wild", "licence": "CC0-1.0"}')
    return folder


def weights_of(run):
    return Student.from_pretrained(run / "student").state_dict()


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.usefixtures("one_file")
@pytest.mark.parametrize("frozen", [True, False], ids=["statistics", "waveforms"])
def test_a_student_of_teachers(places, wild, tmp_path, frozen):  # noqa: F811
    recipe = tmp_path / "level.toml"
    recipe.write_text(PLAIN if frozen else PLAIN.replace('frozen = "all"\n', ""))
    distil(recipe, places, tmp_path / "plain")
    done = distil(recipe, places, tmp_path / "run", f"--unlabelled={wild}")
    assert "unlabelled speech too: wild (0.00 hours, licence CC0-1.0)" in " ".join(done.stderr.split())
    plain, run = (read_report(tmp_path / name) for name in ("plain", "run"))
    assert run.parts == plain.parts | {"unlabelled": 12}
    assert run.teachers["level"].test == plain.teachers["level"].test, "the teacher is fitted to labels"
    assert run.student.test.utterances == plain.student.test.utterances
    assert not equal(weights_of(tmp_path / "plain"), weights_of(tmp_path / "run"))
    (record,) = read_run(tmp_path / "run").unlabelled
    assert (record.facts.licence, record.utterances, record.labels) == ("CC0-1.0", 12, None)

    # Other emotions, and none: the same run, of the same speech.
    table = wild / "metadata.csv"
    table.write_text(table.read_text().replace("sad", "happy").replace("angry", "sad"))
    distil(recipe, places, tmp_path / "again", f"--unlabelled={wild}", "--cache", tmp_path / "another-cache")
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "again"))
    assert (tmp_path / "run/predictions.csv").read_bytes() == (tmp_path / "again/predictions.csv").read_bytes()
    assert "finished already" in distil(recipe, places, tmp_path / "run", f"--unlabelled={wild}").stderr
    (wild / "5.wav").write_bytes((wild / "6.wav").read_bytes())
    done = distil(recipe, places, tmp_path / "run", f"--unlabelled={wild}", code=2)
    assert "another choice of --unlabelled" in done.stderr
    done = distil(recipe, places, tmp_path / "run", code=2)
    assert "another choice of --unlabelled" in done.stderr


def test_teachers_of_one_language_each(places, wild, tmp_path):  # noqa: F811
    """Of speech in an unknown language, all of them are asked."""
    (tmp_path / "two.toml").write_text(RECIPE)
    distil(tmp_path / "two.toml", places, tmp_path / "run", f"--unlabelled={wild}")
    report = read_report(tmp_path / "run")
    assert report.parts["unlabelled"] == 12
    assert set(report.teachers) == {"monolingual", "monolingual-de", "monolingual-en"}
    for system in report.teachers.values():
        assert system.test.utterances == report.parts["test"]


@pytest.mark.slow
def test_an_encoder_is_distilled_on_it_without_copies_of_tested_speech(corpus_dir, recipe_file, cache, tmp_path):
    """Rendered speech, in a student whose encoder is pruned and distilled."""
    spec = load_recipe(str(recipe_file)).folds
    speech = read_corpus(corpus_dir)
    fold = make_fold(speech, spec, 0)
    wild = tmp_path / "wild"
    wild.mkdir()
    for number, item in enumerate(fold.train[:8]):
        pcm, rate = soundfile.read(item.path)
        soundfile.write(wild / f"{number}.wav", pcm[::-1], rate)
    pcm, rate = soundfile.read(fold.test[0].path)
    soundfile.write(wild / "copy.ogg", 0.5 * pcm, rate)

    def run(name, *more, code=0):
        out = tmp_path / name
        words = ("distill", recipe_file, "--corpus", corpus_dir, *ALONE, *SET, "--cache", cache, "--out", out)
        return out, edgeemo(*words, *more, code=code)

    plain, _ = run("plain")
    given = ("--unlabelled", wild)
    out, done = run("leaky", *given, code=1)
    assert "1 of the unlabelled speech is a copy of tested or validated recordings (wild/copy.ogg = " in " ".join(
        done.stderr.split()
    )
    assert not out.exists()
    out, _ = run("run", *given, "--exclude-leaks")
    report, record = read_report(out), read_run(out)
    assert report.parts["unlabelled"] == 8
    assert record.left_out_copies == ("wild/copy.ogg",)
    assert record.unlabelled[0].utterances == 9
    assert not equal(weights_of(plain), weights_of(out))
    # The same without the copy: it was not used for anything.
    (wild / "copy.ogg").unlink()
    other, _ = run("other", *given)
    assert equal(weights_of(out), weights_of(other))
    unlabelled = read_unlabelled(wild)
    identified_as = record.model_copy(update={"unlabelled": read_run(other).unlabelled})
    assert len(identified_as.unlabelled_states) == 1
    assert not is_finished(other, record.recipe, speech, 0)
    assert json.loads((other / "run.json").read_text())["unlabelled"][0]["hours"] == round(unlabelled.hours, 4)
    edgeemo("export", other, "--allow-drop", "--allow-chance", "--out", tmp_path / "bundle", code=0)
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| wild | - | recorded | unknown | 8 |" in card
    assert "none: trained on all of it, without labels" in card


@pytest.mark.slow
def test_an_encoder_that_is_distilled_on_it_alone_is_the_same_in_all_folds(
    corpus_dir, recipe_file, cache, wild, tmp_path
):
    alone = 'student.pruning.distillation.speech="unlabelled"'

    def run(fold, *more, code=0):
        out = tmp_path / f"fold-{fold}"
        words = ("distill", recipe_file, "--corpus", corpus_dir, *ALONE, *SET, "--set", alone, "--fold", fold)
        return out, edgeemo(*words, "--cache", cache, "--out", out, *more, code=code)

    out, done = run(0, code=2)
    assert "distils its encoder on unlabelled speech alone; name some by --unlabelled NAME=PATH" in done.stderr
    assert not out.exists()
    states = []
    for fold in (0, 1):
        out, _ = run(fold, "--unlabelled", wild)
        assert read_report(out).parts["unlabelled"] == 12
        states.append({name: value for name, value in weights_of(out).items() if name.startswith("encoder.")})
        weights = list((cache / "encoders").glob("*/pruned.safetensors"))
        assert len(weights) == 1, "the second fold loads it"
    assert equal(*states)


@pytest.mark.slow
def test_other_emotions_differ_by_fold_and_the_folds_are_pooled(corpus_dir, recipe_file, cache, tmp_path):
    labels = sorted(read_corpus(corpus_dir).labels)[:2]
    chosen = "labels={" + ", ".join(f'{each} = "{each}"' for each in labels) + "}"
    words = ("distill", recipe_file, "--corpus", corpus_dir, *ALONE, *SET, "--set", chosen, "--set", "folds.count=3")
    out = tmp_path / "folds"
    command = (*words, "--fold", "all", "--cache", cache, "--out", out)
    edgeemo(*command, code=0)
    records = [read_run(out / f"fold-{fold}") for fold in range(3)]
    (first,) = records[0].other_emotions
    assert records[0].unlabelled == ()
    assert first.facts.name.endswith(", other emotions")
    assert first.utterances == read_report(out / "fold-0").parts["unlabelled"] > 0
    assert len({record.other_emotions[0].fingerprint for record in records}) == 3
    before = (out / "fold-0/report.json").stat().st_mtime_ns
    edgeemo(*command, code=0)
    assert (out / "fold-0/report.json").stat().st_mtime_ns == before
    corpus = identified(read_corpus(corpus_dir).labelled(records[0].recipe.labels), cache)
    for fold, record in enumerate(records):
        assert is_finished(out / f"fold-{fold}", record.recipe, corpus, fold)


def test_words_that_a_teacher_needs(wild, tmp_path, places):  # noqa: F811
    (tmp_path / "r.toml").write_text(
        RECIPE.replace(
            'kind = "monolingual"',
            'kind = "linguistic"\nencoder = "x"\ntraining = { epochs = 1, learning_rate = 1e-3 }',
        )
    )
    table = places["en"] / "metadata.csv"
    shutil.copytree(places["en"], tmp_path / "en")
    lines = table.read_text().splitlines()
    words = [f"{lines[0]},transcript", *(f"{line},words" for line in lines[1:])]
    (tmp_path / "en" / "metadata.csv").write_text("\n".join(words))
    done = distil(tmp_path / "r.toml", {"en": tmp_path / "en"}, tmp_path / "r", f"--unlabelled={wild}", code=1)
    assert "has no transcript, which the linguistic teacher needs" in done.stderr
    assert "wild/" in done.stderr


def test_silence_is_refused(wild, tmp_path, places):  # noqa: F811
    soundfile.write(wild / "3.wav", np.zeros(16_000), 16_000)
    (tmp_path / "two.toml").write_text(RECIPE)
    done = distil(tmp_path / "two.toml", places, tmp_path / "r", f"--unlabelled={wild}", code=1)
    assert "wild: is refused by the check silence (1 file)" in " ".join(done.stderr.split())
    assert not (tmp_path / "r").exists()
