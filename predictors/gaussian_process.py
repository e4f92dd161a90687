"""A Gaussian process over genes, how they are wired, free costs, and zero-cost scores where there are some.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: algorithm 2.1 for the posterior,
section 5.4 for the gradient of the likelihood. One length scale a choice or block; a prior on it (as Hvarfner,
Hellsten, Nardi, "Vanilla Bayesian optimization performs great in high dimensions", ICML 2024) keeps the
scales alike until data tells them apart, so the process can be fitted to a handful of trials and to spaces
of many choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.contract import Prediction
from predictors.features import Scores, column_choices, cost_features, gene_features, score_columns, targets_2d
from predictors.threads import single_thread
from search_spaces import Architecture
from search_spaces.architecture import Genes
from search_spaces.encodings import counts
from search_spaces.space import Space

Floats = NDArray[np.float64]

MAX_TUNED = 200
"""Hyperparameters are learnt from at most so many architectures: every step costs n^3."""
MAX_DISTANCES = 8_000_000
"""... and fewer where there are many choices: n^2 x choices numbers are held."""
MAX_STEPS = 50
JITTER = 1e-6

# Hyperparameters are logarithms: signal, linear part, noise (variances of scaled targets), length scales.
_PRIOR_MEAN = np.log([1.0, 0.3, 0.03, 1.5])
_PRIOR_STD = np.array([1.0, 1.5, 1.5, 0.5])
_BOUNDS = np.log([[0.02, 50.0], [1e-4, 10.0], [1e-4, 1.0], [0.05, 50.0]])


@dataclass(frozen=True)
class _Posterior:
    """One target: hyperparameters, the Cholesky factor of its kernel matrix, and the weights of the mean."""

    theta: Floats
    factor: Floats
    weights: Floats


@dataclass(frozen=True)
class _Scale:
    """Columns centred, and scaled as one: those that vary most where it was learnt keep the most weight."""

    centre: Floats
    factor: float

    @classmethod
    def of(cls, columns: Floats) -> Self:
        """From columns (n, k); their distances from the centre have the mean square 1/2."""
        spread = float(np.sqrt(2 * columns.var(axis=0).sum()))
        return cls(columns.mean(axis=0), 1 / spread if spread > 0 else 0.0)

    def __call__(self, columns: Floats) -> Floats:
        """Columns (n, k), scaled."""
        return (columns - self.centre) * self.factor


class GaussianProcess:
    """Matern-5/2 with one length scale a choice, plus a linear part, plus noise; each target on its own.

    `std` is that of a measurement, noise included. Where all targets are equal it is 0.
    """

    def __init__(self, space: Space, scores: Scores | None = None) -> None:
        """`scores`: zero-cost scores of canonical genes, where there are some; see `features.Scores`."""
        self._space, self._scores = space, scores
        self._scored: Callable[[Genes], Floats] | None = None
        self._groups = column_choices(space)
        self._scales: list[_Scale] = []
        self._posteriors: list[_Posterior] = []

    def fit(self, archs: Sequence[Architecture], targets: Floats) -> Self:
        """Learn from n architectures and targets of shape (n, t) or (n,).

        Raises:
            ValueError: for targets that are not finite or of another shape.
        """
        return self.fit_genes(self._space.canonical_genes(self._space.genes(archs)), targets)

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation, each of shape (n, t).

        Raises:
            RuntimeError: before `fit`.
        """
        return self.predict_genes(self._space.canonical_genes(self._space.genes(archs)))

    def fit_genes(self, genes: Genes, targets: Floats, like: Self | None = None) -> Self:
        """As `fit`, from canonical genes (n, d); with the hyperparameters of `like`, or learnt anew."""
        y = targets_2d(targets, len(genes))
        self._centre, self._spread = y.mean(axis=0), y.std(axis=0)
        scaled = (y - self._centre) / np.where(self._spread > 0, self._spread, 1.0)
        if like:
            self._scored, self._scales, self._groups = like._scored, like._scales, like._groups
        else:
            self._scored = score_columns(self._scores, genes) if self._scores else None
            blocks = self._blocks(genes)
            self._scales, self._groups = [_Scale.of(b) for b in blocks], self._numbered(blocks)
        self._x = self._features(genes)
        with single_thread():
            thetas = [p.theta for p in like._posteriors] if like else _learn(self._x, self._groups, scaled)
            self._posteriors = [
                _condition(theta, self._x, self._groups, column)
                for theta, column in zip(thetas, scaled.T, strict=True)
            ]
        return self

    def noisier(self, factor: float) -> GaussianProcess:
        """The same, fitted to the same architectures, with `factor` times the variance of the noise."""
        other = copy(self)
        with single_thread():
            other._posteriors = [_with_noise(p, factor, self._x, self._groups) for p in self._posteriors]
        return other

    def predict_genes(self, genes: Genes) -> Prediction:
        """As `predict`, from canonical genes of shape (n, d)."""
        if not self._posteriors:
            raise RuntimeError("the Gaussian process was not fitted; call fit first")
        if not len(genes):
            return Prediction(*np.zeros((2, 0, len(self._posteriors))))
        x = self._features(genes)
        with single_thread():
            found = [_predict(p, self._x, x, self._groups) for p in self._posteriors]
        mean = np.stack([m for m, _ in found], axis=1)
        std = np.stack([s for _, s in found], axis=1)
        return Prediction(mean * self._spread + self._centre, std * self._spread)

    def _features(self, genes: Genes) -> Floats:
        """Genes and blocks, scaled so that distances do not grow with the number of choices or columns."""
        choices = max(1, len(self._space.choices))
        blocks = [scale(b) for scale, b in zip(self._scales, self._blocks(genes), strict=True)]
        return np.concatenate([gene_features(self._space, genes) / np.sqrt(choices / 2), *blocks], axis=1)

    def _blocks(self, genes: Genes) -> list[Floats]:
        """What genes say only together: how they are wired, how often each value is taken, what it costs."""
        space = self._space
        blocks = [space.structure(genes), counts(space, genes), cost_features(space, genes)]
        return [*blocks, self._scored(genes)] if self._scored else blocks

    def _numbered(self, blocks: Sequence[Floats]) -> NDArray[np.int64]:
        """The length scale of every column: one a choice, then one a block that has columns."""
        widths = [block.shape[1] for block in blocks if block.shape[1]]
        numbers = len(self._space.choices) + np.arange(len(widths))
        return np.concatenate([column_choices(self._space), np.repeat(numbers, widths)]).astype(np.int64)


