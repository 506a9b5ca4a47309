"""The regression of dimensions: ridge in closed form, the CCC loss, targets of teachers, and the student's head."""

import numpy as np
import pytest
import torch

from distill.caching.arrays import Rows, write_array
from distill.distillation.build_student import build_student
from distill.distillation.objective import Distillation
from distill.evaluation.concordance import ccc
from distill.heads.dimensions import DimensionFit, DimensionRows, fit_ridge, moments_of
from distill.recipe import Dimensions, RandomEncoder, Schedule, TeacherSignal
from distill.recipe import Student as StudentRecipe
from distill.student import Student
from distill.training.losses import concordance_loss
from distill.training.outputs import DIMENSIONS, Supervision, TeacherOutputs


@pytest.fixture
def random():
    return np.random.default_rng(0)


def blocks(statistics, targets, weights=None, size=7):
    weights = np.ones(len(statistics)) if weights is None else weights

    def rows():
        for start in range(0, len(statistics), size):
            part = slice(start, start + size)
            yield DimensionRows(statistics[part], targets[part], weights[part])

    return rows


class TestRidge:
    def test_of_the_definition(self, random):
        statistics, targets = random.normal(0.3, 1, (60, 5)), random.uniform(size=(60, 1))
        (head,) = fit_ridge(moments_of(blocks(statistics, targets))[0], [0.5])
        centred = statistics - statistics.mean(axis=0)
        covariance = centred.T @ centred / 60
        step = np.trace(covariance) / 5
        wanted = np.linalg.solve(covariance + 0.5 * step * np.eye(5), centred.T @ targets[:, 0] / 60)
        assert head.weight[0] == pytest.approx(wanted, abs=1e-5)
        assert (statistics @ head.weight[0] + head.bias[0]).mean() == pytest.approx(targets.mean(), abs=1e-6)

    def test_missing_targets_and_weights(self, random):
        statistics, targets = random.normal(size=(40, 3)), random.uniform(size=(40, 2))
        gaps = targets.copy()
        gaps[::4, 1] = np.nan
        known = ~np.isnan(gaps[:, 1])
        (found,) = fit_ridge(moments_of(blocks(statistics, gaps))[1], [0.1])
        (wanted,) = fit_ridge(moments_of(blocks(statistics[known], targets[known]))[1], [0.1])
        assert found.weight == pytest.approx(wanted.weight, abs=1e-6)
        twice = np.where(np.arange(40) < 10, 2.0, 1.0)
        (weighted,) = fit_ridge(moments_of(blocks(statistics, targets, twice))[0], [0.1])
        longer = blocks(np.concatenate([statistics, statistics[:10]]), np.concatenate([targets, targets[:10]]))
        (repeated,) = fit_ridge(moments_of(longer)[0], [0.1])
        assert weighted.weight == pytest.approx(repeated.weight, abs=1e-5)

    def test_the_ridge_is_chosen_on_validation_and_kept(self, random):
        truth = random.normal(size=(3, 20)) * 0.2
        statistics = random.normal(size=(60, 20))
        targets = np.clip(0.5 + statistics @ truth.T * 0.3 + random.normal(0, 0.05, (60, 3)), 0, 1)
        fit = DimensionFit(("arousal", "valence", "dominance"), (0.01, 100.0))
        more = random.normal(size=(30, 20))
        heldout = more, np.clip(0.5 + more @ truth.T * 0.3, 0, 1)
        head, tried = fit(blocks(statistics, targets), heldout)
        assert len(tried) == 6
        for column, name in enumerate(("arousal", "valence", "dominance")):
            values = {row[f"ridge_{name}"]: row[f"validation_ccc_{name}"] for row in tried if f"ridge_{name}" in row}
            assert values[0.01] > values[100.0]
            predicted = np.clip(more @ head.weight[column] + head.bias[column], 0, 1)
            assert ccc(heldout[1][:, column], predicted) == pytest.approx(values[0.01])
        again, none = fit(blocks(statistics, targets), None)
        assert none == []
        assert again.weight == pytest.approx(head.weight)


