"""NSGA-II, one trial at a time: elitist selection by constrained Pareto rank and crowding distance.

Deb et al., 2002; the steady-state form, in which every measured trial enters the population at once and the worst
leaves, needs no generations and so never waits for a slow worker (Durillo et al., 2009).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.fold import Fold
from nas.searchers.selection import Population, crowding, ranks
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import crossover, mutate, sample
from search_spaces.space import Space


class Nsga2Config(SearcherSettings):
    """Steady-state NSGA-II with uniform crossover and one-gene mutation."""

    kind: Literal["nsga2"] = "nsga2"
    population: int = Field(default=20, ge=4, description="the best so many measured trials")
    crossover: float = Field(default=0.9, ge=0, le=1, description="probability that a child has two parents")

    def build(self, space: Space, problem: Problem, seed: int) -> Nsga2:
        """A fresh searcher."""
        return Nsga2(self, space, problem, seed)


class Nsga2(Fold):
    """The best `population` measured trials, with their ranks and crowding distances."""

    def __init__(self, config: Nsga2Config, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed)
        self._config = config

    def _clear(self) -> None:
        self._population = Population(self._space, self._problem)
        self._rank: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._crowding: NDArray[np.float64] = np.zeros(0)

    def _add(self, trial: Trial) -> None:
        """Every measured trial competes for a place."""
        if not trial.measured:
            return
        population = self._population
        population.add(trial)
        self._rank = ranks(population.losses, population.violations)
        self._crowding = crowding(population.losses, self._rank)
        if len(population) > self._config.population:
            worst = np.lexsort((-self._crowding, self._rank))[-1]
            left = np.delete(np.arange(len(population)), worst)
            population.keep(left)
            self._rank, self._crowding = self._rank[left], self._crowding[left]

    def _draw(self, rng: np.random.Generator) -> Genes:
        """Random architectures until the population is half full, then children."""
        population = self._population
        if len(population) < self._config.population // 2:
            return sample(self._space, 1, rng)
        mother, father = self._tournament(rng), self._tournament(rng)
        child = population.genes[[mother]]
        if rng.random() < self._config.crossover:
            child = crossover(self._space, child, population.genes[[father]], rng)
        return mutate(self._space, child, rng)

    def _tournament(self, rng: np.random.Generator) -> int:
        """The better of two: by rank, then by crowding distance."""
        a, b = rng.integers(len(self._population), size=2)
        better = (self._rank[a], -self._crowding[a]) <= (self._rank[b], -self._crowding[b])
        return int(a if better else b)
