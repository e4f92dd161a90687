"""NARS, the search of FBNetV3: measure the best of a large pool in turns, then evolve on what was learnt.

Dai et al., "FBNetV3: joint architecture-recipe search using predictor pretraining", CVPR 2021. First, constrained
iterative optimisation: a quasi-random pool of networks that keep the constraints known from formulas, of which a
batch is measured, a predictor fitted, the most promising batch measured, and so on. Then evolution on the
predictor, whose best networks are measured, again in batches. Genes of recipes take part like all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.acquisition import known_violations
from nas.searchers.inner import Ranked, distinct, evolve
from nas.searchers.outlook import Outlook, PredictorKind, unfitted
from nas.searchers.random import MAX_DIMENSIONS
from nas.searchers.rounds import Rounds, unmeasured
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

BLOCKS = 8
"""So many times the pool's size is drawn at most, where few networks keep the constraints."""
SIZE = 500
"""Networks of an inner generation, at least."""


class NarsConfig(SearcherSettings):
    """A pool in turns, then evolution. FBNetV3: a pool of 20,000; others use 4 turns of 40."""

    kind: Literal["nars"] = "nars"
    pool: int = Field(default=20_000, ge=1, le=1_000_000, description="quasi-random architectures to choose from")
    batch: int = Field(default=10, ge=1, description="architectures measured between two fits, at least")
    turns: int = Field(default=4, ge=0, description="batches chosen from the pool before evolution begins")
    evaluations: int = Field(
        default=20_000, ge=1, le=10_000_000, description="predictions of an evolution, at most"
    )
    epsilon: float = Field(
        default=1e-6, ge=0, description="evolution stops where the front improves by less, as a share of its range"
    )
    predictor: PredictorKind = Field(default="mlp_ensemble", description="what guesses metrics without a formula")

    def build(self, space: Space, problem: Problem, seed: int) -> Nars:
        """A fresh searcher."""
        return Nars(self, space, problem, seed)


class Nars(Rounds):
    """Rounds that are chosen from the pool while there are turns left, and evolved afterwards."""

    def __init__(self, config: NarsConfig, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed, max(config.batch, 2), config.batch)
        self._config = config
        self._blank = unfitted(config.predictor, space)

    def first(self, rng: np.random.Generator) -> Genes:
        """Some networks of the pool, drawn."""
        return self._pool[rng.integers(len(self._pool), size=min(32, len(self._pool)))]

    def plan(self, trials: Sequence[Trial], number: int, length: int, rng: np.random.Generator) -> Genes:
        """The most promising networks that were not measured."""
        config = self._config
        outlook = Outlook(self._space, self._problem, trials, self._blank)
        if number <= config.turns:
            pool = unmeasured(self._pool, outlook.genes)
            return Ranked.of(pool, *outlook.judge(pool), 2 * length).genes if len(pool) else pool
        size = min(max(SIZE, 4 * length), config.evaluations)
        start = np.concatenate([outlook.best(size // 2), sample(self._space, size - size // 2, rng)])
        found = evolve(self._space, outlook.judge, start, size, config.evaluations, rng, config.epsilon)
        return unmeasured(found.genes, outlook.genes)

    @cached_property
    def _pool(self) -> Genes:
        """Distinct networks that keep the constraints with formulas; where these are few, also the nearest."""
        kept: list[Genes] = []
        for genes in self._blocks():
            excess = known_violations(self._space, self._problem, genes)
            nearest = genes[np.argsort(excess, kind="stable")[:SIZE]]
            kept.append(genes[excess == 0])
            if sum(map(len, kept)) >= self._config.pool:
                break
        pool = np.concatenate(kept if sum(map(len, kept)) >= SIZE else [*kept, nearest])
        return pool[distinct(pool)][: self._config.pool]

    def _blocks(self) -> Iterator[Genes]:
        """Architectures along a scrambled Sobol sequence, at least `pool` at a time."""
        from scipy.stats import qmc  # slow to import

        space, count = self._space, self._config.pool
        if not 0 < len(space.choices) <= MAX_DIMENSIONS:
            rng = np.random.default_rng(self._seed)
            yield from (sample(space, count, rng) for _ in range(BLOCKS))
            return
        engine = qmc.Sobol(len(space.choices), rng=np.random.default_rng(self._seed))
        for _ in range(BLOCKS):
            points = engine.random(1 << (count - 1).bit_length())  # balanced at powers of two alone
            yield space.canonical_genes((points * space.sizes).astype(np.int64))
