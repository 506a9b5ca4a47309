"""Teachers in recipes: one table, one registry; a new kind takes one file and one line."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from distill.caching.arrays import Rows, write_array
from distill.load_recipe import load_recipe
from distill.recipe import TeacherSignal
from distill.runs.run_directory import read_report, read_run
from distill.teachers.registry import BUILT_IN, entries
from distill.training.outputs import Supervision, TeacherOutputs
from edge_runtime.errors import WrongUseError
from tests.distill.test_mtkd import RECIPE, distil, places  # noqa: F401

FILE = '''
"""A teacher that measures the mean slope of an utterance."""

import numpy as np

from distill.teachers.interface import Teacher, TeacherSettings
from edge_runtime.sources.audio import read_audio


class LevelSettings(TeacherSettings):
    sharpness: float = 1.0


class LevelTeacher(Teacher):
    Settings = LevelSettings

    def fit(self, train, validation):
        levels = self._levels(train)
        names = np.array([item.emotion for item in train])
        self.means = np.array([levels[names == label].mean() for label in self.context.labels])
        return [{"utterances": len(train)}]

    def predict(self, utterances):
        levels = self._levels(utterances)
        logits = -self.settings.sharpness * np.abs(levels - self.means)
        return logits, np.hstack([levels, levels**2, np.ones_like(levels)])

    def _levels(self, utterances):
        return np.array([[np.abs(np.diff(read_audio(item.path))).mean()] for item in utterances]) * 100
'''
PLAIN = RECIPE.replace('kind = "monolingual"', 'kind = "level"\nsharpness = 3.0\nsignal = { temperature = 2.0 }')

CROSS = PLAIN.replace("sharpness = 3.0\n", "sharpness = 3.0\ncross_fit = 2\n")


@pytest.fixture
def one_file(tmp_path, monkeypatch):
    (tmp_path / "level_teacher.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BUILT_IN, "level", "level_teacher:LevelTeacher")
    yield
    sys.modules.pop("level_teacher", None)


@pytest.mark.usefixtures("one_file")
def test_a_new_kind_takes_one_file_and_one_line(places, tmp_path):  # noqa: F811
    (tmp_path / "level.toml").write_text(PLAIN)
    distil(tmp_path / "level.toml", places, tmp_path / "run", code=0)
    report = read_report(tmp_path / "run")
    assert set(report.teachers) == {"level"}
    assert report.teachers["level"].test.ua > 0.6, "pitch and with it the mean slope differ between emotions"
    (table,) = read_run(tmp_path / "run").recipe.teachers
    assert (table.sharpness, table.signal["embedding_weight"]) == (3.0, 1.0), "a run records the defaults too"
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert config["branches"] == [["linguistic", 8], ["prosodic", 8], ["level", 3]]
    weights = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert len(weights["level.2.weight"]) == 3
    changed = ("--set=teachers.level.branch='prosodic'", "--set=teachers.level.name='tone'")
    distil(tmp_path / "level.toml", places, tmp_path / "other", *changed[::-1], code=2)
    done = distil(tmp_path / "level.toml", places, tmp_path / "other", *changed, code=0)
    assert "tone teacher: taken from the cache" in done.stderr
    config = json.loads((tmp_path / "other" / "student" / "config.json").read_text())
    assert config["branches"] == [["linguistic", 8], ["prosodic", 3]]


@pytest.mark.usefixtures("one_file")
def test_a_run_is_read_without_the_package_of_its_teacher(places, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "level.toml").write_text(PLAIN)
    distil(tmp_path / "level.toml", places, tmp_path / "run")
    monkeypatch.delitem(BUILT_IN, "level")
    assert [each.kind for each in read_run(tmp_path / "run").recipe.teachers] == ["level"]
    with pytest.raises(WrongUseError, match="there is no kind of teacher 'level'"):
        load_recipe(str(tmp_path / "level.toml"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("teachers.linguistic.max_tokens=3",), "teacher 'linguistic': 'max_tokens': must be at least 4$"),
        (("teachers.prosodic.training.epochs=0",), "teacher 'prosodic': 'training.epochs': must be at least 1$"),
        (("teachers.prosodic.droput=0.1",), "'droput': no such setting; did you mean 'dropout'"),
        (("teachers.acoustic.encoder='x'",), r"recipe demo has no such teacher \(it has linguistic, prosodic\)$"),
        (("teachers.prosodic.kind='prosody'",), "no kind of teacher 'prosody': .*did you mean 'prosodic'"),
        (("teachers.prosodic.name='linguistic'",), "two teachers are called 'linguistic'"),
        (("teachers.prosodic.name='a.b'",), "must be a name of letters"),
        (("teachers=3",), r"'teachers'"),
    ],
)
def test_what_is_wrong_with_a_teacher_s_table_is_named(settings, message):
    with pytest.raises(WrongUseError, match=message):
        load_recipe("demo", settings=settings)


def test_kinds_may_stand_twice_or_be_left_out(tmp_path):
    training = "training = { epochs = 1, learning_rate = 1e-3 }"
    prosodic = f'[[teachers]]\nkind = "prosodic"\n{training}\n'
    text = f'name = "two"\n{prosodic}{prosodic}name = "all"\nbranch = "prosodic"\n[student]\nrandom = {{}}\n{training}'
    (tmp_path / "two.toml").write_text(text)
    recipe = load_recipe(str(tmp_path / "two.toml"), settings=("teachers.all.dropout=0.5",))
    assert [each.settings.dropout for each in entries(recipe)] == [0.2, 0.5]
    assert [each.name for each in load_recipe("demo", without=("linguistic",)).teachers] == ["prosodic"]
    with pytest.raises(WrongUseError, match=r"--without acoustic: .* \(it has linguistic, prosodic\)$"):
        load_recipe("demo", without=("acoustic",))


def test_two_embeddings_of_one_branch_have_one_size(tmp_path):
    def outputs(name, size):
        write_array(tmp_path / f"{name}.npy", np.zeros((4, size), np.float32))
        rows = Rows(tmp_path / f"{name}.npy")
        return TeacherOutputs(rows, rows, [], "prosodic", TeacherSignal(temperature=1.0))

    same = Supervision({"a": outputs("a", 3), "b": outputs("b", 3)})
    assert same.embedding_sizes() == {"prosodic": 3}
    with pytest.raises(WrongUseError, match=r"teachers\.b\.branch: 'prosodic' matches an embedding"):
        Supervision({"a": outputs("a", 3), "b": outputs("b", 4)}).embedding_sizes()


@pytest.mark.usefixtures("one_file")
def test_no_branch_has_the_name_of_a_part_of_the_student(places, tmp_path):  # noqa: F811
    (tmp_path / "level.toml").write_text(PLAIN)
    done = distil(tmp_path / "level.toml", places, tmp_path / "run", "--set=teachers.level.branch='head'", code=2)
    assert "no branch can be called 'head'" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("one_file")
def test_a_cross_fitted_run_resumes_with_the_teacher_that_is_missing(places, tmp_path):  # noqa: F811
    (tmp_path / "level.toml").write_text(CROSS)
    given = ("--cache", tmp_path / "cache")
    distil(tmp_path / "level.toml", places, tmp_path / "run", *given)
    report = read_report(tmp_path / "run")
    history = report.teachers["level"].history
    assert [row["part"] for row in history] == [0, 1]
    assert sum(row["utterances"] for row in history) == report.parts["train"], "each is fitted to the other half"
    assert report.teachers["level"].test.ua > 0.6
    teachers = tmp_path / "cache" / "teachers"
    (whole,) = teachers.glob("*-of-2")
    parts = [folder for folder in teachers.iterdir() if folder != whole and (folder / "logits.npy").is_file()]
    assert len(parts) == 2
    wanted = (whole / "logits.npy").read_bytes()
    (whole / "history.json").unlink()
    (parts[0] / "history.json").unlink()
    done = distil(tmp_path / "level.toml", places, tmp_path / "again", *given)
    assert done.stderr.count("of 2) teacher: taken from the cache") == 1
    assert (whole / "logits.npy").read_bytes() == wanted
    one = distil(
        tmp_path / "level.toml", places, tmp_path / "one", *given, "--set", "teachers.level.cross_fit=7", code=1
    )
    assert "cross_fit" in one.stderr


def test_cross_fitted_teachers_of_one_language_each(places, tmp_path):  # noqa: F811
    (tmp_path / "two.toml").write_text(
        RECIPE.replace('"monolingual"', '"monolingual"\ncross_fit = 2\nlanguages = ["en"]')
    )
    distil(tmp_path / "two.toml", places, tmp_path / "run", "--cache", tmp_path / "cache")
    report = read_report(tmp_path / "run")
    assert {row["part"] for row in report.teachers["monolingual-en"].history} == {0, 1}
    assert report.teachers["monolingual-en"].test.utterances == report.parts["test"]
