"""Random search without replacement: the baseline that every other searcher must beat.

Quasi-random points are Owen-scrambled Sobol points (Owen, "Randomly permuted (t,m,s)-nets and (t,s)-sequences",
1995), which fill a space more evenly than independent draws: as a sweep, or as training data of a predictor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.history import History
from nas.trial import Proposal, Trial
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

BATCH = 8
"""Drawn at once, of which the first new one counts: as good as one after the other, and faster."""
BLOCK = 1024
"""Points of a sequence that are made at once."""
MAX_DIMENSIONS = 21_201
"""So many dimensions have Sobol numbers (Joe and Kuo, 2008); further genes are drawn independently."""


class RandomConfig(SearcherSettings):
    """Architectures drawn uniformly over genes, none twice."""

    kind: Literal["random"] = "random"
    quasi: bool = Field(default=False, description="draw along a Sobol sequence, which fills the space evenly")

    def build(self, space: Space, problem: Problem, seed: int) -> RandomSearcher:
        """A fresh searcher."""
        return RandomSearcher(self, space, seed)


class RandomSearcher:
    """Draws every trial from its own addressed generator, or from its own point of a sequence."""

    def __init__(self, config: RandomConfig, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._history = History(space)
        self._points = Points(len(space.choices), seed) if config.quasi and space.choices else None

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` architectures that were not proposed before."""
        taken: set[bytes] = set()
        rows: list[Genes] = []
        for number in range(self._history.next_number, self._history.next_number + n):
            draw = partial(self._draw, number)
            row = self._history.novel(draw, np.random.default_rng([self._seed, number]), taken)
            if row is None:
                break
            rows.append(row)
        return [Proposal(a) for a in self._space.canonical_architectures(np.concatenate(rows))] if rows else []

    def tell(self, trials: Iterable[Trial]) -> None:
        """Remember what was proposed."""
        self._history.tell(trials)

    def _draw(self, number: int, rng: np.random.Generator) -> Genes:
        """The trial's own point first, where there is a sequence; then independent ones."""
        drawn = sample(self._space, BATCH, rng)
        if self._points is None:
            return drawn
        genes = (self._points.at(number, rng) * self._space.sizes).astype(np.int64)
        return np.concatenate([self._space.canonical_genes(genes[None]), drawn])


class Points:
    """The points of a scrambled Sobol sequence in [0, 1)^d by their index; the last block made is kept."""

    def __init__(self, dimensions: int, seed: int) -> None:
        self._dimensions, self._seed = dimensions, seed
        self._start = -1
        self._block: NDArray[np.float64] = np.zeros((0, 0))

    def at(self, index: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One point, shape (d,); coordinates beyond `MAX_DIMENSIONS` are drawn from `rng`."""
        start = index - index % BLOCK
        if start != self._start:
            self._start, self._block = start, self._made(start)
        rest = self._dimensions - self._block.shape[1]
        return np.concatenate([self._block[index - start], rng.random(rest)])

    def _made(self, start: int) -> NDArray[np.float64]:
        from scipy.stats import qmc  # slow to import

        engine = qmc.Sobol(min(self._dimensions, MAX_DIMENSIONS), rng=np.random.default_rng(self._seed))
        if start:
            engine.fast_forward(start)
        return np.asarray(engine.random(BLOCK), dtype=np.float64)
