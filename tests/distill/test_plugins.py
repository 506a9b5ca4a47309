"""What other installed packages add by entry points: readers of corpora and teachers; the example, and broken ones."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from distill.corpora import read_corpus
from distill.folds import FoldSpec, make_fold
from distill.load_recipe import load_recipe
from distill.recipe import TeacherTable
from distill.runs.run_directory import read_report, read_run
from distill.teachers.fit import fit_and_keep
from distill.teachers.interface import Context
from distill.teachers.registry import entry_of, find_kind
from distill.teachers.supervise import code_of
from edge_runtime.errors import EdgeemoError, WrongUseError
from tests.conftest import edgeemo, need

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "distill" / "examples" / "plugin"


class Site:
    """A folder on the search path that packages are installed in, as pip would, for this process and its commands."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(ROOT))))
        monkeypatch.syspath_prepend(folder)
        self._forget = lambda name: monkeypatch.delitem(sys.modules, name, raising=False)

    def install(self, name, entry_points, **modules):
        """Write modules by their text, and what pip writes beside them."""
        for module, text in modules.items():
            self._forget(module)
            (self.folder / f"{module}.py").write_text(text, encoding="utf-8")
        about = self.folder / f"{name.replace('-', '_')}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        lines = []
        for group, entries in entry_points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (about / "entry_points.txt").write_text("\n".join([*lines, ""]))

    def install_reader(self, text, name="odd", package="odd-corpora", value=None):
        module = package.replace("-", "_")
        self.install(package, {"edgeemo.corpora": {name: value or f"{module}:READER"}}, **{module: text})

    def install_example(self):
        project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
        modules = {name: (EXAMPLE / f"{name}.py").read_text() for name in project["tool"]["setuptools"]["py-modules"]}
        assert set(modules) == {path.stem for path in EXAMPLE.glob("*.py")}
        self.install(project["project"]["name"], project["project"]["entry-points"], **modules)


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path / "site", monkeypatch)


@pytest.fixture
def recordings(tmp_path):
    root = tmp_path / "recordings"
    random = np.random.default_rng(0)
    for speaker in ("ann", "bob", "cem"):
        for emotion in ("anger", "joy"):
            (root / speaker / emotion).mkdir(parents=True)
            for take in range(2):
                soundfile.write(root / speaker / emotion / f"{take}.wav", random.normal(0, 0.1, 8000), 16_000)
    return root


READER = """
from distill.corpora.reader import Entry, Reader
from distill.corpus import CorpusFacts
READER = Reader(CorpusFacts(name="odd"), "odd", lambda root: {recognises}, lambda root: {entries})
"""
GOOD = READER.format(recognises="True", entries="iter([Entry('ann/joy/0.wav', 'ann', 'joy')])")


def test_the_example_reads_its_corpus_and_names_unknown_folders(site, recordings):
    edgeemo("corpus", recordings, "--quick", code=1)
    site.install_example()
    done = edgeemo("corpus", recordings, "--quick", "--json", code=0)
    summary = json.loads(done.stdout)
    assert (summary["reader"], summary["name"], summary["language"]) == ("speaker-folders", "speaker-folders", "en")
    assert (summary["utterances"], summary["speakers"]) == (12, 3)
    assert summary["labels"] == {"angry": 6, "happy": 6}
    edgeemo("corpus", recordings, "--quick", "--reader", "speaker-folders", code=0)
    # Help may break a line at a hyphen.
    assert "speaker-folders" in "".join(edgeemo("corpus", "--help").stdout.split())
    (recordings / "cem" / "joy").rename(recordings / "cem" / "bliss")
    with pytest.raises(EdgeemoError, match=r"bliss.0\.wav: its name holds the emotion 'bliss'"):
        read_corpus(recordings, reader="speaker-folders")
    assert len(read_corpus(recordings, reader="speaker-folders", skip_broken=True).utterances) == 10


def test_our_own_readers_come_first_and_load_no_plugin(site, tmp_path):
    site.install_reader("raise RuntimeError('loaded')")
    root = tmp_path / "berlin" / "wav"
    root.mkdir(parents=True)
    soundfile.write(root / "03a01Fa.wav", np.zeros(1600), 16_000)
    assert read_corpus(root.parent).reader == "emodb"
    (root.parent / "metadata.csv").write_text("file,speaker,emotion\nwav/03a01Fa.wav,me,cross\n")
    assert read_corpus(root.parent).reader == "manifest"