def _squared_distances(a: Floats, b: Floats) -> Floats:
    """Between all rows, shape (n, m)."""
    squares: Floats = a @ (-2 * b.T)
    squares += (a * a).sum(axis=1)[:, None]
    squares += (b * b).sum(axis=1)
    return np.maximum(squares, 0.0, out=squares)


def _matern(squared: Floats) -> Floats:
    """Matern-5/2 of squared distances, written over them: to allocate takes longer than to calculate."""
    squared *= 5
    r = np.sqrt(squared)
    squared /= 3
    squared += r
    squared += 1
    squared *= np.exp(np.negative(r, out=r), out=r)
    return squared


def _matern_and_change(squared: Floats) -> tuple[Floats, Floats]:
    """Matern-5/2 of squared distances, and minus twice its derivative with respect to them."""
    r = np.sqrt(5 * squared)
    decay = np.exp(-r)
    return (1 + r + 5 / 3 * squared) * decay, 5 / 3 * (1 + r) * decay


def _learn(x: Floats, groups: NDArray[np.int64], y: Floats) -> list[Floats]:
    """The most probable hyperparameters of every target, from an even choice of the rows."""
    count = int(groups.max(initial=-1)) + 1
    limit = min(MAX_TUNED, max(10, int((MAX_DISTANCES / max(1, count)) ** 0.5)))
    rows = np.unique(np.linspace(0, len(x) - 1, min(limit, len(x))).astype(np.int64))
    x, y = x[rows], y[rows]
    distances = np.zeros((count, len(x) ** 2))
    for g in range(count):
        part = x[:, groups == g]
        distances[g] = _squared_distances(part, part).ravel()
        distances[g, :: len(x) + 1] = 0.0
    linear = x @ x.T
    repeats = np.array([1, 1, 1, count])
    mean, std = np.repeat(_PRIOR_MEAN, repeats), np.repeat(_PRIOR_STD, repeats)
    bounds = np.repeat(_BOUNDS, repeats, axis=0)
    return [_most_probable(distances, linear, column, mean, std, bounds) for column in y.T]


