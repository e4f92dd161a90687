"""A searcher whose state is a fold over finished trials in the order in which they finished."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from nas.objectives import Problem
from nas.searchers.history import History
from nas.trial import Proposal, Trial
from search_spaces.architecture import Genes
from search_spaces.space import Space


class Fold(ABC):
    """Asks and tells for a subclass that says how to begin, what a trial changes, and what is drawn."""

    def __init__(self, space: Space, problem: Problem, seed: int) -> None:
        self._space, self._problem, self._seed = space, problem, seed
        self._history = History(space)
        self._clear()

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` new architectures; fewer when the space is exhausted."""
        return self._history.propose(n, self._seed, self._draw)

    def tell(self, trials: Iterable[Trial]) -> None:
        """Every finished trial in its turn; all from the first again where an earlier one has changed."""
        finished, again = self._history.tell(trials)
        if again:
            self._clear()
        for trial in finished:
            self._add(trial)

    @abstractmethod
    def _clear(self) -> None:
        """The state before any trial."""

    @abstractmethod
    def _add(self, trial: Trial) -> None:
        """The trial that finished next, measured or not."""

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Genes:
        """A population to try (n, d), the best first; called again while nothing in it is new."""
