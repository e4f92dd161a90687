"""Who survives and who becomes a parent: constraint domination, Pareto rank, crowding distance.

Deb, Pratap, Agarwal, Meyarivan: "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.pareto import pareto_rank
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.space import Space


class Population:
    """Measured trials as arrays: genes (n, d), losses (n, m), violations (n,); grows at the end."""

    def __init__(self, space: Space, problem: Problem) -> None:
        self._space, self._problem = space, problem
        self.genes: Genes = np.zeros((0, len(space.choices)), dtype=np.int64)
        self.losses: NDArray[np.float64] = np.zeros((0, len(problem.objectives)))
        self.violations: NDArray[np.float64] = np.zeros(0)

    def __len__(self) -> int:
        return len(self.genes)

    def add(self, trial: Trial) -> None:
        """One measured trial more."""
        row = self._space.genes([trial.architecture])
        losses = np.array([self._problem.losses(trial.metrics)])
        self.genes = np.concatenate([self.genes, row])
        self.losses = np.concatenate([self.losses, losses])
        self.violations = np.append(self.violations, self._problem.violation(trial.metrics))

    def keep(self, index: Sequence[int] | NDArray[np.int64]) -> None:
        """Only these rows, in this order."""
        self.genes, self.losses = self.genes[index], self.losses[index]
        self.violations = self.violations[index]


def ranks(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> NDArray[np.int64]:
    """Constrained Pareto rank, 0 the best, shape (n,).

    Feasible rows by Pareto rank; then, one rank each, infeasible rows by the amount of violation.
    """
    out = np.zeros(len(losses), dtype=np.int64)
    feasible = violations == 0
    if feasible.any():
        out[feasible] = pareto_rank(losses[feasible])
    if not feasible.all():
        start = int(out[feasible].max()) + 1 if feasible.any() else 0
        out[~feasible] = start + np.unique(violations[~feasible], return_inverse=True)[1]
    return out


def crowding(losses: NDArray[np.float64], rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """Crowding distance of every row among the rows of its own rank, shape (n,); the ends have infinity.

    Without a loop over ranks: a population may have thousands.
    """
    out = np.zeros(len(losses))
    if not len(losses):
        return out
    for column in losses.T:
        order = np.lexsort((column, rank))
        value, group = column[order], rank[order]
        changes = group[1:] != group[:-1]
        first, last = np.append(True, changes), np.append(changes, True)
        width = np.repeat(value[last] - value[first], np.diff(np.append(np.flatnonzero(first), len(value))))
        gap = np.zeros(len(value))
        gap[1:-1] = value[2:] - value[:-2]
        out[order] += np.where(first | last, np.inf, gap / np.where(width > 0, width, np.inf))
    return out
