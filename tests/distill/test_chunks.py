"""Encoders in chunks: a batch, each waveform alone, and one chunk after the other give the same statistics."""

import copy

import numpy as np
import pytest
import torch

from distill.corpora import read_corpus
from distill.distillation.build_student import build_student
from distill.encoders.chunks import Past, past_size, rows_of
from distill.encoders.load import load_encoder, make_encoder
from distill.encoders.pooling import pool, pool_next
from distill.recipe import RandomEncoder, Recipe
from distill.recipe import Student as StudentRecipe
from distill.speech.augmentation import Augmentation
from distill.training.frozen_statistics import Processing, frozen_statistics
from edge_runtime.engines.chunks import LEAD, REST, pieces
from edge_runtime.errors import WrongUseError
from edge_runtime.windows import WindowPolicy
from tests.small_models import save_encoder

CHUNK = 16_000
LENGTHS = (50_000, 48_000, 33_000, 16_000 + REST - 1, 5000)
FRAMES = ("all", "loud")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    settings = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    found = make_encoder("whisper", settings | {"num_mel_bins": 40, "max_source_positions": 500}).eval()
    for weight in found.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0.0, weight.shape[1] ** -0.5)
    found.in_chunks(CHUNK)
    return found


@pytest.fixture(scope="module")
def batch():
    """Return waveforms that get louder and lower."""
    longest = max(LENGTHS)
    time = torch.arange(longest) / 16_000
    torch.manual_seed(1)
    tones = [torch.sin(2 * torch.pi * (300 + 50 * row) * time * (1 - time / 10)) for row in range(len(LENGTHS))]
    pcm = (torch.stack(tones) + 0.3 * torch.randn(len(LENGTHS), longest)) * torch.linspace(0.01, 0.3, longest)
    for row, length in zip(pcm, LENGTHS, strict=True):
        row[length:] = 0
    return pcm, torch.tensor(LENGTHS)


@torch.no_grad()
def test_a_batch_is_its_waveforms_alone_and_chunk_by_chunk(encoder, batch):
    pcm, lengths = batch
    together = pool(encoder, pcm, lengths, [0, 1, 2], FRAMES, deviation=False)
    for row, length in enumerate(LENGTHS):
        alone = pool(encoder, pcm[row : row + 1, :length], None, [0, 1, 2], FRAMES, deviation=False)
        past = torch.zeros(1, past_size(2, together.shape[1]))
        for _, piece in pieces(pcm[row, :length].numpy(), CHUNK):
            means, after = pool_next(encoder, torch.from_numpy(piece)[None], Past.of(past, 2), [0, 1, 2], FRAMES)
            past = after.packed()
        torch.testing.assert_close(together[row], alone[0], atol=2e-6, rtol=0)
        torch.testing.assert_close(together[row], means[0], atol=2e-6, rtol=0)


@torch.no_grad()
def test_a_chunk_does_not_depend_on_later_ones(encoder, batch):
    pcm, lengths = batch
    changed = pcm.clone()
    changed[:, CHUNK:] *= 3
    states = [encoder(each, lengths)[0][-1][:, : CHUNK // encoder.hop_samples] for each in (pcm, changed)]
    torch.testing.assert_close(states[0], states[1], atol=0, rtol=0)


@torch.no_grad()
def test_the_level_and_the_clamp_depend_on_earlier_ones(encoder, batch):
    pcm, lengths = batch
    changed = pcm.clone()
    changed[:, : CHUNK - LEAD] *= 3
    states = [encoder(each, lengths)[0][-1][0, CHUNK // encoder.hop_samples :] for each in (pcm, changed)]
    assert not torch.allclose(*states, atol=1e-3)


@torch.no_grad()
def test_the_gain_of_the_microphone_changes_nothing(encoder, batch):
    pcm, lengths = batch
    found = [pool(encoder, pcm * gain, lengths, [2], FRAMES, deviation=False) for gain in (1.0, 0.2)]
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)


def test_rows_cover_each_waveform():
    rows, samples = rows_of(torch.ones(2, 2 * CHUNK + 100), torch.tensor([2 * CHUNK + 100, 100]), CHUNK)
    assert rows.shape == (2, 3, LEAD + CHUNK)
    assert samples.tolist() == [[CHUNK, CHUNK, 0], [100, 0, 0]]


def test_a_past_is_unpacked_as_it_was_packed():
    packed = torch.arange(4 + 2 + 6, dtype=torch.float32)[None]
    torch.testing.assert_close(Past.of(packed, 2).packed(), packed)


class TestStudent:
    def test_its_encoder_keeps_the_chunk(self, tmp_path):
        recipe = StudentRecipe(
            random=RandomEncoder(d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40),
            hidden_size=32,
            pooled_deviation=False,
            training={"epochs": 1, "learning_rate": 1e-3},
        )
        student = build_student(recipe, ("a", "b"), chunk=CHUNK)
        student.save_pretrained(tmp_path)
        assert type(student).from_pretrained(tmp_path).encoder.chunk_samples == CHUNK

    def test_other_families_and_lengths_are_refused(self, tmp_path, encoder):
        with pytest.raises(WrongUseError, match="a hubert encoder does not encode in chunks"):
            load_encoder(str(save_encoder(tmp_path / "encoder", "hubert")), None, "student").in_chunks(CHUNK)
        with pytest.raises(WrongUseError, match=r"no multiple of the encoder's frames of 0\.02 s"):
            encoder.in_chunks(CHUNK + 160)

    def test_a_recipe_with_deviations_is_refused(self):
        table = {"name": "x", "window": {"seconds": 10, "chunk_seconds": 1}}
        student = {"encoder": "x", "training": {"epochs": 1, "learning_rate": 1e-3}}
        with pytest.raises(ValueError, match=r"needs student\.pooled_deviation = false"):
            Recipe.model_validate(table | {"student": student})
        assert Recipe.model_validate(table | {"student": student | {"pooled_deviation": False}}).window.chunk == CHUNK


class TestPruning:
    def test_units_are_not_pruned(self):
        table = {
            "name": "x",
            "window": {"seconds": 10, "chunk_seconds": 1},
            "student": {"encoder": "x", "pooled_deviation": False, "frozen": "all", "lda": {}, "pooled_layers": [1]},
        }
        table["student"]["pruning"] = {"feed_forward": 8}
        with pytest.raises(ValueError, match="units of an encoder in chunks cannot be pruned"):
            Recipe.model_validate(table)

    def test_frames_are_left_out_where_chunks_have_a_whole_number_of_them(self, encoder):
        thin = copy.deepcopy(encoder)
        thin.thin(2)
        with pytest.raises(WrongUseError, match=r"no multiple of frames of 0\.12 s"):
            thin.thin(3)


@torch.no_grad()
def test_statistics_in_chunks_are_not_those_of_the_cache(tmp_path, corpus_dir):
    """The same weights, as a whole and in chunks."""
    items = read_corpus(corpus_dir).utterances[:4]
    processing = Processing(WindowPolicy(seconds=10), ("all",), False, Augmentation(), 1)
    found = []
    for chunk in (0, CHUNK):
        torch.manual_seed(0)
        recipe = StudentRecipe(
            random=RandomEncoder(d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40),
            pooled_deviation=False,
            frozen="all",
            lda={},
        )
        student = build_student(recipe, ("a", "b"), chunk=chunk).eval()
        found.append(frozen_statistics(student.encoder, [1], items, processing, tmp_path).of(items[0]))
    assert not np.allclose(*found, atol=1e-4)
