"""Searchers that measure in rounds, each of them planned from all that had finished before it, without barriers.

A round is over as soon as as many trials have finished as it is long; those that still run then are simply not
known to the next one. So which trials a round is planned from follows from the order in which they finished, a
fresh searcher that is told everything plans the same, and no worker ever waits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from nas.objectives import Problem
from nas.searchers.acquisition import known_violations
from nas.searchers.fold import Fold
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import identities, mutate, sample
from search_spaces.space import Space

GROWTH = 6
"""A round is at least one in so many of the trials before it, so that planning does not become the dear part."""
LEAST = 2
"""Nothing is planned before so many trials were measured."""
DRAWN = 32


class Rounds(Fold):
    """Finished trials in order; the plan of the current round is a pure function of those before it."""

    def __init__(self, space: Space, problem: Problem, seed: int, initial: int, batch: int) -> None:
        """`initial` trials come before the first plan, at least `batch` in every round after it."""
        super().__init__(space, problem, seed)
        self._initial, self._batch = initial, batch

    @abstractmethod
    def plan(self, trials: Sequence[Trial], number: int, length: int, rng: np.random.Generator) -> Genes:
        """New networks for round `number` (1, 2, ...), the best first: about twice the round's `length`.

        From trials that finished before it, some of which were measured.
        """

    def first(self, rng: np.random.Generator) -> Genes:
        """Networks to begin with: drawn, those first that break no constraint on formula metrics."""
        genes = sample(self._space, DRAWN, rng)
        excess = known_violations(self._space, self._problem, genes)
        return genes[np.argsort(excess, kind="stable")]

    def _clear(self) -> None:
        self._finished: list[Trial] = []
        self._planned: tuple[int, Genes] | None = None

    def _add(self, trial: Trial) -> None:
        """Finished trials are noted; what they teach is looked at when a round begins."""
        self._finished.append(trial)

    def _draw(self, rng: np.random.Generator) -> Genes:
        """What the round has planned, the best first; once that is used up, mutants of it."""
        planned = self._plan()
        if not len(planned):
            return self.first(rng)
        return np.concatenate([planned, mutate(self._space, planned, rng)])

    def _plan(self) -> Genes:
        """The plan of the current round, made when it is first wanted; empty before there is one."""
        number, begun, length = self._round()
        if self._planned is None or self._planned[0] != begun:
            before = self._finished[:begun]
            genes: Genes = np.zeros((0, len(self._space.choices)), dtype=np.int64)
            if number and sum(t.measured for t in before) >= LEAST:
                genes = self.plan(before, number, length, np.random.default_rng([self._seed, begun]))
            self._planned = begun, genes
        return self._planned[1]

    def _round(self) -> tuple[int, int, int]:
        """Number of the current round, how many trials had finished when it began, and how many it is long."""
        number, begun, length = 0, 0, self._initial
        while begun + length <= len(self._finished):
            number, begun = number + 1, begun + length
            length = max(self._batch, begun // GROWTH)
        return number, begun, length


def unmeasured(genes: Genes, measured: Genes) -> Genes:
    """The rows of genes (n, d) that are not among those of measured (m, d)."""
    known = set(identities(measured))
    return genes[[identity not in known for identity in identities(genes)]]
