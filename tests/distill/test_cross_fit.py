"""Cross-fitted teachers: none labels speech of a speaker that it was fitted to."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from distill.caching.arrays import Rows, write_array
from distill.corpus import Utterance
from distill.folds import Fold
from distill.load_recipe import load_recipe
from distill.teachers.cross_fit import combine, cut_speakers, without_part
from edge_runtime.errors import EdgeemoError, WrongUseError


def utterances(speakers):
    """Return one utterance of each emotion of some speakers."""
    names = [(speaker, emotion) for speaker in speakers for emotion in TestParts.labels]
    return tuple(Utterance(Path(f"{s}-{e}.wav"), f"{s}-{e}.wav", s, e) for s, e in names)


@pytest.fixture
def fold():
    return Fold(utterances("abcd"), utterances("e"), utterances("f"), unlabelled=utterances(["x/1", "x/2"]))


def everything(fold):
    return (*fold.everything, *fold.unlabelled)


class TestParts:
    labels = ("angry", "calm", "happy", "sad")

    def test_every_speaker_is_left_out_once(self, fold):
        parts = cut_speakers(fold, 4, self.labels, "x")
        assert sorted(parts.values()) == [0, 1, 2, 3]
        for part in range(4):
            left = without_part(fold, parts, part)
            assert {item.speaker for item in fold.train} - {item.speaker for item in left.train} == {
                speaker for speaker, place in parts.items() if place == part
            }
            assert (left.validation, left.test) == (fold.validation, fold.test)

    def test_too_few_speakers(self, fold):
        with pytest.raises(EdgeemoError, match=r"teachers\.x\.cross_fit: 5 parts cannot be cut of 4 training speakers"):
            cut_speakers(fold, 5, self.labels, "x")

    def test_a_class_of_one_speaker(self, fold):
        one = fold.train[0].speaker
        train = tuple(item for item in fold.train if item.emotion != "calm" or item.speaker == one)
        with pytest.raises(EdgeemoError, match="no 'calm' is left"):
            cut_speakers(dataclasses.replace(fold, train=train), 2, self.labels, "x")

    def test_one_part_is_no_cross_fitting(self):
        with pytest.raises(WrongUseError, match="cross_fit"):
            load_recipe("demo", settings=("teachers.prosodic.cross_fit=1",))


class TestCombine:
    @pytest.fixture
    def folders(self, fold, tmp_path):
        """Two teachers: the embedding of the second has other axes and another origin."""
        random = np.random.default_rng(0)
        count = len(everything(fold))
        embedding = random.normal(0, 1, (count, 3)).astype(np.float32)
        rotation = np.linalg.qr(random.normal(0, 1, (3, 3)))[0]
        for part, rows in enumerate((embedding, embedding @ rotation + 5.0)):
            folder = tmp_path / f"{part}"
            folder.mkdir()
            write_array(folder / "logits.npy", np.full((count, 2), float(part), np.float32))
            write_array(folder / "embedding.npy", rows.astype(np.float32))
            (folder / "history.json").write_text(json.dumps([{"epoch": 1, "loss": part}]))
        return embedding, [tmp_path / "0", tmp_path / "1"]

    def test_own_outputs_for_training_speakers_and_the_mean_for_others(self, fold, folders, tmp_path):
        embedding, places = folders
        parts = cut_speakers(fold, 2, TestParts.labels, "x")
        (tmp_path / "out").mkdir()
        combine(places, everything(fold), parts, fold, tmp_path / "out")
        logits = Rows(tmp_path / "out" / "logits.npy").block(0)
        wanted = [parts.get(item.speaker, 0.5) for item in everything(fold)]
        assert logits[:, 0].tolist() == wanted
        assert {0.0, 0.5, 1.0} == set(wanted)
        # The axes are those of the first teacher.
        assert np.allclose(Rows(tmp_path / "out" / "embedding.npy").block(0), embedding, atol=1e-3)
        history = json.loads((tmp_path / "out" / "history.json").read_text())
        assert history == [{"part": 0, "epoch": 1, "loss": 0}, {"part": 1, "epoch": 1, "loss": 1}]
