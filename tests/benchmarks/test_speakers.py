"""Speaker means in training, and a student with speaker normalisation."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from distill.heads.speaker_normalisation import SpeakerRow, fit_speaker_means

from benchmarks.lab.speaker_conditions import NONE, conditions
from benchmarks.lab.speakers import make_rows, measure_all
from distill.corpora import read_corpus
from distill.load_recipe import load_recipe
from distill.runs.run_directory import read_report
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import graph_name
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import WrongUseError
from tests.command import ALONE, distil
from tests.conftest import edgeemo, need, tone

CLASSES, SIZE = 3, 5
CLOSED_FORM = (
    'student={random={d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40}, frozen="all", refit=true, '
    "lda={shrinkage=[0.3, 0.9]}, speaker={trust=7.0}}"
)


class Named(NamedTuple):
    """What the fitting asks of an utterance."""

    name: str
    speaker: str
    emotion: str


def spoken(counts, seed=0):
    """Utterances that are exactly speaker + emotion; ``counts[s][c]`` of each."""
    random = np.random.default_rng(seed)
    voices = random.normal(size=(len(counts), SIZE))
    emotions = random.normal(size=(CLASSES, SIZE))
    emotions -= emotions.mean(axis=0)
    utterances = [
        SpeakerRow(voices[speaker] + emotions[emotion], f"speaker {speaker}", emotion)
        for speaker, row in enumerate(counts)
        for emotion, count in enumerate(row)
        for _ in range(count)
    ]
    return utterances, voices


@pytest.mark.parametrize("counts", [[[2, 2, 2], [2, 2, 2]], [[9, 1, 1], [1, 2, 5], [4, 4, 1]]])
def test_uneven_emotions_are_not_the_voice(counts):
    utterances, voices = spoken(counts)
    usual = fit_speaker_means(utterances, CLASSES)
    found = np.stack([usual[f"speaker {number}"] for number in range(len(counts))])
    assert found == pytest.approx(voices, abs=0.02)


def test_speakers_and_classes_that_lack_some():
    utterances, voices = spoken([[5, 5, 5], [5, 5, 5], [6, 0, 0]])
    usual = fit_speaker_means(utterances, CLASSES)
    assert usual["speaker 2"] == pytest.approx(voices[2], abs=0.05)
    alone = np.mean([item.statistics for item in utterances if item.speaker == "speaker 2"], axis=0)
    assert np.abs(alone - voices[2]).max() > 0.2
    utterances, _ = spoken([[5, 5, 0], [5, 1, 0]])
    three, two = fit_speaker_means(utterances, 3), fit_speaker_means(utterances, 2)
    assert three["speaker 1"] == pytest.approx(two["speaker 1"])
    assert fit_speaker_means([], CLASSES) == {}


@pytest.mark.parametrize("setting", ["student.lda=0", "student.speaker.trust=0", "student.speaker.trust=1e9"])
def test_recipes_that_make_no_sense_are_refused(setting):
    with pytest.raises(WrongUseError):
        load_recipe("edge", settings=(setting,))


@pytest.fixture(scope="module")
def run(corpus_dir, recipe_file, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("speakers") / "run"
    distil(recipe_file, corpus_dir, out, cache, *ALONE, "--set", CLOSED_FORM)
    return out


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    need("onnx", "onnxscript")
    out = tmp_path_factory.mktemp("speakers") / "bundle"
    edgeemo("export", run, "--out", out, code=0)
    return out


def test_the_student_is_chosen_with_and_without_a_reference(run):
    need("torch", "transformers")
    from distill.student import Student

    assert Student.from_pretrained(run / "student").config.speaker_trust == 7.0
    first, chosen = (
        each["validation_ua"] + each["validation_ua_reference"] for each in read_report(run).student.history
    )
    assert first <= chosen


def test_the_bundle_says_how_far_a_speaker_is_trusted(exported, bundle_dir):
    bundle = load_bundle(exported)
    assert bundle.manifest.speaker is not None
    assert bundle.manifest.speaker.trust == 7.0
    report = json.loads((exported / "report.json").read_text())
    assert report["referenced"].keys() == {"fp32"}
    assert report["referenced"]["fp32"]["ua"] != report["accuracy"]["fp32"]["ua"]
    assert "unlabelled utterances of the tested speaker" in (exported / "README.md").read_text()
    assert load_bundle(bundle_dir).manifest.speaker is None


def test_references_are_measured_on_held_out_speakers(run, exported, corpus_dir):
    found = measure_all([exported], read_corpus(corpus_dir), "fp32", repeats=1)
    rows = make_rows(found, {"corpus": "rendered", "precision": "fp32"})
    assert [row.system for row in rows] == [kind.name for kind in conditions(2)]
    plain = found[NONE, 0].runs[0]
    assert plain.accuracy.ua == pytest.approx(rows[0].ua, abs=1e-5)
    assert plain.accuracy.ua == pytest.approx(read_report(run).student.test.ua, abs=0.02)
    changed = [name for name, kind in found.items() if not np.allclose(kind.runs[0].probabilities, plain.probabilities)]
    assert ("random", 20) in changed
    assert ("in turn", 0) in changed


@pytest.mark.parametrize("precision", ["fp32", "int8-cpu"])
def test_the_head_alone_decides_as_the_whole_graph(bundle_dir, precision):
    from export.accuracy_gate.caching_engine import CachingEngine

    bundle = load_bundle(bundle_dir)
    whole = OnnxEngine.of(bundle, precision)
    head = CachingEngine(whole, bundle.root / graph_name(precision), bundle.reference())
    for seconds in (2.0, 0.7):
        pcm = tone(seconds)
        for reference in (None, bundle.reference() + 0.1):
            expected = whole.score(pcm, reference)
            for _ in range(2):  # computed, then cached
                found = head.score(pcm, reference)
                np.testing.assert_allclose(found.logits, expected.logits, atol=1e-6)
                np.testing.assert_array_equal(found.statistics, expected.statistics)


def test_a_bundle_that_takes_no_references_is_refused(bundle_dir, corpus_dir):
    with pytest.raises(WrongUseError, match="no speaker normalisation"):
        measure_all([bundle_dir], read_corpus(corpus_dir), "fp32", repeats=1)


@pytest.mark.slow
def test_the_gate_judges_int8_with_references_too(run, tmp_path):
    """All graphs are measured; the gate applies to those in the bundle."""
    need("onnx", "onnxscript")
    how = ("--int8", "--calibration=minmax", "--prune=0.015", "--allow-drop", "--precisions=int8-cpu")
    edgeemo("export", run, *how, "--out", tmp_path / "bundle", code=0)
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["referenced"].keys() == {"unpruned", "fp32", "int8-cpu", "int8-trt"}
    assert report["gate"]["drops"].keys() == report["gate"]["reference_drops"].keys() == {"int8-cpu"}
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.precisions == ("int8-cpu",)
    assert bundle.manifest.metrics.keys() == {"fp32", "int8-cpu", "int8-trt"}
    assert "| fp32 |" in (tmp_path / "bundle" / "README.md").read_text()
    assert report["gate"]["reference_utterances"] == 20


@pytest.mark.parametrize(("share", "centred"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_utterances_count_with_and_without_their_voice(share, centred):
    from distill.distillation.standardised import Standardised

    class Statistics:
        copies = 1
        home = (np.zeros(SIZE), np.ones(SIZE))

        def of(self, item, copy=0):
            return spoken_[items.index(item)].statistics

        def is_own(self, item):
            return True

    spoken_, voices = spoken([[2, 2, 2], [2, 2, 2]])
    items = [Named(f"{number}", each.speaker, "abc"[each.emotion]) for number, each in enumerate(spoken_)]
    means = fit_speaker_means(spoken_, CLASSES)
    how = {"auxiliary_weight": 0.2, "language_balance": 0.0, "speaker_means": means, "share": share}
    blocks = list(Standardised(Statistics(), ("a", "b", "c")).by_emotion(items, **how))
    weights = np.concatenate([block.weights for block in blocks])
    rows = np.concatenate([block.statistics for block in blocks])
    assert weights.sum() == pytest.approx(len(items))
    # What of the speakers' difference is left in the mean: all of it where nobody's voice is taken off.
    first = np.concatenate([[item.speaker == "speaker 0" for item in items]] * len(blocks))
    left = np.average(rows[first], 0, weights[first]) - np.average(rows[~first], 0, weights[~first])
    assert left == pytest.approx((1 - centred) * (voices[0] - voices[1]), abs=0.01)