def test_one_sentence_names_a_plugin_that_is_broken(site, recordings):
    site.install_reader("import no_such_module")
    done = edgeemo("corpus", recordings, "--quick", code=1)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: the plug-in 'odd' of odd-corpora 1.2 cannot be loaded (ModuleNotFoundError: ")
    assert line.endswith("'no_such_module', in odd_corpora.py, line 1); repair or uninstall it")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"cannot be loaded \(AttributeError: .*READER"),
        ("READER = {}", "should be a .*Reader whose facts have the name 'odd', and is a dict; repair"),
        (GOOD.replace('name="odd"', 'name="other"'), "should be .* name 'odd', and is the reader 'other'; repair"),
        (READER.format(recognises="1 / 0", entries="()"), r"failed on .*ZeroDivisionError: .*odd_corpora\.py, line 4"),
        (READER.format(recognises="True", entries="iter([1 / 0])"), "failed on .*ZeroDivisionError"),
        (READER.format(recognises="True", entries="['ann/joy/0.wav']"), "failed on .*should be of .*Entry, not str"),
    ],
    ids=["nothing", "no reader", "another name", "recognises", "entries", "no entries"],
)
def test_what_is_wrong_with_a_reader_is_told(site, recordings, text, told):
    site.install_reader(text)
    with pytest.raises(EdgeemoError, match=rf"^the plug-in 'odd' of odd-corpora 1\.2 {told}"):
        read_corpus(recordings)


def test_an_error_that_is_meant_for_the_user_is_passed_on(site, recordings):
    text = GOOD.replace("lambda root: True", "lambda root: (_ for _ in ()).throw(EdgeemoError('buy the corpus first'))")
    site.install_reader("from edge_runtime.errors import EdgeemoError\n" + text)
    with pytest.raises(EdgeemoError, match=r"^buy the corpus first$"):
        read_corpus(recordings)


def test_names_are_not_taken_twice(site, recordings):
    site.install_reader(GOOD)
    assert read_corpus(recordings).reader == "odd", "a reader alone is enough"
    site.install_reader(GOOD, package="more-corpora")
    with pytest.raises(EdgeemoError, match=r"more-corpora 1\.2 and odd-corpora 1\.2 both have a plug-in 'odd'"):
        read_corpus(recordings)
    shutil.rmtree(site.folder / "more_corpora-1.2.dist-info")
    site.install_reader(GOOD.replace('name="odd"', 'name="emodb"'), name="emodb", package="my-berlin")
    with pytest.raises(EdgeemoError, match=r"'emodb' of my-berlin 1\.2 has the name of a reader of edgeemo's own"):
        read_corpus(recordings)


def test_a_reader_that_is_not_installed_here(recordings):
    with pytest.raises(WrongUseError, match=r"no reader 'speaker-folders': .* or install the package that has it"):
        read_corpus(recordings, reader="speaker-folders")


# ---- teachers

TEACHER = """
import numpy as np
from distill.teachers.interface import Teacher, TeacherSettings

class Settings(TeacherSettings):
    depth: int = 1

class Odd(Teacher):
    Settings = Settings

    def fit(self, train, validation):
        assert train and validation
        self.emotions = {{item.emotion for item in train}}
        return []

    def predict(self, utterances):
        {body}
"""
SAYS = "return np.zeros((len(utterances), {logits})), np.ones((len(utterances), {embedding}))"


@pytest.fixture
def fold(corpus_dir):
    return make_fold(read_corpus(corpus_dir), FoldSpec(), 0)


def predictions(site, fold, body, folder, labels=("angry", "happy", "neutral", "sad")):
    """Install a teacher, fit it to a fold, and return its outputs."""
    entry_points = {"edgeemo.teachers": {"odd": "odd_teachers:Odd"}}
    site.install("odd-teachers", entry_points, odd_teachers=TEACHER.format(body=body))
    recipe = load_recipe("demo", without=("linguistic", "prosodic"))
    blank = [dataclasses.replace(item, emotion="") for item in fold.everything]
    entry = entry_of(TeacherTable(kind="odd", depth=3), "here")
    context = Context(labels, 0, folder / "checkpoints", folder, blank, recipe, [])
    fit_and_keep(entry, context, fold, folder)
    assert json.loads((folder / "history.json").read_text()) == []
    return [np.load(folder / f"{name}.npy") for name in ("logits", "embedding")]


