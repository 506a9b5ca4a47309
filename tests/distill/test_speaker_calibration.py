"""What is chosen on left-out speech: shrinkage, temperature, threshold, and which speech that is."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.corpus import CORPUS, Utterance
from distill.distillation.build_student import build_student
from distill.distillation.frozen_features import FrozenFeatures
from distill.distillation.standardised import Standardised
from distill.heads.speaker_calibration import (
    CORRECT_FLAGGED,
    ERRORS_FLAGGED,
    LeftOut,
    calibrate,
    uncertainty_threshold,
)
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from tests.distill.test_speaker_model import CLASSES, Truth, joined, speech

LABELS = ("angry", "calm", "sad")
SHRINKAGES = (1e-4, 0.9)
PEOPLE, EACH = 40, 6
TESTED = 5 * CLASSES * EACH
"""Utterances of a left-out corpus: of five speakers."""
SIZE = 8
"""Statistics of the smallest encoder."""


def corpora(truths, **kind):
    return {
        name: speech(truth, [[EACH] * CLASSES] * PEOPLE, seed=number, corpus=name, **kind)
        for number, (name, truth) in enumerate(truths.items())
    }


def utterances(rows):
    return [
        Utterance(
            Path(f"{speaker} {number}.wav"), f"{speaker} {number}", speaker, LABELS[label], extra={CORPUS: corpus}
        )
        for number, (speaker, label, corpus) in enumerate(zip(rows.speakers, rows.classes, rows.corpora, strict=True))
    ]


def left_out(every, mistaken=0.0):
    """Each corpus in turn; of its labels a share is wrong."""
    groups = []
    random = np.random.default_rng(4)
    for name, own in every.items():
        rest = joined(*(rows for other, rows in every.items() if other != name))
        other = random.integers(0, CLASSES, TESTED)
        classes = np.where(random.random(TESTED) < mistaken, other, own.classes[:TESTED])
        rows = partial(lambda rest: iter([rest]), rest)
        groups.append(LeftOut(rows, own.statistics[:TESTED], classes, utterances(own)[:TESTED]))
    return groups


@pytest.fixture(scope="module")
def three():
    """Corpora of one world."""
    truth = Truth.drawn()
    return corpora(dict.fromkeys(("one", "two", "three"), truth))


@pytest.fixture(scope="module")
def calibrated(three):
    return calibrate(left_out(three), CLASSES, SHRINKAGES)


def test_of_speech_that_follows_the_model_nothing_needs_correction(calibrated):
    assert calibrated.shrinkage == SHRINKAGES[0]
    # Below 1: classes are taken to be less certain than they are here, and what is known of a speaker to be less.
    assert 0.25 < calibrated.temperature < 0.75
    assert [each["shrinkage"] for each in calibrated.tried] == [SHRINKAGES[1], SHRINKAGES[0]]
    chosen = calibrated.tried[-1]
    assert chosen["temperature"] == calibrated.temperature
    assert chosen["validation_ua_adapted"] > chosen["validation_ua"] + 0.05
    assert 1 / CLASSES < calibrated.threshold < 1.0


def test_wrong_labels_raise_the_temperature(three, calibrated):
    found = calibrate(left_out(three, mistaken=0.4), CLASSES, SHRINKAGES[:1])
    assert found.temperature > 1.5 * calibrated.temperature


def test_a_fit_without_a_corpus_needs_a_higher_temperature_than_the_shipped_one(three, calibrated):
    """That of three groups in one, which are speakers then, is the one that fits."""
    groups = left_out(three)
    alone = [calibrate([each], CLASSES, SHRINKAGES[:1]).temperature for each in groups]
    assert calibrated.temperature == pytest.approx(np.mean(alone) * 2 / 3, rel=0.1)


def test_groups_count_alike(three):
    """A group of half the utterances counts no less than a whole one."""
    one, two = left_out(dict(list(three.items())[:2]))
    half = slice(0, len(two.classes) // 2)
    smaller = two._replace(statistics=two.statistics[half], classes=two.classes[half], utterances=two.utterances[half])
    noisy = one._replace(classes=np.roll(one.classes, EACH))
    sure, unsure = (calibrate([each], CLASSES, SHRINKAGES[:1]).temperature for each in (smaller, noisy))
    both = [calibrate([noisy, each], CLASSES, SHRINKAGES[:1]).temperature for each in (two, smaller)]
    assert sure < min(both)
    assert max(both) < unsure
    assert both[0] == pytest.approx(both[1], rel=0.3)


def confident(right, wrong):
    """Decisions of these confidences, the right ones first."""
    confidence = np.concatenate([right, wrong])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    return probabilities, np.concatenate([np.zeros(len(right), int), np.ones(len(wrong), int)])


def flagged(probabilities, truth, threshold):
    below, right = probabilities.max(axis=1) < threshold, probabilities.argmax(axis=1) == truth
    return below[~right].mean(), below[right].mean()


def test_the_threshold_flags_most_errors():
    given = confident(np.linspace(0.6, 1.0, 500), np.linspace(0.5, 0.7, 101))
    threshold = uncertainty_threshold(*given)
    errors, correct = flagged(*given, threshold)
    assert errors == pytest.approx(ERRORS_FLAGGED, abs=0.01)
    assert threshold == pytest.approx(0.66)
    assert correct < CORRECT_FLAGGED


def test_the_threshold_flags_few_correct_decisions():
    """Where errors are as confident as the rest, not all can be flagged."""
    given = confident(np.linspace(0.5, 1.0, 501), np.linspace(0.5, 1.0, 101))
    errors, correct = flagged(*given, uncertainty_threshold(*given))
    assert correct == pytest.approx(CORRECT_FLAGGED, abs=0.01)
    assert errors < ERRORS_FLAGGED


@pytest.mark.parametrize("given", [(np.linspace(0.6, 1.0, 11), []), ([], np.linspace(0.6, 1.0, 11))])
def test_the_threshold_where_all_are_right_or_wrong(given):
    assert uncertainty_threshold(*confident(*map(np.asarray, given))) == pytest.approx(0.76)


class Statistics:
    """Statistics of made-up utterances, in one copy."""

    copies = 1

    def __init__(self, rows, auxiliary=()):
        self._rows = {
            item.path: row for each in rows for item, row in zip(utterances(each), each.statistics, strict=True)
        }
        self._auxiliary = auxiliary
        every = np.concatenate([each.statistics for each in rows])
        self.home = every.mean(axis=0), every.std(axis=0)

    def of(self, item, copy=0):
        return self._rows[item.path]

    def is_own(self, item):
        return item.extra[CORPUS] not in self._auxiliary


RECIPE = StudentRecipe.model_validate(
    {
        "random": {"d_model": SIZE, "layers": 1, "heads": 2, "feed_forward": 8, "mel_bins": 8},
        "frozen": "all",
        "pooled_deviation": False,
        "lda": {"shrinkage": SHRINKAGES, "auxiliary_weight": 0.2},
        "speaker": {"voices": False},
    }
)


@pytest.fixture(scope="module")
def few():
    """Three corpora of four speakers."""
    truth = Truth.drawn(size=SIZE)
    return {
        name: speech(truth, [[4] * CLASSES] * 4, seed=number, corpus=name)
        for number, name in enumerate(("one", "two", "three"))
    }


def features_of(rows, auxiliary=()):
    features = FrozenFeatures(LABELS, None, [], RECIPE)
    features._statistics = Statistics(rows, auxiliary)
    return features


def test_each_of_three_corpora_is_left_out(few):
    every = {name: utterances(rows) for name, rows in few.items()}
    # By folds of speakers each corpus is in both parts; by folds of corpora in one.
    train = [*every["one"], *every["two"][:36]]
    validation = [*every["two"][36:], *every["three"]]
    groups = features_of(few.values())._left_out(train, validation)
    assert [{item.extra[CORPUS] for item in left} for _, left in groups] == [{"one"}, {"three"}, {"two"}]
    for fitted, left in groups:
        assert len(fitted) + len(left) == len(train) + len(validation)
        assert not {item.speaker for item in fitted} & {item.speaker for item in left}


@pytest.mark.parametrize("auxiliary", [(), ("three",)])
def test_of_fewer_validation_speakers_are(few, auxiliary):
    """Auxiliary corpora are fitted to only."""
    every = {name: utterances(rows) for name, rows in few.items()}
    train, validation = [*every["one"], *every["two"][:36]], every["two"][36:]
    if auxiliary:
        train += every["three"]
    assert features_of(few.values(), auxiliary)._left_out(train, validation) == [(train, validation)]


@pytest.fixture
def student():
    return build_student(RECIPE, LABELS)


def test_a_student_gets_the_model_that_was_calibrated(few, student):
    features = features_of(few.values())
    standardised = Standardised(features._statistics, LABELS)
    student.standardise(*(torch.from_numpy(each).float() for each in features._statistics.home))
    every = [item for rows in few.values() for item in utterances(rows)]
    train, validation = every[::2], every[1::2]
    tried = features._set_lda_head(student, standardised, train, validation)
    chosen = features.calibration
    assert tried == chosen.tried
    assert {each["shrinkage"] for each in tried} == set(SHRINKAGES)
    assert tried[-1]["shrinkage"] == chosen.shrinkage
    model = student.speaker_model()
    assert model.softness == student.config.speaker_softness
    statistics = np.stack([features._statistics.of(item) for item in every])
    with torch.inference_mode():
        linear = student.eval().decide(torch.from_numpy(statistics).float()).logits.numpy()
    full = model.prior().logits(model.reduced(statistics))
    assert linear - linear[:, :1] == pytest.approx(full - full[:, :1], abs=1e-2)
    # Refitted on all, with the same choices.
    again = build_student(RECIPE, LABELS)
    again.standardise(*(torch.from_numpy(each).float() for each in features._statistics.home))
    assert features._set_lda_head(again, standardised, every, None) == []
    assert features.calibration is chosen
    assert not torch.equal(again.lda_head.weight, student.lda_head.weight)


def test_a_speaker_model_is_saved_and_loaded(few, student, tmp_path):
    assert student.speaker_model() is None
    student.save_pretrained(tmp_path / "without")
    assert Student.from_pretrained(tmp_path / "without").speaker_model() is None
    features = features_of(few.values())
    every = [item for rows in few.values() for item in utterances(rows)]
    features._set_lda_head(student, Standardised(features._statistics, LABELS), every[::2], every[1::2])
    student.save_pretrained(tmp_path / "with")
    loaded = Student.from_pretrained(tmp_path / "with").speaker_model()
    wanted = student.speaker_model()
    for name in (each.name for each in dataclasses.fields(wanted) if each.init):
        assert np.array_equal(getattr(loaded, name), getattr(wanted, name)), name


TRAINING = {"epochs": 1, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    "change",
    [
        {"lda": None, "training": TRAINING},
        {"frozen": "none", "lda": None, "training": TRAINING},
        {"training": TRAINING},
    ],
)
def test_a_speaker_model_needs_the_lda_head_of_a_frozen_encoder(change):
    with pytest.raises(ValueError, match="'speaker' is for a frozen encoder"):
        StudentRecipe.model_validate(RECIPE.model_dump() | change)


def test_the_balance_of_languages_has_no_effect_on_a_speaker_model():
    with pytest.raises(ValueError, match="'language_balance' has no effect with 'speaker'"):
        StudentRecipe.model_validate(RECIPE.model_dump() | {"language_balance": 1.0})
