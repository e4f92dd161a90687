"""Latency from measurements of whole networks: a table of operators, learnt, beside regression on genes.

A network's latency is the sum of its operators' latencies where these run one after another. What is measured is
the sum; what each kind of operator takes of it follows by regression with rates that are not negative (Lawson and
Hanson, "Solving least squares problems", 1974) on the columns of `search_spaces.workload`. What the sum misses
(caches, fusion, operators side by side) the models of `auto` learn from genes and the same columns. Which of them
to believe is found on networks held out, as in `auto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from predictors.auto import Auto, untuned
from predictors.base import Column, Floats, Line, Warp
from predictors.features import MORE, Features
from predictors.gradient_boosting import fit_trees
from predictors.process import tune_fine_process, tune_process
from predictors.ridge import fit_ridge
from predictors.threads import single_thread
from search_spaces.architecture import Genes
from search_spaces.declared import DeclaredSpace
from search_spaces.workload import workload

PENALTIES = np.logspace(-7, 0, 15)
"""Of rates, as shares of the columns' variance."""


@dataclass(frozen=True)
class OperatorTable(Column):
    """What a unit of every column of work takes, and what a network takes besides."""

    columns: NDArray[np.int64]
    offset: float
    rates: Floats
    """Not negative."""
    error: float
    """Root mean square of leave-one-out errors."""

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        return x[:, self.columns] @ self.rates + self.offset, np.full(len(x), self.error)


def fit_table(x: Floats, groups: NDArray[np.int64], y: Floats) -> OperatorTable:
    """Rates of the columns of work; how strongly they are held back is what has the least leave-one-out error."""
    columns = np.flatnonzero(groups == MORE)
    with single_thread():
        tried = [_table(x[:, columns], y, penalty) for penalty in PENALTIES]
    rates, error = min(tried, key=lambda t: t[1])
    return OperatorTable(columns, float(y.mean() - x[:, columns].mean(axis=0) @ rates), rates, error)


def _table(x: Floats, y: Floats, penalty: float) -> tuple[Floats, float]:
    """Rates with a penalty, and their leave-one-out error if the same ones stay positive."""
    from scipy.optimize import nnls

    n = len(y)
    x, y = x - x.mean(axis=0), y - y.mean()
    held = np.sqrt(penalty * n)
    rates = np.zeros(x.shape[1])
    if len(rates):
        rates, _ = nnls(np.concatenate([x, held * np.eye(len(rates))]), np.concatenate([y, np.zeros(len(rates))]))
    used = x[:, rates > 0]
    inverse = np.linalg.inv(used.T @ used + held**2 * np.eye(used.shape[1]))
    leverage = 1 / n + np.einsum("ij,jk,ik->i", used, inverse, used)
    errors = (y - x @ rates) / np.maximum(1 - leverage, 1e-9)
    return rates, float(np.sqrt((errors**2).mean()))


def fit_work(x: Floats, groups: NDArray[np.int64], y: Floats) -> Column:
    """Linear in work alone, rates of any sign."""
    return fit_ridge(x, np.flatnonzero(groups == MORE), y, (0.0,))


class Latency(Auto):
    """A table of operators, two Gaussian processes and boosted trees, stacked; see `auto` for how.

    Targets are learnt on their own scale, on which operators add up. Of spaces that are not declared by a document
    there is no walk, and genes alone are seen.
    """

    tunes = (untuned(fit_table), untuned(fit_work), tune_process, tune_fine_process, untuned(fit_trees))
    trust = np.array([10.0, 5.0, 3.0, 1.0, 1.0])

    def features(self, genes: Genes) -> Features:
        """See `FeaturePredictor`."""
        walked = self.space if isinstance(self.space, DeclaredSpace) else None
        return Features(self.space, self.scores, genes, partial(workload, walked) if walked else None)

    def warp(self, y: Floats) -> Warp | Line:
        """See `FeaturePredictor`."""
        return Line.of(y)