def test_a_teacher_predicts_all_utterances_in_order_without_their_emotions(site, fold, monkeypatch, tmp_path):
    monkeypatch.setattr("distill.teachers.fit.BLOCK", 10)
    body = (
        "assert not any(item.emotion for item in utterances) and self.emotions == set(self.context.labels)\n"
        "        assert self.settings.depth == 3 and len(utterances) <= 10\n"
        "        seconds = np.array([[item.seconds] for item in utterances])\n"
        "        return seconds * np.ones((1, 4)), seconds"
    )
    logits, embedding = predictions(site, fold, body, tmp_path)
    wanted = np.array([item.seconds for item in fold.everything], np.float32)
    assert embedding[:, 0].tolist() == wanted.tolist()
    assert logits.shape == (len(wanted), 4)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (SAYS.format(logits=3, embedding=2), r"logits of (\d+) utterances should be \[\1, 4\], not \(\1, 3\)"),
        ("return np.zeros(4), np.zeros(4)", r"logits of \d+ utterances should be"),
        (SAYS.format(logits=4, embedding="len(utterances)"), r"embedding of \d+ utterances should be \[\d+, 10\]"),
        (SAYS.format(logits=4, embedding=2).replace("np.ones(", "np.nan * np.ones("), "values that are not finite"),
        ("return 1 / 0", r"ZeroDivisionError: division by zero, in odd_teachers\.py, line 17"),
        ("return np.zeros((len(utterances), 4))", "ValueError"),
    ],
    ids=["classes", "one row", "sizes", "no numbers", "raises", "no embedding"],
)
def test_what_is_wrong_with_a_teacher_is_reported(site, fold, monkeypatch, tmp_path, body, told):
    monkeypatch.setattr("distill.teachers.fit.BLOCK", 10)
    assert len(fold.everything) % 10  # so that the last piece is smaller
    failed = rf"^the plug-in 'odd' of odd-teachers 1\.2 failed to predict \(.*{told}.*\); repair or uninstall it$"
    with pytest.raises(EdgeemoError, match=failed):
        predictions(site, fold, body, tmp_path)


def test_what_is_no_teacher_is_told_before_anything_is_decoded(site, corpus_dir, tmp_path):
    recipe = EXAMPLE / "functionals.toml"
    command = ("distill", recipe, "--corpus", corpus_dir, "--out", tmp_path / "run", "--cache", tmp_path / "cache")
    done = edgeemo(*command, code=2)
    assert "there is no kind of teacher 'functionals': edgeemo has linguistic, prosodic, acoustic" in done.stderr
    site.install("odd", {"edgeemo.teachers": {"functionals": "odd:GREETING"}}, odd="GREETING = 'hello'")
    done = edgeemo(*command, code=1)
    assert "'functionals' of odd 1.2 should be a subclass of distill.teachers.interface.Teacher" in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_state_of_its_code_is_another_teacher(site):
    site.install_example()
    before = code_of(find_kind("functionals"))
    assert before["package"] == "edgeemo-example-plugin 1.2"
    assert before["class"] == "functionals_teacher.FunctionalsTeacher"
    with (site.folder / "functionals_teacher.py").open("a") as file:
        file.write("# changed\n")
    assert code_of(find_kind("functionals"))["code"] != before["code"]


@pytest.fixture
def few(corpus_dir, tmp_path):
    """A manifest of twelve utterances of each speaker of the session's corpus."""
    taken = {}
    for item in read_corpus(corpus_dir).utterances:
        own = taken.setdefault((item.speaker, item.emotion), [])
        own += [item] if len(own) < 3 else []
    folder = tmp_path / "few"
    folder.mkdir()
    rows = [f"{item.path},{item.speaker},{item.emotion}" for own in taken.values() for item in own]
    (folder / "metadata.csv").write_text("\n".join(["file,speaker,emotion", *rows, ""]))
    return folder


@pytest.mark.slow
def test_a_student_learns_from_the_examples_teacher(site, few, tmp_path):
    need("opensmile", "sklearn")
    site.install_example()
    small = {"d_model": 32, "layers": 1, "heads": 2, "feed_forward": 64, "mel_bins": 40}
    settings = [f"student.random.{key}={value}" for key, value in small.items()]
    settings += ["student.training.epochs=1", "threads=1", "folds.count=3"]

    def distil(out, *more):
        words = [f"--set={each}" for each in (*settings, *more)]
        place = ("--out", tmp_path / out, "--cache", tmp_path / "cache")
        return edgeemo("distill", EXAMPLE / "functionals.toml", "--corpus", few, *place, *words, code=0)

    assert "from the cache" not in distil("run").stderr
    record, report = read_run(tmp_path / "run"), read_report(tmp_path / "run")
    assert record.provenance.versions["edgeemo-example-plugin"] == "1.2"
    assert set(report.teachers) == {"functionals"}
    # Its outputs stand beside the utterances that they belong to.
    teacher = report.teachers["functionals"]
    assert teacher.history == [{"validation_ua": pytest.approx(teacher.validation.ua)}]
    assert teacher.validation.ua > 0.25
    assert (tmp_path / "run" / "predictions-functionals.csv").is_file()
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    weights = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert dict(config["branches"])["functionals"] == len(weights["functionals.2.weight"]) == 88
    # Its outputs are cached, and its embedding changes the branch.
    done = distil("unmoved", "teachers.functionals.signal.embedding_weight=0")
    assert "functionals teacher: taken from the cache" in done.stderr
    unmoved = load_file(tmp_path / "unmoved" / "student" / "model.safetensors")
    assert np.abs(unmoved["functionals.2.weight"] - weights["functionals.2.weight"]).max() > 1e-3
