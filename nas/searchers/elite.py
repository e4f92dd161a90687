"""The best trials so far, ranked: what a front, and parents, are taken from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.searchers.selection import Population, crowding, ranks
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.space import Space

KEPT = 256
"""So many trials are kept at least; once there are twice as many, the others are dropped."""


class Elite:
    """The best of the measured trials added so far, by constrained Pareto rank, then by crowding distance."""

    def __init__(self, space: Space, problem: Problem) -> None:
        self._population = Population(space, problem)
        self._ranked: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._population)

    def add(self, trial: Trial) -> None:
        """One measured trial more."""
        self._population.add(trial)
        self._ranked = None
        if len(self._population) >= 2 * KEPT:
            self._population.keep(np.sort(self._order()[1][:KEPT]))
            self._ranked = None

    @property
    def least_violation(self) -> float:
        """0 as soon as one trial is feasible."""
        return float(self._population.violations.min())

    @property
    def front(self) -> NDArray[np.float64]:
        """Losses of the trials of the first rank, shape (f, objectives)."""
        return np.asarray(self._population.losses[self._order()[0] == 0])

    def parents(self, least: int, most: int) -> Genes:
        """Genes of the first rank, but not fewer than `least` trials nor more than `most`; the best first."""
        rank, order = self._order()
        return self._population.genes[order[: min(max(least, int((rank == 0).sum())), most)]]

    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rank of every trial, and the trials from best to worst."""
        if self._ranked is None:
            rank = ranks(self._population.losses, self._population.violations)
            distance = crowding(self._population.losses, rank)
            self._ranked = rank, np.lexsort((-distance, rank))
        return self._ranked
