"""Evolution among architectures whose cost lies in a band just below a limit.

Liao, Karaman, Sze: "Searching for Efficient Multi-Stage Vision Transformers" (ViT-ResNAS), 2021: where accuracy
rises with cost, only networks that nearly spend the budget are worth an evaluation. As there, the first are
random, parents are the best ever measured, and children come half from mutation, half from uniform crossover of
two parents; here one trial at a time, so no generation waits for a slow worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import NAME, Problem
from nas.searchers.elite import KEPT, Elite
from nas.searchers.history import Draw, History
from nas.trial import Proposal, Trial
from search_spaces import Fault, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean
from search_spaces.operators import crossover, identities, mutate, sample
from search_spaces.space import Space

BATCH = 64
"""Architectures drawn at once."""
ROUNDS, PATIENCE = 24, 8
"""Batches drawn before the nearest to the band is taken: in all, and one after the other none of them nearer."""
NEAREST = 32
"""So many of the nearest found are moved on while the band is not reached."""


class BandedEvolutionConfig(SearcherSettings):
    """Evolution within ``band * limit <= metric <= limit``. The paper: 500 first, 75 parents, limit in MACs."""

    kind: Literal["banded_evolution"] = "banded_evolution"
    metric: str = Field(default="macs", pattern=f"^{NAME}$", description="what is limited; known from a formula")
    limit: float = Field(gt=0, description="the most that the metric may be")
    band: float = Field(default=0.975, ge=0, le=1, description="lower end of the band, as a share of the limit")
    initial: int = Field(default=40, ge=2, description="random architectures to begin with")
    parents: int = Field(default=20, ge=2, le=KEPT, description="the best so many have children")
    mutation: float = Field(default=0.3, gt=0, le=1, description="probability that a mutant's gene is drawn anew")
    crossover: float = Field(default=0.5, ge=0, le=1, description="share of children with two parents")

    def build(self, space: Space, problem: Problem, seed: int) -> BandedEvolution:
        """A fresh searcher. Raises `SpecError` where the space has no formula for the metric."""
        if faults := self.faults(space, problem):
            raise SpecError(faults)
        return BandedEvolution(self, space, problem, seed)

    def faults(self, space: Space, problem: Problem) -> list[Fault]:
        """The metric must have a formula: the band is looked for before anything is evaluated."""
        known = sorted(space.cost_names)
        if self.metric in known:
            return []
        allowed = ", ".join(known) or f"none, since {space.name} has no formulas"
        return [
            Fault(
                "metric", f"{self.metric!r} has no formula; allowed: {allowed}{did_you_mean(self.metric, known)}"
            )
        ]


class BandedEvolution:
    """The best measured trials, and draws that are filtered by the formula of one cost."""

    def __init__(self, config: BandedEvolutionConfig, space: Space, problem: Problem, seed: int) -> None:
        self._config, self._space, self._problem, self._seed = config, space, problem, seed
        self._history = History(space)
        self._elite = Elite(space, problem)

    def ask(self, n: int) -> Sequence[Proposal]:
        """Random architectures of the band, then children of the best that lie in it.

        Where nothing new is found in the band, the nearest to it that were found.
        """
        draw = self._random if len(self._elite) < self._config.initial else self._children
        return self._history.propose(n, self._seed, lambda rng: self._banded(draw, rng))

    def tell(self, trials: Iterable[Trial]) -> None:
        """Every measured trial competes to be a parent, whatever its cost."""
        finished, again = self._history.tell(trials)
        if again:
            self._elite = Elite(self._space, self._problem)
        for trial in finished:
            if trial.measured:
                self._elite.add(trial)

    def _random(self, rng: np.random.Generator) -> Genes:
        return sample(self._space, BATCH, rng)

    def _children(self, rng: np.random.Generator) -> Genes:
        """Mutants, or children of two parents; which of them is the same for the whole batch."""
        parents = self._elite.parents(self._config.parents, self._config.parents)
        mothers = parents[rng.integers(len(parents), size=BATCH)]
        if rng.random() < self._config.crossover:
            return crossover(self._space, mothers, parents[rng.integers(len(parents), size=BATCH)], rng)
        drawn = rng.integers(0, self._space.sizes, size=mothers.shape)
        changed = rng.random(mothers.shape) < self._config.mutation
        return self._space.canonical_genes(np.where(changed, drawn, mothers))

    def _banded(self, draw: Draw, rng: np.random.Generator) -> Genes:
        """New rows of the band, or else the nearest new rows found, the nearest first.

        From the second batch on, half of each are one-gene mutants of the nearest so far: a band that random
        draws seldom meet is walked to.
        """
        genes, away, new = self._nearest(draw(rng))
        stalled = 0
        for _ in range(ROUNDS):
            least = away[new].min(initial=np.inf)
            if least == 0 or stalled == PATIENCE:
                break
            near = genes[rng.integers(min(NEAREST, len(genes)), size=BATCH // 2)]
            fresh = np.concatenate([mutate(self._space, near, rng), draw(rng)[BATCH // 2 :]])
            genes, away, new = self._nearest(np.concatenate([fresh, genes]))
            stalled = 0 if away[new].min(initial=np.inf) < least else stalled + 1
        inside = new & (away == 0)
        return genes[inside if inside.any() else new]

    def _nearest(self, genes: Genes) -> tuple[Genes, NDArray[np.float64], NDArray[np.bool_]]:
        """The rows nearest to the band, how far they are from it, relative to the limit, and which are new."""
        config, rows = self._config, {identity: i for i, identity in enumerate(identities(genes))}
        genes, new = genes[list(rows.values())], np.array([self._history.is_new(identity) for identity in rows])
        cost = self._space.costs(genes, [config.metric])[config.metric] / config.limit
        away = np.maximum(np.maximum(cost - 1, config.band - cost), 0)
        order = np.argsort(away, kind="stable")
        kept = order[new[order] | (np.arange(len(order)) < NEAREST)][: 2 * BATCH]  # others are of no use
        return genes[kept], away[kept], new[kept]
