"""The bundle that is installed with the runtime: its manifest and card, that it is the default, and its decisions."""

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.clips import score_clips
from edge_runtime.engines.engine import OnnxEngine
from tests.conftest import SHARED, absent, edgeemo

LANGUAGES = {"de": "emodb_whole", "en": "ravdess", "it": "emovo", "ko": "korean_emotiontts"}


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="module")
def card():
    return (DEFAULT_BUNDLE / "README.md").read_text(encoding="utf-8")


class TestManifestAndCard:
    def test_it_is_small_and_holds_int8_alone(self, bundle):
        assert bundle.precisions == ("int8-cpu",)
        assert bundle.graph("int8-cpu").stat().st_size <= 15.5e6
        assert sum(path.stat().st_size for path in DEFAULT_BUNDLE.iterdir()) <= 16e6
        names = {path.name for path in DEFAULT_BUNDLE.iterdir()}
        assert names == {"bundle.json", *(entry.name for entry in bundle.manifest.files)}

    def test_its_figures_are_of_folds_and_passed_the_gate(self, bundle):
        manifest = bundle.manifest
        assert manifest.recipe["student"]["train_on_all"]
        assert manifest.recipe["folds"]["by"] == "corpus"
        assert manifest.gate["failed"] == []
        assert not manifest.gate["overridden"]
        for drops in (manifest.gate["drops"], manifest.gate["reference_drops"]):
            assert drops["int8-cpu"]["high"] <= manifest.gate["max_drop"]

    def test_the_card_begins_with_corpora_that_were_left_out(self, card):
        first = card.partition("## ")[2].partition("\n")[0]
        assert first == "Accuracy on corpora that were left out of training"

    def test_the_card_names_its_teachers(self, bundle, card):
        distilled = (bundle.manifest.recipe["student"]["pruning"] or {}).get("distillation")
        assert ("Teachers: none." in card) == (not bundle.manifest.teachers and not distilled)

    def test_leaks_into_it_can_be_found(self, bundle):
        assert "training-speech.u32" in {entry.name for entry in bundle.manifest.files}

    def test_nothing_of_the_corpus_for_evaluation_is_in_it(self, bundle):
        assert "am" not in {corpus.language for corpus in bundle.manifest.corpora}

    def test_the_card_has_corpora_licences_and_figures(self, bundle, card):
        assert set(bundle.manifest.languages) == set(LANGUAGES)
        assert {corpus.language for corpus in bundle.manifest.corpora} == set(LANGUAGES)
        for corpus in bundle.manifest.corpora:
            assert corpus.licence != "unknown"
            assert corpus.folds is None
            assert f"| {corpus.name} | {corpus.language} | recorded | {corpus.licence} |" in card
        for language, graphs in bundle.manifest.languages.items():
            found = graphs["int8-cpu"]
            assert found.ua_low < found.ua < found.ua_high
            assert f"| {language} | {found.speakers} |" in card
            assert f"{found.ua:.3f} ({found.ua_low:.3f} to {found.ua_high:.3f})" in card


class TestItRuns:
    def test_listen_without_a_bundle(self, clip):
        done = edgeemo("listen", "--source", clip, "--json")
        assert done.returncode == 0, done.stderr
        final = [event for event in map(json.loads, done.stdout.splitlines()) if event["type"] == "final"]
        assert final
        assert {event["label"] for event in final} <= {"angry", "happy", "neutral", "sad"}
        assert {event["model"] for event in final} == {load_bundle(DEFAULT_BUNDLE).hash[:12]}
        assert "the default bundle: angry, happy, neutral, sad; trained on acted speech (de, en, it, ko)" in done.stderr

    def test_it_keeps_a_profile(self, clip, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        done = edgeemo("listen", "--source", clip, "--json", "--profile", "anna")
        assert done.returncode == 0, done.stderr
        assert edgeemo("profile", "rm", "anna").returncode == 0


@pytest.mark.parametrize(("language", "folder"), LANGUAGES.items())
def test_decisions_on_speech_that_it_was_trained_on(language, folder):
    """Not its accuracy, since it was trained on these: that export, quantisation and labels fit together."""
    from distill.corpora.read import read_corpus

    place: Path = SHARED / "data" / folder
    if not place.is_dir():
        absent(f"the corpus {folder}")
    loaded = load_bundle(DEFAULT_BUNDLE)
    entry = next(corpus for corpus in loaded.manifest.corpora if corpus.language == language)
    corpus = read_corpus(place).labelled(entry.labels)
    items = corpus.utterances[:: max(1, len(corpus.utterances) // 40)]
    engine = OnnxEngine.of(loaded, "int8-cpu")
    labels = loaded.manifest.labels
    scores = score_clips(engine.outputs, [item.path for item in items], loaded.manifest.window)
    decided = scores.probabilities(loaded.manifest.temperature).argmax(axis=1)
    right = np.mean([labels[found] == item.emotion for found, item in zip(decided, items, strict=True)])
    assert right > 0.8
