"""Local search: measure the neighbours of the best architecture, move on to the first better one.

White, Nolen, Savani: "Exploring the loss landscape in neural architecture search", 2020 (arXiv 2005.02960). With
several objectives the neighbours of the whole front are measured (Pareto local search: Paquete, Chiarandini,
Stuetzle, 2004). Where nothing better is around, the next climb begins elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.fold import Fold
from nas.searchers.selection import Population, crowding, ranks
from nas.trial import Trial
from search_spaces.architecture import Genes
from search_spaces.operators import identities, neighbours, sample
from search_spaces.space import Space

MAX_FRONT = 256
"""Of a larger front the least crowded members are kept."""
REMEMBERED = 64
"""Neighbourhoods kept between calls."""


class LocalSearchConfig(SearcherSettings):
    """Climbs, each from the best of a few random architectures, until the budget is spent."""

    kind: Literal["local_search"] = "local_search"
    initial: int = Field(default=10, ge=1, description="random architectures that a climb begins with")

    def build(self, space: Space, problem: Problem, seed: int) -> LocalSearch:
        """A fresh searcher."""
        return LocalSearch(self, space, problem, seed)


class LocalSearch(Fold):
    """The front of the present climb, and which architectures are finished."""

    def __init__(self, config: LocalSearchConfig, space: Space, problem: Problem, seed: int) -> None:
        super().__init__(space, problem, seed)
        self._config = config
        self._around = lru_cache(REMEMBERED)(self._neighbourhood)

    def _clear(self) -> None:
        self._finished: set[bytes] = set()
        self._begin()

    def _begin(self) -> None:
        self._front = Population(self._space, self._problem)
        self._measured = 0
        self._walked: set[bytes] = set()  # members whose neighbours are all finished

    def _add(self, trial: Trial) -> None:
        """Every measured trial joins the climb; when nothing is left around its front, the next one begins."""
        genes = self._space.canonical_genes(self._space.genes([trial.architecture]))
        self._finished.update(identities(genes))
        if trial.measured:
            self._join(trial)
        if self._climbing and all(self._is_walked(member) for member in identities(self._front.genes)):
            self._begin()

    def _join(self, trial: Trial) -> None:
        """The front of those that were in it and one trial more."""
        front = self._front
        front.add(trial)
        self._measured += 1
        rank = ranks(front.losses, front.violations)
        front.keep(np.flatnonzero(rank == 0))
        if len(front) > MAX_FRONT:
            distance = crowding(front.losses, np.zeros(len(front), dtype=np.int64))
            front.keep(np.sort(np.argsort(-distance, kind="stable")[:MAX_FRONT]))

    @property
    def _climbing(self) -> bool:
        return self._measured >= self._config.initial

    def _is_walked(self, member: bytes) -> bool:
        if member not in self._walked and self._finished.issuperset(self._around(member)[1]):
            self._walked.add(member)
        return member in self._walked

    def _draw(self, rng: np.random.Generator) -> Genes:
        """The neighbours of one member of the front that has new ones, in any order.

        Random architectures where there is none: before a climb, and while the last results of one are awaited.
        """
        if self._climbing:
            for row in rng.permutation(len(self._front)):
                (member,) = identities(self._front.genes[[row]])
                if member in self._walked:
                    continue
                genes, around = self._around(member)
                if any(map(self._history.is_new, around)):
                    return genes[rng.permutation(len(genes))]
        return sample(self._space, 1, rng)

    def _neighbourhood(self, member: bytes) -> tuple[Genes, list[bytes]]:
        genes = neighbours(self._space, np.frombuffer(member, dtype=np.int64))
        return genes, list(identities(genes))
