"""The speaker model, fitted to made-up speakers whose true model is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from distill.heads.speaker_model import SOFTNESS, SpeakerRows, fit_speaker_model, prior_head
from edge_runtime.bundles.speaker_model import Posterior, SpeakerModel
from edge_runtime.decision import softmax
from edge_runtime.errors import EdgeemoError

SIZE, CLASSES = 4, 3
LITTLE = 1e-6
"""A shrinkage that changes nothing."""


class Truth(NamedTuple):
    """Class means ``[C, D]``, covariance ``[D, D]`` of offsets, variances of own class means and of utterances."""

    means: np.ndarray
    between: np.ndarray
    own: float
    within: float

    @classmethod
    def drawn(cls, seed: int = 0, *, size: int = SIZE, own: float = 0.1, within: float = 0.3) -> Truth:
        random = np.random.default_rng(seed)
        means = random.normal(size=(CLASSES, size))
        axes = random.normal(size=(size, size))
        return cls(means - means.mean(axis=0), axes @ axes.T / size + 0.2 * np.eye(size), own, within)

    def model(self) -> SpeakerModel:
        scale, size = np.sqrt(self.within), len(self.between)
        return SpeakerModel(
            projection=np.eye(size) / scale,
            origin=np.zeros(size),
            class_means=self.means / scale,
            between=self.between / self.within,
            interaction=np.full((CLASSES, size), self.own / self.within),
            softness=SOFTNESS,
        )

    def speaker(self, random: np.random.Generator) -> np.ndarray:
        """Return the class means ``[C, D]`` of a new speaker."""
        size = len(self.between)
        offset = random.multivariate_normal(np.zeros(size), self.between)
        return self.means + offset + np.sqrt(self.own) * random.normal(size=(CLASSES, size))

    def spoken(self, speaker: np.ndarray, classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return speaker[classes] + np.sqrt(self.within) * random.normal(size=(len(classes), len(self.between)))


def block(statistics, classes, speakers, corpora=None, weights=None):
    count = len(classes)
    return SpeakerRows(
        np.asarray(statistics),
        np.asarray(classes),
        list(speakers),
        ["one"] * count if corpora is None else list(corpora),
        np.ones(count) if weights is None else np.asarray(weights),
    )


def speech(truth: Truth, counts, seed=1, corpus="one"):
    """``counts[s][c]`` utterances of each speaker and class."""
    random = np.random.default_rng(seed)
    rows, classes, speakers = [], [], []
    for number, each in enumerate(counts):
        spoken = np.repeat(np.arange(CLASSES), each)
        rows.append(truth.spoken(truth.speaker(random), spoken, random))
        classes.append(spoken)
        speakers += [f"{corpus} {number}"] * len(spoken)
    return block(np.concatenate(rows), np.concatenate(classes), speakers, [corpus] * len(speakers))


def joined(*blocks: SpeakerRows) -> SpeakerRows:
    return SpeakerRows(
        np.concatenate([each.statistics for each in blocks]),
        np.concatenate([each.classes for each in blocks]),
        [name for each in blocks for name in each.speakers],
        [name for each in blocks for name in each.corpora],
        np.concatenate([each.weights for each in blocks]),
    )


def fitted(*blocks: SpeakerRows, shrinkage: float = LITTLE) -> SpeakerModel:
    (model,) = fit_speaker_model(lambda: iter(blocks), CLASSES, (shrinkage,))
    return model


def posterior(model: SpeakerModel, stage: str, unlabelled, labelled, classes) -> Posterior:
    if stage == "unknown":
        return model.prior()
    if stage == "unlabelled":
        return model.adapted(model.reduced(unlabelled))
    return model.adapted(model.reduced(unlabelled)[:0], model.reduced(labelled), classes)


def errors(truth: Truth, model: SpeakerModel, stage: str, people: int = 100) -> tuple[float, float]:
    """Mean difference of the probabilities to those of the true model, and how much worse their log is."""
    random, true = np.random.default_rng(99), truth.model()
    apart, loss = [], []
    classes = np.repeat(np.arange(CLASSES), 3)
    for _ in range(people):
        speaker = truth.speaker(random)
        unlabelled, labelled, tested = (
            truth.spoken(speaker, which, random) for which in (np.tile(classes, 2), classes, classes)
        )
        ours, theirs = (
            softmax(posterior(each, stage, unlabelled, labelled, classes).logits(each.reduced(tested)), 1.0)
            for each in (model, true)
        )
        apart.append(np.abs(ours - theirs).mean())
        places = np.arange(len(classes)), classes
        loss.append((np.log(theirs[places]) - np.log(ours[places])).mean())
    return float(np.mean(apart)), float(np.mean(loss))


STAGES = ("unknown", "unlabelled", "labelled")


@pytest.fixture(scope="module")
def truth():
    return Truth.drawn()


@pytest.fixture(scope="module")
def balanced(truth):
    return fitted(speech(truth, [[20, 20, 20]] * 300))


@pytest.mark.parametrize("stage", STAGES)
def test_it_decides_as_the_true_model_at_every_stage(truth, balanced, stage):
    apart, loss = errors(truth, balanced, stage)
    assert apart < 0.025
    assert -0.03 < loss < 0.025
    # Neither an unknown speaker's nor another world's posterior would do.
    other = Truth.drawn(5)
    assert errors(truth, fitted(speech(other, [[20, 20, 20]] * 300)), stage)[0] > 0.1


def test_its_variances_are_those_of_the_true_model(truth, balanced):
    scale = np.linalg.inv(balanced.projection.T.astype(float))
    assert scale.T @ balanced.between @ scale == pytest.approx(truth.between, abs=0.3)
    # The covariance within a class of a speaker is about the offset and the common class mean: it includes `own`.
    assert balanced.interaction == pytest.approx(truth.own / (truth.within + truth.own), rel=0.2)
    means = balanced.class_means @ scale
    assert means - means.mean(axis=0) == pytest.approx(truth.means, abs=0.1)


def test_few_corpora_say_little_about_the_next_one(truth):
    rows = speech(truth, [[20, 20, 20]] * 60)
    three = [f"corpus {int(name.split()[-1]) % 3}" for name in rows.speakers]
    one, several = (fitted(rows._replace(corpora=names)) for names in (rows.corpora, three))
    # (1 + 1/n) / (1 - 1/n): of 60 speakers 61/59, of three corpora 2.
    assert np.trace(several.between) == pytest.approx(2 / (61 / 59) * np.trace(one.between), rel=0.02)


def test_uneven_classes_of_speakers_are_no_offsets(truth):
    random = np.random.default_rng(2)
    counts = random.integers(2, 40, size=(300, CLASSES))
    counts[::7, 0] = 0
    counts[::5, 1] = 1
    model = fitted(speech(truth, counts))
    for stage in STAGES:
        assert errors(truth, model, stage)[0] < 0.05


def test_a_speaker_of_one_emotion_moves_no_class(truth):
    """His offset is what his utterances are apart from the mean of their class, which others give."""
    people = [[20, 20, 20]] * 60
    alone = speech(truth, [[40, 0, 0]], seed=3, corpus="one")
    alone = alone._replace(statistics=alone.statistics + 2.0, speakers=["alone"] * 40)
    rest = speech(truth, people)
    with_him, without = fitted(rest, alone), fitted(rest)
    assert np.isfinite(with_him.class_means).all()
    assert errors(truth, with_him, "unknown")[0] < errors(truth, without, "unknown")[0] + 0.02


def test_speakers_of_one_emotion_each_are_refused(truth):
    """Their offsets and the means of their classes cannot be told apart."""
    rows = speech(truth, np.eye(CLASSES, dtype=int)[np.arange(9) % CLASSES] * 30)
    with pytest.raises(EdgeemoError, match="each speaker of the training part shows a single emotion"):
        fitted(rows)


def test_corpora_weigh_alike_however_many_utterances_they_have(truth):
    other = Truth.drawn(7)
    one, two = speech(truth, [[20, 20, 20]] * 30, corpus="one"), speech(other, [[4, 4, 4]] * 30, corpus="two")
    again = two._replace(speakers=[f"{name} again" for name in two.speakers])
    means = self_means(fitted(one, two)), self_means(fitted(one, two, again))
    assert means[0] == pytest.approx(means[1], abs=1e-3)
    light = fitted(one, two._replace(weights=np.full(len(two.classes), 1e-6)))
    assert self_means(light) == pytest.approx(self_means(fitted(one)), abs=1e-2)
    assert np.abs(self_means(fitted(one, two)) - self_means(fitted(one))).max() > 0.1


def self_means(model: SpeakerModel) -> np.ndarray:
    """Return the differences of class means in statistics, where the projection is square."""
    scale = np.linalg.inv(model.projection.T.astype(float))
    means = model.class_means @ scale
    return np.asarray(means - means.mean(axis=0))


@pytest.mark.parametrize("shrinkage", [LITTLE, 0.3, 0.9])
def test_the_linear_head_is_the_prior(truth, shrinkage):
    rows = speech(truth, [[5, 9, 7]] * 40)
    model = fitted(rows, shrinkage=shrinkage)
    weight, bias = prior_head(model)
    assert (weight.shape, bias.shape) == ((CLASSES, SIZE), (CLASSES,))
    linear = rows.statistics @ weight.T + bias
    full = model.prior().logits(model.reduced(rows.statistics))
    centred = [each - each.mean(axis=1, keepdims=True) for each in (linear, full)]
    assert centred[0] == pytest.approx(centred[1], abs=1e-4)
    assert model.prior().known == pytest.approx(0.0, abs=1e-9)


def test_each_shrinkage_is_fitted_as_it_would_be_alone(truth):
    rows = speech(truth, [[6, 6, 6]] * 20)
    shrinkages = (0.2, 0.6, 0.95)
    together = list(fit_speaker_model(lambda: iter([rows]), CLASSES, shrinkages))
    for model, shrinkage in zip(together, shrinkages, strict=True):
        assert_same(model, fitted(rows, shrinkage=shrinkage))
    assert (
        np.abs(together[0].prior().logits(together[0].reduced(rows.statistics)) - logits(together[2], rows)).max() > 1
    )


def logits(model: SpeakerModel, rows: SpeakerRows) -> np.ndarray:
    return model.prior().logits(model.reduced(rows.statistics))


def assert_same(one: SpeakerModel, other: SpeakerModel) -> None:
    """Directions may differ in sign; what depends on none may not."""
    assert one.projection.T @ one.projection == pytest.approx(other.projection.T @ other.projection, rel=1e-3, abs=1e-4)
    assert np.sort(one.interaction) == pytest.approx(np.sort(other.interaction), rel=1e-3)
    assert np.trace(one.between) == pytest.approx(np.trace(other.between), rel=1e-4)


@pytest.mark.parametrize("size", [1, 7, 256])
def test_blocks_of_any_size_give_the_same(truth, size):
    light = speech(truth, [[4, 1, 6]] * 9, seed=4, corpus="two")._replace(weights=np.full(99, 0.2))
    rows = joined(speech(truth, [[3, 8, 5]] * 12), light)
    order = np.random.default_rng(0).permutation(len(rows.classes))

    def blocks():
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield SpeakerRows(
                rows.statistics[chosen],
                rows.classes[chosen],
                [rows.speakers[each] for each in chosen],
                [rows.corpora[each] for each in chosen],
                rows.weights[chosen],
            )

    (model,) = fit_speaker_model(blocks, CLASSES, (0.3,))
    whole = fitted(rows, shrinkage=0.3)
    assert_same(model, whole)
    found, wanted = (softmax(logits(each, rows), 1.0) for each in (model, whole))
    assert found == pytest.approx(wanted, abs=1e-3)


def test_more_statistics_than_utterances():
    size = 200
    truth = Truth.drawn(size=size, own=0.02, within=1.0)
    model = fitted(speech(truth, [[4, 4, 4]] * 6), shrinkage=0.5)
    assert model.projection.shape[1] == size
    assert len(model.between) < 12
    assert np.linalg.eigvalsh(model.between).min() > 0
    assert (model.interaction > 0).all()
    random = np.random.default_rng(8)
    classes = np.repeat(np.arange(CLASSES), 10)
    right = {"unknown": [], "labelled": []}
    for _ in range(20):
        speaker = truth.speaker(random)
        clips, tested = (truth.spoken(speaker, classes, random) for _ in range(2))
        for stage, found in right.items():
            known = posterior(model, stage, clips, clips, classes)
            found.append((known.logits(model.reduced(tested)).argmax(axis=1) == classes).mean())
    assert np.mean(right["unknown"]) > 0.8
    assert np.mean(right["labelled"]) >= np.mean(right["unknown"])
