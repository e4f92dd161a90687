"""All predictors keep the contract; the Gaussian process agrees with scikit-learn's; importing them is light."""

from __future__ import annotations

import subprocess
import sys
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from predictor_contract import BENCH, DIGITS, PredictorContract, made_up, same
from scipy.optimize import check_grad
from scipy.stats import kendalltau
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from predictors import (
    BlockProcess,
    GaussianProcess,
    GradientBoosting,
    MlpEnsemble,
    Predictor,
    RandomForest,
    Ridge,
    auto,
)
from predictors.features import column_choices, cost_features, gene_features
from predictors.gaussian_process import JITTER, _condition, _negative_log_likelihood, _predict
from predictors.threads import LARGE
from search_spaces import load_space
from search_spaces.operators import sample
from search_spaces.space import Space


class TestGaussianProcess(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return GaussianProcess(space)


class TestGradientBoosting(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return GradientBoosting(space, members=3)


class TestRidge(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return Ridge(space)


class TestBlockProcess(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return BlockProcess(space)


class TestRandomForest(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return RandomForest(space)


class TestMlpEnsemble(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return MlpEnsemble(space, unlabelled=0)


class TestAuto(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return auto(space)


def test_the_posterior_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, new, y = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)), rng.normal(size=30)
    scales = np.array([0.5, 0.5, 2.0, 2.0])
    theta = np.log([1.7, 0.2, 0.05, 0.5, 2.0])
    groups = np.array([0, 0, 1, 1])
    mean, std = _predict(_condition(theta, x, groups, y), x, new, groups)
    kernel = (
        ConstantKernel(1.7) * Matern(scales, nu=2.5)
        + ConstantKernel(0.2) * DotProduct(sigma_0=1e-6)
        + WhiteKernel(0.05)
    )
    oracle = GaussianProcessRegressor(kernel, alpha=JITTER, optimizer=None).fit(x, y)
    expected, spread = oracle.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-8)
    np.testing.assert_allclose(std, spread, rtol=1e-6)
    distances = np.stack([_pairs(x[:, groups == g]).ravel() for g in range(2)])
    value, _ = _negative_log_likelihood(theta, distances, x @ x.T, y)
    assert value == pytest.approx(-oracle.log_marginal_likelihood_value_)


def test_the_gradient_of_the_likelihood_is_right() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(15, 3)), rng.normal(size=15)
    distances = np.stack([_pairs(x[:, [g]]).ravel() for g in range(3)])
    for seed in range(3):
        theta = np.random.default_rng(seed).normal(scale=0.5, size=6)
        off = check_grad(
            lambda t: _negative_log_likelihood(t, distances, x @ x.T, y)[0],
            lambda t: _negative_log_likelihood(t, distances, x @ x.T, y)[1],
            theta,
        )
        assert off < 1e-4


def test_a_gaussian_process_is_surer_of_what_it_has_seen() -> None:
    known, new = DIGITS.sample(60, 0), DIGITS.sample(60, 1)
    model = GaussianProcess(DIGITS).fit(known, made_up(DIGITS, known))
    assert (model.predict(known).std.mean(axis=0) < model.predict(new).std.mean(axis=0)).all()


def test_hyperparameters_can_be_lent() -> None:
    archs = DIGITS.sample(60, 0)
    genes, targets = DIGITS.genes(archs), made_up(DIGITS, archs)
    lender = GaussianProcess(DIGITS).fit_genes(genes[:50], targets[:50])
    borrower = GaussianProcess(DIGITS).fit_genes(genes, targets, lender)
    before, after = lender.predict_genes(genes[50:]), borrower.predict_genes(genes[50:])
    truth = targets[50:]
    assert np.abs(after.mean - truth).mean() < np.abs(before.mean - truth).mean()
    assert (after.std < before.std).mean() > 0.9


@pytest.mark.parametrize("kind", [auto, BlockProcess, Ridge])
def test_means_alone_are_those_of_the_prediction_in_populations_of_any_size(kind: type) -> None:
    archs = BENCH.sample(40, 0)
    model = kind(BENCH).fit(archs, np.column_stack([made_up(BENCH, archs), np.full(40, 3.0)]))
    many = sample(BENCH, LARGE + 1, np.random.default_rng(0))
    few = model.predict_genes(many[-50:])
    for found in (model.mean_genes(many), model.predict_genes(many).mean):
        np.testing.assert_allclose(found[-50:], few.mean, rtol=1e-9)
    np.testing.assert_allclose(model.mean_genes(many[-50:]), few.mean, rtol=1e-9)
    assert model.mean_genes(many[:0]).shape == (0, 3)


def test_an_ensemble_is_pretrained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies share it, and what was learnt before does not matter."""
    monkeypatch.setattr("predictors.mlp.PRETRAINING_STEPS", 20)
    known, new = DIGITS.sample(30, 0), DIGITS.sample(20, 1)
    fresh = MlpEnsemble(DIGITS, unlabelled=300, members=2).fit(known, made_up(DIGITS, known))
    other = MlpEnsemble(DIGITS, unlabelled=300, members=2)
    copied = copy(other)
    other.fit(new, np.arange(20.0))
    copied.fit(known, made_up(DIGITS, known))
    assert copied._pretrained is other._pretrained
    assert len(other._pretrained) == 1
    same(copied.predict(new), fresh.predict(new))


def test_features_have_one_choice_a_column() -> None:
    for name in ("digits-tiny", "nas-bench-201"):
        space = load_space(name)
        genes = space.genes(space.sample(50, 0))
        features, owner = gene_features(space, genes), column_choices(space)
        assert features.shape == (50, len(owner))
        assert set(owner.tolist()) == set(range(len(space.choices)))
        for i, choice in enumerate(space.choices):
            changed = genes.copy()
            changed[:, i] = (changed[:, i] + 1) % len(choice.values)
            moved = (gene_features(space, changed) != features).any(axis=0)
            dependent = [
                j for j, c in enumerate(space.choices) if choice.name in {w.name for w in _roots(space, c)}
            ]
            assert set(owner[moved].tolist()) <= {i, *dependent}
            gaps = features[:, owner == i][:, None] - features[:, owner == i][None]
            assert (gaps**2).sum(axis=2).max() <= 2 + 1e-9
        assert cost_features(space, genes).shape == (50, 3)


def test_importing_predictors_is_light() -> None:
    code = (
        "import sys, predictors; "
        "print([m for m in ('sklearn', 'lightgbm', 'scipy', 'torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("kind", "bar"), [(GaussianProcess, 0.62), (GradientBoosting, 0.58)])
def test_accuracies_of_nas_bench_201_are_ranked(shared_data: Path, kind: type, bar: float) -> None:
    """Kendall's tau from 100 architectures: ridge regression on one-hot genes reaches .58 on all."""
    space = load_space("nas-bench-201")
    table = pd.read_parquet(shared_data / "nasbench201_cifar10.parquet")
    table = table[table["index"] == table["representative"]]
    columns = [f"op_{c.name[-3]}{c.name[-1]}" for c in space.choices]
    genes = np.stack(
        [table[c].map(space.choices[i].values.index).to_numpy() for i, c in enumerate(columns)], axis=1
    )
    accuracy = table["cifar10_valid_acc"].to_numpy()
    found = []
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(genes))
        known, new = order[:100], order[100:1100]
        model = kind(space).fit_genes(genes[known], np.log(101 - accuracy[known]))
        found.append(-kendalltau(model.predict_genes(genes[new]).mean[:, 0], accuracy[new]).statistic)
    assert np.mean(found) > bar


def _pairs(x: np.ndarray) -> np.ndarray:
    return ((x[:, None] - x[None]) ** 2).sum(axis=2)


def _roots(space: Space, choice: object) -> list:
    """All conditions of a choice, inherited ones too."""
    by_name = {c.name: c for c in space.choices}
    out = list(choice.when)  # type: ignore[attr-defined]
    for condition in list(out):
        out += _roots(space, by_name[condition.name])
    return out