def _most_probable(
    distances: Floats, linear: Floats, y: Floats, mean: Floats, std: Floats, bounds: Floats
) -> Floats:
    from scipy.optimize import minimize

    def objective(theta: Floats) -> tuple[float, Floats]:
        value, gradient = _negative_log_likelihood(theta, distances, linear, y)
        off = (theta - mean) / std
        return value + 0.5 * float(off @ off), gradient + off / std

    options = {"maxiter": MAX_STEPS}
    found = minimize(objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x, dtype=np.float64)


def _negative_log_likelihood(theta: Floats, distances: Floats, linear: Floats, y: Floats) -> tuple[float, Floats]:
    """Of targets (n,) given log hyperparameters; and its gradient."""
    from scipy.linalg import cho_solve, cholesky

    n = len(y)
    signal, slope, noise = np.exp(theta[:3])
    inverse = np.exp(-2 * theta[3:])
    similar, change = _matern_and_change((inverse @ distances).reshape(n, n))
    factor = cholesky(signal * similar + slope * linear + (noise + JITTER) * np.eye(n), lower=True)
    weights = cho_solve((factor, True), y)
    value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * n * np.log(2 * np.pi)
    half = 0.5 * (cho_solve((factor, True), np.eye(n)) - np.outer(weights, weights))
    scales = signal * (distances @ (half * change).ravel()) * inverse
    first = [signal * (half * similar).sum(), slope * (half * linear).sum(), noise * np.trace(half)]
    return float(value), np.concatenate([first, scales])


def _kernel(theta: Floats, groups: NDArray[np.int64], a: Floats, b: Floats) -> Floats:
    """Covariance of the function between rows, shape (n, m)."""
    scales = np.exp(theta[3:])[groups]
    signal, slope = np.exp(theta[:2])
    out = _matern(_squared_distances(a / scales, b / scales))
    out *= signal
    out += slope * (a @ b.T)
    return out


def _condition(theta: Floats, x: Floats, groups: NDArray[np.int64], y: Floats) -> _Posterior:
    from scipy.linalg import cho_solve, cholesky

    noise = np.exp(theta[2])
    factor = cholesky(_kernel(theta, groups, x, x) + (noise + JITTER) * np.eye(len(x)), lower=True)
    return _Posterior(theta, factor, cho_solve((factor, True), y))


def _with_noise(posterior: _Posterior, factor: float, x: Floats, groups: NDArray[np.int64]) -> _Posterior:
    known = posterior.factor @ (posterior.factor.T @ posterior.weights)  # the targets
    theta = posterior.theta.copy()
    theta[2] += np.log(factor)
    return _condition(theta, x, groups, known)


def _predict(posterior: _Posterior, known: Floats, x: Floats, groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of standardised measurements, each of shape (n,)."""
    from scipy.linalg import solve_triangular

    theta = posterior.theta
    signal, slope, noise = np.exp(theta[:3])
    cross = _kernel(theta, groups, x, known)
    explained = solve_triangular(posterior.factor, cross.T, lower=True)
    prior = signal + slope * (x * x).sum(axis=1)
    variance = prior - (explained * explained).sum(axis=0)
    return cross @ posterior.weights, np.sqrt(np.maximum(variance, 0.0) + noise)
