"""Unlabelled speech: how it is read, what is refused, and copies of tested speech in it."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile

from distill.caching.arrays import Rows, write_array
from distill.checks.corpus_checks import usable_corpus
from distill.checks.leakage import find_leaks, without_leaks
from distill.checks.training_speech import MOST_SKETCHES, TRAINING_SPEECH, recognised, write_sketches
from distill.corpora import read_corpus, read_unlabelled
from distill.corpora.auxiliary import other_emotions, trained_on_too, with_unlabelled
from distill.corpora.pooled import pool_corpora
from distill.folds import FoldSpec, make_fold
from distill.load_recipe import load_recipe
from distill.recipe import TeacherSignal
from distill.training.outputs import Supervision, TeacherOutputs
from edge_runtime.errors import EdgeemoError
from tests.conftest import tone
from tests.project.test_commands import corpus_of, refused


def sounds(folder, names, *, seconds=0.8, seed=0):
    """Write tones in noise, each another one."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pcm = tone(seconds, frequency=90 * 1.07 ** (number + 11 * seed))
        soundfile.write(folder / name, pcm + random.normal(0, 0.02, len(pcm)), 16_000)
    return folder


class TestReading:
    names = ("b/two.wav", "one.FLAC")

    def test_any_directory_of_audio(self, tmp_path):
        folder = sounds(tmp_path / "wild", self.names)
        (folder / "notes.txt").write_text("no audio")
        (folder / "corpus.json").write_text('{"name": "own", "licence": "CC0-1.0", "language": "nl"}')
        found = read_unlabelled(folder)
        assert [item.name for item in found.utterances] == ["one.FLAC", "b/two.wav"]
        assert [item.speaker for item in found.utterances] == ["one.FLAC", "b/two.wav"], "each is a speaker of its own"
        assert {(item.emotion, item.language) for item in found.utterances} == {("", "nl")}
        assert (found.facts.name, found.facts.licence) == ("own", "CC0-1.0")
        assert read_unlabelled(folder, name="more").facts.name == "more"

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("metadata.csv", "file\none.FLAC\n"),
            ("metadata.csv", "file,speaker,emotion\none.FLAC,,nan\n"),
            ("metadata.csv", "file,speaker,mood\none.FLAC,None,odd\n"),
            ("metadata.jsonl", '{"file": "one.FLAC", "emotion": null}\n'),
        ],
        ids=["file only", "missing values", "another column", "jsonl"],
    )
    def test_a_manifest_needs_files_only(self, tmp_path, file, text):
        folder = sounds(tmp_path / "wild", self.names)
        (folder / file).write_text(text)
        for place in (folder, folder / file):
            (item,) = read_unlabelled(place).utterances
            assert (item.name, item.speaker, item.emotion, item.extra) == ("one.FLAC", "one.FLAC", "", {})
        with pytest.raises(EdgeemoError):
            read_corpus(folder)

    def test_emotions_change_nothing(self, tmp_path):
        folder = sounds(tmp_path / "wild", self.names)
        prints = set()
        for emotions in ("sad,angry", "angry,sad", "7,"):
            one, two = emotions.split(",")
            (folder / "metadata.csv").write_text(
                f"file,speaker,emotion\n{self.names[0]},a,{one}\n{self.names[1]},a,{two}\n"
            )
            prints.add(read_unlabelled(folder).fingerprint())
        assert len(prints) == 1
        (folder / "metadata.csv").write_text(f"file,speaker\n{self.names[0]},a\n{self.names[1]},b\n")
        assert read_unlabelled(folder).fingerprint() not in prints, "speakers do matter"

    def test_a_published_corpus_and_what_lies_beside_it(self, tmp_path):
        folder = sounds(tmp_path / "emodb", ["03a01Fa.wav", "03a01Nc.wav", "08a01Wa.wav", "interview.wav"])
        found = read_unlabelled(folder)
        assert {item.name: item.speaker for item in found.utterances} == {
            "03a01Fa.wav": "03",
            "03a01Nc.wav": "03",
            "08a01Wa.wav": "08",
            "interview.wav": "interview.wav",
        }
        assert {item.emotion for item in found.utterances} == {""}

    def test_what_is_refused(self, tmp_path):
        folder = sounds(tmp_path / "wild", self.names)
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.txt").write_text("hello")
        (tmp_path / "other.csv").write_text("path\none.FLAC\n")
        (folder / "broken.wav").write_bytes(b"RIFF")
        for place, message in (
            (tmp_path / "nowhere", "there is no such directory of speech"),
            (tmp_path / "empty", "holds no audio"),
            (tmp_path / "text.txt", "is no manifest .*the column file"),
            (tmp_path / "other.csv", "lacks the column file"),
            (folder, "broken.wav.*--skip-broken"),
        ):
            with pytest.raises(EdgeemoError, match=message):
                read_unlabelled(place)
        assert len(read_unlabelled(folder, skip_broken=True).utterances) == 2


