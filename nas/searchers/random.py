"""Random search without replacement: the baseline that every other searcher must beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.history import History
from nas.trial import Proposal, Trial
from search_spaces.operators import sample
from search_spaces.space import Space

BATCH = 8
"""Drawn at once, of which the first new one counts: as good as one after the other, and faster."""


class RandomConfig(SearcherSettings):
    """Architectures drawn uniformly over genes, none twice."""

    kind: Literal["random"] = "random"

    def build(self, space: Space, problem: Problem, seed: int) -> RandomSearcher:
        """A fresh searcher."""
        return RandomSearcher(space, seed)


class RandomSearcher:
    """Draws every trial from its own addressed generator."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._history = History(space)

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` architectures that were not proposed before."""
        return self._history.propose(n, self._seed, lambda rng: sample(self._space, BATCH, rng))

    def tell(self, trials: Iterable[Trial]) -> None:
        """Remember what was proposed."""
        self._history.tell(trials)
