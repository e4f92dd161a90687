"""A Gaussian process over the blocks of `Features`: one length scale a block, so a handful of networks suffices.

The mathematics are those of `gaussian_process`; here the wiring of cells, counts and scores have a say too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.base import Column, FeaturePredictor, Fit, Floats
from predictors.features import GENES
from predictors.gaussian_process import _condition, _learn, _matern, _Posterior, _squared_distances
from predictors.threads import single_thread

MAX_ROWS = 2000
"""Learns from at most so many architectures, spread evenly over the rows: the cost grows with their cube."""
CELLS = 100_000
"""Covariances calculated at a time, so that they stay in a core's cache."""


@dataclass(frozen=True)
class ProcessColumn(Column):
    """One target, made ready to be asked of many architectures."""

    signal: float
    slope: float
    noise: float
    """Variances; see `gaussian_process`."""
    scales: Floats
    """Length scales, shape (columns,)."""
    known: Floats
    """What was learnt from, in length scales, shape (m, columns)."""
    weights: Floats
    """Of the covariances with the known, shape (m,)."""
    line: Floats
    """The linear part of the mean, shape (columns,)."""
    whitened: NDArray[np.float32]
    """What turns covariances with the known into the explained part of the variance, shape (m, m) ..."""
    whitened_line: NDArray[np.float32]
    """... and its linear part, shape (columns, m). Half the digits do, in half the time."""

    @classmethod
    def of(cls, posterior: _Posterior, x: Floats, groups: NDArray[np.int64]) -> Self:
        """From features (m, columns) and the block of each."""
        from scipy.linalg import solve_triangular

        signal, slope, noise = np.exp(posterior.theta[:3]).tolist()
        scales = np.exp(posterior.theta[3:])[groups]
        inverse = solve_triangular(posterior.factor, np.eye(len(x)), lower=True).T
        whitened, line = (signal * inverse).astype(np.float32), (slope * x.T @ inverse).astype(np.float32)
        weights = posterior.weights
        return cls(
            signal, slope, noise, scales, x / scales, signal * weights, slope * x.T @ weights, whitened, line
        )

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        mean, variance = np.empty((2, len(x)))
        with single_thread():
            for rows, similar in self._similar(x):
                mean[rows] = similar @ self.weights
                explained = similar.astype(np.float32) @ self.whitened
                explained += x[rows].astype(np.float32) @ self.whitened_line
                variance[rows] = np.einsum("ij,ij->i", explained, explained)
            mean += x @ self.line
        variance = self.signal + self.slope * np.einsum("ij,ij->i", x, x) - variance
        return mean, np.sqrt(np.maximum(variance, 0.0) + self.noise)

    def mean(self, x: Floats) -> Floats:
        """See `Column`."""
        with single_thread():
            return np.concatenate([s @ self.weights for _, s in self._similar(x)]) + x @ self.line

    def _similar(self, x: Floats) -> Iterator[tuple[slice, Floats]]:
        """Matern covariances (k, m) of k rows at a time with the known."""
        step = max(1, CELLS // len(self.known))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            yield rows, _matern(_squared_distances(x[rows] / self.scales, self.known))


class BlockProcess(FeaturePredictor[Column]):
    """Matern-5/2 with one length scale a block of features, a linear part, and noise, which `std` includes."""

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> Column:
        """See `FeaturePredictor`."""
        return tune_process(x, groups, y)(x, y)


def tune_process(x: Floats, groups: NDArray[np.int64], y: Floats) -> Fit:
    """Hyperparameters, with one length scale a block, as what learns with them.

    From features (n, columns), the block of each, and one target (n,).
    """
    return tune_fine_process(x, np.maximum(groups, GENES), y)


def tune_fine_process(x: Floats, groups: NDArray[np.int64], y: Floats) -> Fit:
    """The same with one length scale a choice: finds out which choices matter, from more architectures."""
    _, present = np.unique(groups, return_inverse=True)
    with single_thread():
        (theta,) = _learn(x, present, y[:, None])
    return partial(_fit, theta, present)


def _fit(theta: Floats, groups: NDArray[np.int64], x: Floats, y: Floats) -> ProcessColumn:
    if len(x) > MAX_ROWS:
        rows = np.linspace(0, len(x) - 1, MAX_ROWS).astype(np.int64)
        x, y = x[rows], y[rows]
    with single_thread():
        return ProcessColumn.of(_condition(theta, x, groups, y), x, groups)