class TestWrongUse:
    @pytest.mark.parametrize(
        ("given", "code", "message"),
        [
            ("--unlabelled {here}/speech", 2, "is speech that is given already"),
            ("--unlabelled x={here}/wild --unlabelled y={here}/wild", 2, "is speech that is given already"),
            ("--unlabelled {here}/wild --auxiliary-corpus {here}/again --unlabelled {here}/again", 2, "given already"),
            ("--unlabelled speech={here}/wild", 2, "two corpora are called 'speech', one of them unlabelled"),
            ("--unlabelled {here}/empty", 1, "holds no audio"),
            ("--unlabelled {here}/nowhere", 1, "there is no such directory of speech"),
            ("--unlabelled=", 2, "is empty"),
            ("--unlabelled {here}/wild --without linguistic --without prosodic", 2, "[student.pruning.distillation]"),
        ],
    )
    def test_one_sentence_and_nothing_left_behind(self, tmp_path, given, code, message):
        rows = [(speaker, emotion) for emotion in ("sad", "angry") for speaker in "abc" for _ in range(2)]
        for name in ("speech", "again"):
            corpus_of(tmp_path / name, rows, audio=False)
            sounds(tmp_path / name, [f"{number}.wav" for number in range(12)], seed=2 + len(name))
        sounds(tmp_path / "wild", TestReading.names)
        (tmp_path / "empty").mkdir()
        given = given.format(here=tmp_path).split()
        out = tmp_path / "r"
        words = ("--corpus", tmp_path / "speech", "--set", "folds={count=3}")
        refused("distill", "demo", *words, *given, "--out", out, code=code, message=message)
        assert not out.exists()

    def test_a_recipe_in_closed_form(self, tmp_path):
        recipe = tmp_path / "closed.toml"
        recipe.write_text('name = "closed"\n[student]\nrandom = {}\nfrozen = "all"\nlda = {}\n')
        words = ("--corpus", tmp_path, "--unlabelled", tmp_path / "nowhere", "--out", tmp_path / "r")
        refused("distill", recipe, *words, code=2, message="the recipe closed has no use for it")
        assert not load_recipe(str(recipe)).uses_unlabelled
        assert load_recipe("small").uses_unlabelled
        assert load_recipe("mtkd").uses_unlabelled


class TestChecks:
    def test_of_files_only(self, tmp_path):
        folder = sounds(tmp_path / "wild", ["a1.wav", "a01.wav", "b.wav"])
        shutil.copy(folder / "b.wav", folder / "c.wav")
        found, findings = usable_corpus(read_unlabelled(folder), tmp_path, shortest=0.1, labelled=False)
        assert len(found.utterances) == 4
        assert [(each.check, each.level) for each in findings] == [("duplicates", "warning")]


class TestLeaks:
    def test_only_of_what_is_tested_or_validated(self, tmp_path):
        names = [f"{speaker}-{emotion}.wav" for speaker in "abc" for emotion in ("sad", "angry")]
        speech = sounds(tmp_path / "speech", names, seconds=1.5)
        rows = [f"{name},{name[0]},{name[2:-4]}" for name in names]
        (speech / "metadata.csv").write_text("\n".join(["file,speaker,emotion", *rows]))
        fold = make_fold(read_corpus(speech), FoldSpec(count=3), 0)
        copied = {"t.wav": fold.test[0], "v.wav": fold.validation[0], "l.wav": fold.train[0]}
        sounds(tmp_path / "wild", ["other.wav"], seconds=1.5, seed=3)
        for name, item in copied.items():
            pcm, rate = soundfile.read(item.path)
            soundfile.write(tmp_path / "wild" / name, 0.5 * pcm, rate)
        fold = with_unlabelled(fold, [read_unlabelled(tmp_path / "wild")])
        leaks = find_leaks(fold, tmp_path)
        assert {(each.name, each.part, each.copy_part) for each in leaks} == {
            ("wild/t.wav", "unlabelled", "test"),
            ("wild/v.wav", "unlabelled", "validation"),
        }
        with pytest.raises(EdgeemoError, match="2 of the unlabelled speech are copies of tested or validated"):
            without_leaks(fold, tmp_path, exclude=False)
        left, _ = without_leaks(fold, tmp_path, exclude=True)
        assert [item.name for item in left.unlabelled] == ["wild/l.wav", "wild/other.wav"]
        assert (left.train, left.validation, left.test) == (fold.train, fold.validation, fold.test)
        alone = dataclasses.replace(fold, unlabelled=tuple(i for i in fold.unlabelled if i.name == "wild/t.wav"))
        with pytest.raises(EdgeemoError, match="nothing but copies"):
            without_leaks(alone, tmp_path, exclude=True)


