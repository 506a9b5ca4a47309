"""Students trained by steps learn to use a reference, on made-up speakers whose voices differ more than emotions do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.corpus import Utterance
from distill.distillation.build_student import build_student
from distill.distillation.frozen_features import FrozenFeatures
from distill.distillation.objective import Distillation
from distill.evaluation.metrics import unweighted_accuracy
from distill.recipe import LdaHead, RandomEncoder, Schedule, Speaker
from distill.recipe import Student as StudentRecipe
from distill.training.frozen_statistics import FrozenStatistics
from distill.training.loop import Task, fit

LABELS = ("angry", "calm", "sad")
EACH = 24
WIDTH = 16
RECIPE = {
    "random": RandomEncoder(d_model=WIDTH // 2, layers=1, heads=2, feed_forward=16, mel_bins=20),
    "frozen": "all",
    "pooled_layers": (0,),
    "hidden_size": 16,
    "branches": {"linguistic": 8, "prosodic": 8},
    "training": Schedule(epochs=5, batch_size=16, learning_rate=1e-2, keep="last"),
}


@pytest.fixture(scope="module")
def speech():
    """Statistics, training utterances of 14 speakers, validation utterances of six."""
    random = np.random.default_rng(1)
    # One half tells emotions apart well, but for the voices in it; the other half badly, whoever speaks.
    first = np.arange(WIDTH) < WIDTH // 2
    emotions, rows, items = random.normal(size=(3, WIDTH)) * np.where(first, 1.0, 0.25), [], []
    for speaker in range(20):
        voice = 3.0 * random.normal(size=WIDTH) * first
        for number in range(EACH):
            rows.append(emotions[number % 3] + voice + 0.7 * random.normal(size=WIDTH))
            name = f"{speaker}-{number}.wav"
            items.append(Utterance(Path(name), name, speaker=str(speaker), emotion=LABELS[number % 3]))
    places = {item.path: ([np.array(rows, np.float32)], number) for number, item in enumerate(items)}
    return FrozenStatistics(places, np.arange(WIDTH)), items[: 14 * EACH], items[14 * EACH :]


def made(speech, **changes):
    """An untrained student, its recipe and its prepared features."""
    statistics, learnt, validation = speech
    recipe = StudentRecipe(**(RECIPE | changes))
    torch.manual_seed(0)
    student = build_student(recipe, LABELS)
    features = FrozenFeatures(LABELS, student.encoder, [statistics], recipe)
    features.prepare(student, learnt, validation)
    return student, recipe, features


def trained(speech, folder, **changes):
    """UA on validation speakers, without a reference and (if the recipe has any) with one; and the last epoch's."""
    _, learnt, validation = speech
    student, recipe, features = made(speech, **changes)
    heard = features.dataset(validation, None, None)
    task = Task("student", features.collate, recipe.training, 0, folder)
    history = fit(Distillation(student, recipe, {}), features.dataset(learnt, None, 0), heard, task)
    batch = features.collate([heard[number] for number in range(len(heard))])
    with torch.inference_mode():
        # On a machine with a GPU the training has left it there.
        logits = student.cpu().eval().decide(batch["statistics"], batch.get("reference")).logits.numpy()
    truth = np.array([LABELS.index(item.emotion) for item in validation])
    uas = [unweighted_accuracy(truth, each) for each in logits.argmax(axis=1).reshape(-1, len(validation))]
    return uas, history[-1]["validation_ua"]


def test_a_head_learns_to_use_a_reference_and_to_do_without(speech, tmp_path):
    (none, untaught), _ = trained(speech, tmp_path / "untaught", speaker=Speaker(trust=0.2, share=0.0))
    (unknown, known), told = trained(speech, tmp_path / "taught", speaker=Speaker(trust=0.2))
    assert known > unknown + 0.05
    assert known > untaught + 0.03, "it would gain without having learnt to"
    assert unknown > none - 0.05
    assert told == pytest.approx((unknown + known) / 2)


def test_so_does_one_beside_an_lda_head(speech, tmp_path):
    lda = LdaHead(shrinkage=(0.5,))
    (none, known), _ = trained(speech, tmp_path, lda=lda, speaker=Speaker(trust=0.2))
    assert known > none + 0.05


def test_each_epoch_draws_other_references(speech):
    _, learnt, _ = speech
    student, _, features = made(speech, speaker=Speaker(share=0.5, poor=0.5))

    def references(epoch, seed=0):
        items = features.dataset(learnt, None, seed)
        items.set_epoch(epoch)
        return features.collate([items[number] for number in range(len(items))])["reference"]

    first = references(0)
    assert torch.equal(first, references(0))
    assert not torch.equal(first, references(1))
    assert not torch.equal(first, references(0, seed=1))
    default = (first == student.reference).all(dim=1).float().mean()
    assert 0.4 < default < 0.75, "half of them, and those of one emotion"