class TestLoss:
    def test_is_one_minus_the_coefficient(self, random):
        predicted, targets = random.uniform(size=(12, 2)), random.uniform(size=(12, 2))
        targets[3, 1] = np.nan
        known = ~np.isnan(targets[:, 1])
        wanted = 1 - (ccc(targets[:, 0], predicted[:, 0]) + ccc(targets[known, 1], predicted[known, 1])) / 2
        found = concordance_loss(torch.from_numpy(predicted), torch.from_numpy(targets))
        assert float(found) == pytest.approx(wanted, abs=1e-5)

    def test_a_batch_without_targets_has_none(self):
        predicted = torch.rand(4, 2, requires_grad=True)
        targets = torch.full((4, 2), torch.nan)
        targets[0] = 0.5
        loss = concordance_loss(predicted, targets)
        loss.backward()
        assert float(loss) == 0
        assert torch.isfinite(predicted.grad).all()

    def test_predictions_that_do_not_vary_have_a_gradient_that_is_finite(self):
        predicted = torch.full((4, 1), 0.5, requires_grad=True)
        concordance_loss(predicted, torch.tensor([[0.5]] * 4)).backward()
        assert torch.isfinite(predicted.grad).all()


class TestTeachers:
    def outputs(self, path, rows):
        write_array(path, np.asarray(rows, np.float32))
        return TeacherOutputs(Rows(path), None, [], "b", TeacherSignal(temperature=1.0), dimensions=Rows(path))

    def test_missing_targets_are_theirs_and_others_a_mixture(self, tmp_path):
        one = self.outputs(tmp_path / "a.npy", [[0.2], [0.4], [0.6]])
        other = self.outputs(tmp_path / "b.npy", [[0.4], [0.6], [0.8]])
        mixed = Supervision({"a": one, "b": other}).dimension_targets(np.array([[1.0], [np.nan]]), 0, 0.25)
        assert mixed == pytest.approx(np.array([[0.825], [0.5]]))

    def test_unlabelled_speech_has_the_last_rows(self, tmp_path):
        one = self.outputs(tmp_path / "a.npy", [[0.2], [0.4], [0.6], [0.8]])
        mixed = Supervision({"a": one}).dimension_targets(np.array([[1.0], [np.nan], [np.nan]]), 1, 0.0)
        assert mixed == pytest.approx(np.array([[1.0], [0.4], [0.8]]))

    def test_without_such_a_teacher_they_stay_missing(self):
        targets = np.array([[1.0], [np.nan]])
        assert np.array_equal(Supervision().dimension_targets(targets, 0, 0.5), targets, equal_nan=True)


class TestStudent:
    @pytest.fixture
    def recipe(self):
        return StudentRecipe(
            random=RandomEncoder(d_model=16, layers=1, heads=2, feed_forward=16, mel_bins=20),
            branches={"prosodic": 8},
            hidden_size=8,
            dimensions=Dimensions(names=("arousal", "dominance"), weight=2.0),
            training=Schedule(epochs=1, learning_rate=1e-3),
        )

    def test_one_head_on_the_branches(self, recipe, tmp_path):
        student = build_student(recipe, ("a", "b")).eval()
        assert student.dimension_head.weight.shape == (2, 8)
        pcm = torch.randn(2, 8000) * 0.1
        found = student(pcm).dimensions
        assert found.shape == (2, 2)
        student.save_pretrained(tmp_path)
        assert torch.allclose(Student.from_pretrained(tmp_path).eval()(pcm).dimensions, found)
        plain = build_student(recipe.model_copy(update={"dimensions": None}), ("a", "b")).eval()
        assert plain(pcm).dimensions is None

    def test_its_loss_is_added_with_its_weight(self, recipe):
        student = build_student(recipe, ("a", "b"))
        model = Distillation(student, recipe, {}).train()
        labels, pcm = torch.tensor([0, 1, 0]), torch.randn(3, 8000) * 0.1
        targets = {DIMENSIONS: torch.tensor([[0.1, torch.nan], [0.5, 0.2], [0.9, 0.8]])}
        torch.manual_seed(0)
        with_targets = model(labels, pcm=pcm, targets=targets)["loss"]
        torch.manual_seed(0)
        without = model(labels, pcm=pcm)["loss"]
        torch.manual_seed(0)
        predicted = student(pcm).dimensions
        wanted = 2.0 * concordance_loss(predicted, targets[DIMENSIONS])
        assert float(with_targets - without) == pytest.approx(float(wanted), rel=1e-2)
        with_targets.backward()
        assert student.dimension_head.weight.grad.abs().sum() > 0
