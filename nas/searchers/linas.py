"""LINAS, the loop of DyNAS-T and SimQ-NAS: fit predictors, run NSGA-II on them, measure its population, repeat.

Cummings et al., "A hardware-aware framework for accelerating neural architecture search across modalities"
(DyNAS-T), 2022; Sharma et al., "SimQ-NAS", 2023. Different from there: costs that formulas give are not predicted,
the inner search goes on from the best measured networks, and there is no barrier between rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.inner import evolve
from nas.searchers.outlook import Outlook, PredictorKind
from nas.searchers.rounds import Rounds, unmeasured
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

SMALLEST = 500
"""Networks of an inner generation at least: predictors are slow on few."""
FRONT = 256
"""So many measured networks have a place in the inner population beside the new ones."""


class LinasConfig(SearcherSettings):
    """Rounds of NSGA-II on predictions. DyNAS-T: 50 first, 50 a round, 5,000 to 20,000 predictions each, ridge."""

    kind: Literal["linas"] = "linas"
    initial: int = Field(default=20, ge=2, description="random architectures to begin with")
    population: int = Field(default=10, ge=1, description="architectures measured in a round, at least")
    evaluations: int = Field(default=20_000, ge=1, le=10_000_000, description="predictions in a round, at most")
    predictor: PredictorKind = "auto"

    def build(self, space: Space, problem: Problem, seed: int) -> Linas:
        """A fresh searcher."""
        return Linas(self, space, problem, seed)


class Linas(Rounds):
    """Measures what an inner NSGA-II ends with."""

    def __init__(self, config: LinasConfig, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed, config.initial, config.population)
        self._config = config

    def plan(self, trials: Sequence[Trial], number: int, length: int, rng: np.random.Generator) -> Genes:
        """The last inner population without what was measured."""
        config = self._config
        outlook = Outlook(self._space, self._problem, trials, config.predictor)
        front = min(int((outlook.rank == 0).sum()), FRONT)
        size = min(max(SMALLEST, 2 * length) + front, config.evaluations)
        start = np.concatenate([outlook.best(size // 2), sample(self._space, size - size // 2, rng)])
        found = evolve(self._space, outlook.judge, start, size, config.evaluations, rng)
        return unmeasured(found.genes, outlook.genes)
