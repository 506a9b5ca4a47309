"""A student with a speaker-embedding projection and a speaker model: fitted, kept, and written to a bundle's files."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from distill.distillation.build_student import build_student
from distill.distillation.frozen_features import FrozenFeatures
from distill.distillation.standardised import Standardised
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from edge_runtime.bundles.manifest import SPEAKER_MODEL, SPEAKER_PROJECTION
from edge_runtime.bundles.speaker_model import SpeakerModel, read_model
from edge_runtime.bundles.speaker_projection import SpeakerProjection, cosine, read_directions
from export.bundle.manifest import speaker_entry, write_speaker_files

LABELS = ("a", "b", "c")
RECIPE = StudentRecipe.model_validate(
    {
        "random": {"d_model": 8, "layers": 1, "heads": 2, "feed_forward": 16, "mel_bins": 8},
        "frozen": "all",
        "lda": {},
        "speaker": {},
    }
)
SIZE = 16


class Item(NamedTuple):
    """What the fitting asks of an utterance."""

    number: int
    speaker: str
    emotion: str


class Statistics:
    """Of people whose voices differ along all axes, and whose emotions differ along one."""

    copies = 2
    home = (np.full(SIZE, 0.5), np.full(SIZE, 2.0))

    def of(self, item, copy=0):
        random = np.random.default_rng([item.number, copy])
        voice = np.random.default_rng([99, int(item.speaker)]).normal(size=SIZE)
        emotion = 5.0 * LABELS.index(item.emotion) * np.eye(SIZE)[0]
        return voice + emotion + 0.2 * random.normal(size=SIZE)


def people(*names):
    return [Item(1000 * int(name) + number, name, LABELS[number % 3]) for name in names for number in range(20)]


@pytest.fixture
def student():
    return build_student(RECIPE, LABELS)


@pytest.fixture
def fit():
    features = FrozenFeatures(LABELS, None, [], RECIPE)
    standardised = Standardised(Statistics(), LABELS)
    return lambda student, train, validation: features._set_speaker_embedding(student, standardised, train, validation)


def space_of(student):
    mean, deviation = Statistics.home
    student.standardise(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())
    return SpeakerProjection(
        student.centred_speaker_projection().numpy(), mean, student.config.speaker_change_threshold
    )


def test_people_whom_it_has_not_heard_are_told_apart(student, fit):
    fit(student, people(*"123456789"), people("10", "11"))
    space, statistics = space_of(student), Statistics()
    places = {name: [space.embed(statistics.of(item)) for item in people(name)] for name in ("12", "13")}
    own, other = (cosine(np.mean(places["12"][:3], axis=0), np.mean(places[name][3:], axis=0)) for name in places)
    assert own > space.threshold > other
    # Of those who judge it, and of no others, also where they are learnt from at last.
    again = build_student(RECIPE, LABELS)
    fit(again, people("1", "2", "3", "4", "10", "11"), None)
    assert again.config.speaker_change_threshold == student.config.speaker_change_threshold
    assert again.config.speaker_embedding_size == 5


@pytest.mark.parametrize(("learnt", "judges"), [(("1", "2"), ("10", "11")), (("1", "2", "3"), ("10",))])
def test_too_few_people_are_no_map(student, fit, capsys, learnt, judges):
    fit(student, people(*learnt), people(*judges))
    fit(student, people(*learnt, *judges), None)
    assert student.config.speaker_embedding_size == 0
    assert student.centred_speaker_projection() is None
    assert "".join(capsys.readouterr()).count("too few speakers") == 1


def speaker_model() -> SpeakerModel:
    random = np.random.default_rng(5)
    return SpeakerModel(
        projection=random.normal(size=(2, SIZE)).astype(np.float32),
        origin=np.zeros(SIZE),
        class_means=random.normal(size=(3, 2)),
        between=np.array([[2.0, 0.5], [0.5, 1.0]]),
        interaction=np.repeat([[0.2, 0.3]], 3, axis=0),
        softness=16.0,
    )


def test_they_are_saved_and_loaded_and_written_to_a_bundle(student, tmp_path):
    student.save_pretrained(tmp_path / "plain")
    plain = Student.from_pretrained(tmp_path / "plain")
    write_speaker_files(plain, tmp_path)
    assert plain.config.speaker_embedding_size == 0
    assert speaker_entry(plain) is None
    assert not (tmp_path / SPEAKER_PROJECTION).exists()
    assert not (tmp_path / SPEAKER_MODEL).exists()
    space_of_size = torch.randn(3, SIZE)
    student.standardise(torch.full((SIZE,), 0.5), torch.full((SIZE,), 2.0))
    student.set_speaker_model(speaker_model())
    student.save_pretrained(tmp_path / "without-embedding")
    assert speaker_entry(Student.from_pretrained(tmp_path / "without-embedding")).projection is None
    student.set_speaker_projection(space_of_size, 0.25)
    student.save_pretrained(tmp_path / "student")
    loaded = Student.from_pretrained(tmp_path / "student")
    assert torch.equal(loaded.speaker_projection, space_of_size)
    write_speaker_files(loaded, tmp_path)
    entry = speaker_entry(loaded)
    assert (entry.directions, entry.softness) == (2, 16.0)
    assert (entry.projection.directions, entry.projection.threshold) == (3, 0.25)
    read = read_directions((tmp_path / SPEAKER_PROJECTION).read_bytes(), 3, "here")
    assert read == pytest.approx(space_of_size.numpy() / 2.0)
    origin = np.full(SIZE, 0.5)
    model = read_model((tmp_path / SPEAKER_MODEL).read_bytes(), origin, 3, entry.softness, "here")
    statistics = np.random.default_rng(6).normal(size=(4, SIZE))
    standardised = (statistics - 0.5) / 2.0
    wanted = speaker_model().prior().logits(speaker_model().reduced(standardised))
    assert model.prior().logits(model.reduced(statistics)) == pytest.approx(wanted, abs=1e-4)
