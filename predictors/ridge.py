"""Ridge regression on the features and, where that helps, on products of two of them.

The products are never written down: (a . b)^2 is the scalar product of all of them. How strongly weights are held
back, and whether products are used, is what has the least leave-one-out error, which follows from one
decomposition (Golub, Heath, Wahba, "Generalized cross-validation", 1979, and the PRESS statistic of Allen, 1974).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import Column, FeaturePredictor, Floats
from predictors.features import COSTS, SCORES
from predictors.threads import single_thread

PENALTIES = np.logspace(-4, 2, 19)
PRODUCTS = (0.0, 0.3)
"""Weight of products beside the features themselves."""
MAX_ROWS = 2000
"""Learns from at most so many architectures, spread evenly over the rows: the decomposition costs n^3."""


@dataclass(frozen=True)
class RidgeColumn(Column):
    """Weights of the features, and of the known architectures where products are used."""

    columns: NDArray[np.int64]
    offset: float
    weights: Floats
    known: Floats
    dual: Floats
    error: float
    """Root mean square of leave-one-out errors."""

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        x = x[:, self.columns]
        with single_thread():
            mean = x @ self.weights + self.offset
            if len(self.dual):
                mean += ((x @ self.known.T) ** 2) @ self.dual
        return mean, np.full(len(x), self.error)


class Ridge(FeaturePredictor[RidgeColumn]):
    """Linear in the features, or quadratic; `std` is the same everywhere, the leave-one-out error."""

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> RidgeColumn:
        """See `FeaturePredictor`."""
        return fit_quadratic(x, groups, y)


def fit_quadratic(x: Floats, groups: NDArray[np.int64], y: Floats) -> RidgeColumn:
    """Of all features, with products of two of them where these help."""
    return fit_ridge(x, np.arange(x.shape[1]), y, PRODUCTS)


def fit_line(x: Floats, groups: NDArray[np.int64], y: Floats) -> RidgeColumn:
    """Linear in costs and scores alone: little to learn, so few architectures suffice."""
    return fit_ridge(x, np.flatnonzero(np.isin(groups, (COSTS, SCORES))), y, (0.0,))


def fit_ridge(x: Floats, columns: NDArray[np.int64], y: Floats, products: tuple[float, ...]) -> RidgeColumn:
    """The best of all penalties and weights of products."""
    if len(x) > MAX_ROWS:
        rows = np.linspace(0, len(x) - 1, MAX_ROWS).astype(np.int64)
        x, y = x[rows], y[rows]
    x = x[:, columns]
    with single_thread():
        tried = [(*_leave_one_out(*_spectrum(x, p), y), p) for p in products]
    error, dual, product = min(tried, key=lambda t: t[0])
    quadratic = product * dual if product else np.zeros(0)
    return RidgeColumn(columns, float(dual.sum()), x.T @ dual, x if product else x[:0], quadratic, error)


def _spectrum(x: Floats, product: float) -> tuple[Floats, Floats]:
    """Eigenvalues (k,) and eigenvectors (n, k) of the kernel of features (n, columns); the other values are 0."""
    if not product and x.shape[1] < len(x):
        vectors, roots, _ = np.linalg.svd(np.column_stack([np.ones(len(x)), x]), full_matrices=False)
        return roots**2, vectors
    linear = x @ x.T
    values, vectors = np.linalg.eigh(1 + linear + product * linear**2)  # 1: the offset
    return np.maximum(values, 0.0), vectors


def _leave_one_out(values: Floats, vectors: Floats, y: Floats) -> tuple[float, Floats]:
    """The least root mean square error over all penalties, and the dual weights with that penalty."""
    inner, squares = vectors.T @ y, vectors**2
    found: list[tuple[float, Floats]] = []
    for penalty in PENALTIES * float(values.sum() / len(y)):
        lacking = 1 / penalty - 1 / (values + penalty)  # against directions of eigenvalue 0
        dual = y / penalty - vectors @ (lacking * inner)
        errors = dual / (1 / penalty - squares @ lacking)
        found.append((float(np.sqrt((errors**2).mean())), dual))
    return min(found, key=lambda t: t[0])
