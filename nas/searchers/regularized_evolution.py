"""Regularized evolution: mutate the best of a random few, let the oldest die.

Real, Aggarwal, Huang, Le: "Regularized evolution for image classifier architecture search", AAAI 2019. With
several objectives the best of the few is one of those that no other of them dominates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.fold import Fold
from nas.searchers.selection import Population, ranks
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import mutate, sample
from search_spaces.space import Space


class RegularizedEvolutionConfig(SearcherSettings):
    """Ageing evolution. The paper used a population of 100 and tournaments of 25."""

    kind: Literal["regularized_evolution"] = "regularized_evolution"
    population: int = Field(default=50, ge=2, description="the youngest so many measured trials")
    tournament: int = Field(default=10, ge=1, description="members drawn, of which the best has a child")

    def build(self, space: Space, problem: Problem, seed: int) -> RegularizedEvolution:
        """A fresh searcher."""
        return RegularizedEvolution(self, space, problem, seed)


class RegularizedEvolution(Fold):
    """The last `population` measured trials; nothing else is needed."""

    def __init__(self, config: RegularizedEvolutionConfig, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed)
        self._config = config

    def _clear(self) -> None:
        self._population = Population(self._space, self._problem)

    def _add(self, trial: Trial) -> None:
        """The youngest comes in, the oldest goes."""
        if trial.measured:
            self._population.add(trial)
            self._population.keep(np.arange(len(self._population))[-self._config.population :])

    def _draw(self, rng: np.random.Generator) -> Genes:
        """Random architectures until the population is full, then mutants."""
        population, config = self._population, self._config
        if len(population) < config.population:
            return sample(self._space, 1, rng)
        few = rng.choice(len(population), size=min(config.tournament, len(population)), replace=False)
        rank = ranks(population.losses[few], population.violations[few])
        best = few[rank == 0]
        parent = population.genes[[rng.choice(best)]]
        return mutate(self._space, parent, rng)
