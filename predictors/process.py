"""A Gaussian process over the blocks of `Features`: one length scale a block, so a handful of networks suffices.

The mathematics are those of `gaussian_process`; here the wiring of cells, counts and scores have a say too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import FeaturePredictor, Floats
from predictors.features import GENES
from predictors.gaussian_process import _condition, _kernel, _learn, _Posterior
from predictors.threads import single_thread

MAX_ROWS = 2000
"""Learns from at most so many architectures, spread evenly over the rows: the cost grows with their cube."""


CHUNK = 2048
"""Architectures predicted at a time, so that what is calculated with stays in a core's cache."""


@dataclass(frozen=True)
class ProcessColumn:
    """One target: what was learnt, from what, and the inverse of the factor of the kernel matrix."""

    posterior: _Posterior
    known: Floats
    groups: NDArray[np.int64]
    inverse: NDArray[np.float32]
    """For standard deviations; half the digits do, in half the time."""

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        out = np.empty((2, len(x)))
        with single_thread():
            for start in range(0, len(x), CHUNK):
                rows = slice(start, start + CHUNK)
                out[:, rows] = self._guess(x[rows])
        return out[0], out[1]

    def _guess(self, x: Floats) -> tuple[Floats, Floats]:
        theta = self.posterior.theta
        signal, slope, noise = np.exp(theta[:3])
        cross = _kernel(theta, self.groups, x, self.known)
        explained = cross.astype(np.float32) @ self.inverse
        variance = signal + slope * (x * x).sum(axis=1) - np.einsum("ij,ij->i", explained, explained)
        return cross @ self.posterior.weights, np.sqrt(np.maximum(variance, 0.0) + noise)


class BlockProcess(FeaturePredictor[ProcessColumn]):
    """Matern-5/2 with one length scale a block of features, a linear part, and noise, which `std` includes."""

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> ProcessColumn:
        """See `FeaturePredictor`."""
        return fit_process(x, groups, y)


def fit_process(x: Floats, groups: NDArray[np.int64], y: Floats) -> ProcessColumn:
    """With one length scale a block. From features (n, columns), the block of each, and one target (n,)."""
    return fit_fine_process(x, np.maximum(groups, GENES), y)


def fit_fine_process(x: Floats, groups: NDArray[np.int64], y: Floats) -> ProcessColumn:
    """The same with one length scale a choice: finds out which choices matter, from more architectures."""
    from scipy.linalg import solve_triangular

    if len(x) > MAX_ROWS:
        rows = np.linspace(0, len(x) - 1, MAX_ROWS).astype(np.int64)
        x, y = x[rows], y[rows]
    _, present = np.unique(groups, return_inverse=True)
    with single_thread():
        (theta,) = _learn(x, present, y[:, None])
        posterior = _condition(theta, x, present, y)
        inverse = solve_triangular(posterior.factor, np.eye(len(x)), lower=True).T
    return ProcessColumn(posterior, x, present, inverse.astype(np.float32))