def test_labelled_training_speech_comes_first_among_what_is_recognised(tmp_path):
    words = np.random.default_rng(0).integers(0, 1 << 32, (2 * MOST_SKETCHES, 2), dtype=np.uint32)
    write_sketches(tmp_path, words[:100], words[100:])
    content = (tmp_path / TRAINING_SPEECH).read_bytes()
    assert len(content) == 8 * MOST_SKETCHES
    assert recognised(content, words[:100]) == 100
    assert recognised(content, words[100:]) == MOST_SKETCHES - 100


def test_targets_are_of_the_first_and_the_last_utterances(tmp_path):
    write_array(tmp_path / "x.npy", np.arange(12.0, dtype=np.float32).reshape(6, 2))
    rows = Rows(tmp_path / "x.npy")
    outputs = TeacherOutputs(rows, rows, [], "x", TeacherSignal(temperature=1.0))
    found = Supervision({"x": outputs}).targets(2, 1)
    assert [list(found["x_logits"][number]) for number in range(3)] == [[0, 1], [2, 3], [10, 11]]
    assert [list(found["x_embedding"][number]) for number in range(3)] == [[-1, -1], [1, 1], [9, 9]]


class TestOtherEmotions:
    """Utterances of emotions that are no class: an encoder is distilled on those of training speakers."""

    def made(self, root, name, emotions):
        files = [f"{speaker}{number}-{emotion}.wav" for speaker in "abcd" for number in (0, 1) for emotion in emotions]
        folder = sounds(root / name, files)
        rows = [f"{file},{name[0]}{file[0]},{file[3:-4]},{file[1]}" for file in files]
        (folder / "metadata.csv").write_text("\n".join(["file,speaker,emotion,sentence", *rows]) + "\n")
        return read_corpus(folder, name=name)

    def test_of_pooled_corpora(self, tmp_path):
        parts = [self.made(tmp_path, "one", ("angry", "sad", "bored")), self.made(tmp_path, "two", ("anger", "sad"))]
        corpus = pool_corpora(parts)
        (found,) = other_emotions(corpus, None)
        assert found.facts.name == "one, other emotions"
        assert {item.emotion for item in found.utterances} == {""}
        assert all(item.name.endswith("bored.wav") for item in found.utterances)
        spec = FoldSpec(count=4, by="speaker")
        for index in range(4):
            fold = make_fold(corpus, spec, index)
            trained = fold.trained_in_the_end(refit=True, train_on_all=False)
            (used,) = trained_on_too([found], trained, fold.test, spec.columns)
            assert {item.speaker for item in used.utterances} == {
                item.speaker for item in trained if item.speaker.startswith("one/")
            }
            assert trained_on_too([found], fold.trained_in_the_end(True, True), (), spec.columns) == [found]
        one = [item for item in corpus.utterances if item.extra["corpus"] == "one"]
        two = [item for item in corpus.utterances if item.extra["corpus"] == "two"]
        assert trained_on_too([found], one, two, ["corpus"]) == [found]
        assert trained_on_too([found], two, one, ["corpus"]) == []

    def test_of_one_corpus_with_sentences_held_out(self, tmp_path):
        corpus = self.made(tmp_path, "one", ("angry", "sad", "bored"))
        labels = {"angry": "angry", "sad": "sad"}
        (found,) = other_emotions(corpus, labels)
        assert other_emotions(corpus, None) == []
        known = corpus.labelled(labels).utterances
        apart = [item for item in known if item.speaker == "oa" and item.extra["sentence"] == "0"]
        trained = [item for item in known if item.speaker != "oa" and item.extra["sentence"] != "0"]
        (used,) = trained_on_too([found], trained, apart, ("speaker", "sentence"))
        assert len(used.utterances) == 3
        assert {(item.speaker == "oa", item.extra["sentence"]) for item in used.utterances} == {(False, "1")}
