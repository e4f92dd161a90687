"""LINAS, the loop of DyNAS-T and SimQ-NAS: fit predictors, run NSGA-II on them, measure its population, repeat.

Cummings et al., "A hardware-aware framework for accelerating neural architecture search across modalities"
(DyNAS-T), 2022; Sharma et al., "SimQ-NAS", 2023. Different from there: costs that formulas give are not predicted,
the inner search goes on from the best measured networks, there is no barrier between rounds, and of the inner
population those are measured that together are expected to add most hypervolume. An inner front has hundreds of
members, and its least crowded ones lie at its ends, where they add next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.pareto import non_dominated
from nas.searchers.acquisition import (
    Frame,
    directions,
    losses,
    reach,
    standard_normal,
    violations,
)
from nas.searchers.inner import evolve
from nas.searchers.outlook import Floats, Outlook, PredictorKind, unfitted
from nas.searchers.rounds import Rounds, unmeasured
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

SMALLEST = 500
"""Networks of an inner generation at least: predictors are slow on few."""
FRONT = 256
"""So many measured networks have a place in the inner population beside the new ones; and of a round that is
longer than this, so many are chosen by what they add."""
SAMPLES, DIRECTIONS = 16, 64
"""Of what is predicted, and of the front: see `acquisition`."""


class LinasConfig(SearcherSettings):
    """Rounds of NSGA-II on predictions. DyNAS-T: 50 first, 50 a round, 5,000 to 20,000 predictions each, ridge."""

    kind: Literal["linas"] = "linas"
    initial: int = Field(default=20, ge=2, description="random architectures to begin with")
    population: int = Field(default=10, ge=1, description="architectures measured in a round, at least")
    evaluations: int = Field(default=20_000, ge=1, le=10_000_000, description="predictions in a round, at most")
    predictor: PredictorKind = Field(default="auto", description="what guesses metrics without a formula")

    def build(self, space: Space, problem: Problem, seed: int) -> Linas:
        """A fresh searcher."""
        return Linas(self, space, problem, seed)


class Linas(Rounds):
    """Measures the most promising of what an inner NSGA-II ends with."""

    def __init__(self, config: LinasConfig, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed, config.initial, config.population)
        self._config = config
        self._blank = unfitted(config.predictor, space)

    def plan(self, trials: Sequence[Trial], number: int, length: int, rng: np.random.Generator) -> Genes:
        """The last inner population without what was measured, those first that add most hypervolume."""
        config = self._config
        outlook = Outlook(self._space, self._problem, trials, self._blank)
        front = min(int((outlook.rank == 0).sum()), FRONT)
        size = min(max(SMALLEST, 2 * length) + front, config.evaluations)
        start = np.concatenate([outlook.best(size // 2), sample(self._space, size - size // 2, rng)])
        found = evolve(self._space, outlook.judge, start, size, config.evaluations, rng)
        genes = unmeasured(found.genes, outlook.genes)
        done = np.array([self._problem.losses(t.metrics) for t in trials if t.feasible])
        if not len(done) or not len(genes):
            return genes
        first = self._most_hypervolume(outlook, genes, done, min(2 * length, FRONT), rng)
        return np.concatenate([genes[first], np.delete(genes, first, axis=0)])

    def _most_hypervolume(
        self, outlook: Outlook, genes: Genes, done: Floats, count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Rows of genes (n, d), at most `count`, that should add most to the hypervolume of losses `done` (f, m).

        Over samples of what is predicted, so that the uncertain have their chance, too.
        """
        problem = self._problem
        expected, excess = outlook.judge(genes)
        both = np.concatenate([done, expected[excess == 0]])
        frame = Frame.of(both[non_dominated(both)], done)  # the ends that are expected count, too
        rays = directions(DIRECTIONS, len(problem.objectives), rng)
        mean, std = (np.stack([part[m] for m in problem.metrics], axis=1) for part in outlook.expected(genes))
        values = mean + standard_normal(SAMPLES, len(problem.metrics), rng)[:, None] * std
        allowed = (violations(problem, values) == 0) & (excess == 0)
        reached = reach(frame.scale(losses(problem, values)), rays) * allowed[:, :, None]
        return greedy(reached, reach(frame.scale(done)[None], rays)[0].max(axis=0), count)


def greedy(reached: Floats, there: Floats, count: int) -> NDArray[np.int64]:
    """Rows, at most `count`, each of which adds most to those before it, the first to what is `there`.

    Args:
        reached: how far each of n rows reaches in s samples along k rays, shape (s, n, k).
        there: how far one has come already along each ray, shape (k,).
        count: rows wanted; fewer are given where no other adds anything.

    A set grown so adds at least 63% of what the best set of its size would add (Nemhauser, Wolsey, Fisher, 1978).
    """
    rows: list[int] = []
    while len(rows) < count:
        gain = np.round(np.maximum(reached - there, 0.0).mean(axis=(0, 2)), 12)
        if not gain.any():
            break
        rows.append(int(gain.argmax()))
        there = np.maximum(there, reached[:, rows[-1:]])
    return np.array(rows, dtype=np.int64)
