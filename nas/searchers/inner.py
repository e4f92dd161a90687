"""Evolution on predictions: NSGA-II among networks that nobody measures, a whole generation at a time.

Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002, with what a predictor expects in
place of measurements, as in LINAS (Cummings et al., "A hardware-aware framework for accelerating neural
architecture search across modalities", 2022) and in the second stage of FBNetV3 (Dai et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.searchers.selection import crowding, ranks
from search_spaces.architecture import Genes
from search_spaces.operators import crossover, mutate
from search_spaces.space import Space

Floats = NDArray[np.float64]
Judge: TypeAlias = Callable[[Genes], tuple[Floats, Floats]]
"""Gives expected losses (n, objectives) and violations (n,) of canonical genes (n, d)."""

CROSSOVER = 0.9
"""Share of children with two parents."""
PATIENCE = 5
"""Generations over which an improvement must show."""
DIRECTIONS = 32


@dataclass(frozen=True)
class Ranked:
    """Networks with what is expected of them, the best first: by constrained Pareto rank, then by crowding."""

    genes: Genes
    losses: Floats
    violations: Floats

    @classmethod
    def of(cls, genes: Genes, losses: Floats, violations: Floats, most: int) -> Self:
        """The best of these, at most `most`."""
        rank = ranks(losses, violations)
        order = np.lexsort((-crowding(losses, rank), rank))[:most]
        return cls(genes[order], losses[order], violations[order])


def evolve(
    space: Space,
    judge: Judge,
    start: Genes,
    size: int,
    evaluations: int,
    rng: np.random.Generator,
    epsilon: float = 1e-6,
) -> Ranked:
    """The best `size` networks that were met (fewer in a space of fewer).

    Begins with `start`, canonical genes (n, d), n >= 1, and asks for at most `evaluations` predictions, those of
    `start` included, `size` a generation. Stops once `PATIENCE` generations have improved the front by less than
    `epsilon`, as a share of the range of losses in `start`.
    """
    start = start[distinct(start)]
    pool = Ranked.of(start, *judge(start), size)
    rays = _rays(pool.losses.shape[1])
    low, width = pool.losses.min(axis=0), np.ptp(pool.losses, axis=0)
    levels = [_level(pool, low, width, rays)]
    for _ in range(max(0, evaluations - len(start)) // size):
        both = np.concatenate([pool.genes, children(space, pool.genes, size, rng)])
        first = distinct(both)
        fresh = both[first[first >= len(pool.genes)]]
        if len(fresh):
            losses, violations = judge(fresh)
            pool = Ranked.of(
                np.concatenate([pool.genes, fresh]),
                np.concatenate([pool.losses, losses]),
                np.concatenate([pool.violations, violations]),
                size,
            )
        levels.append(min(levels[-1], _level(pool, low, width, rays)))
        if len(levels) > PATIENCE and levels[-1 - PATIENCE] - levels[-1] < epsilon:
            break
    return pool


def children(space: Space, parents: Genes, count: int, rng: np.random.Generator) -> Genes:
    """Children (count, d) of parents (n, d) that stand in order: each parent is the better of two."""
    mothers, fathers = (parents[rng.integers(len(parents), size=(2, count)).min(axis=0)] for _ in range(2))
    crossed = crossover(space, mothers, fathers, rng)
    return mutate(space, np.where(rng.random((count, 1)) < CROSSOVER, crossed, mothers), rng)


def distinct(genes: Genes) -> NDArray[np.int64]:
    """Where each of the distinct rows of genes (n, d) first stands, in order.

    By a random linear digest of 64 bits: two rows of a million share one by chance once in 10 million populations.
    """
    weights = np.random.default_rng(0).integers(0, 2**64, size=genes.shape[1], dtype=np.uint64) | np.uint64(1)
    digests = genes.astype(np.uint64) @ weights
    return np.sort(np.unique(digests, return_index=True)[1])


def _rays(objectives: int) -> Floats:
    """Directions in which a front can improve, shape (k, objectives)."""
    if objectives == 1:
        return np.ones((1, 1))
    drawn = np.abs(np.random.default_rng(0).standard_normal((DIRECTIONS, objectives))) + 1e-3
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def _level(pool: Ranked, low: Floats, width: Floats, rays: Floats) -> float:
    """How far the front has come, less is better: the mean over rays of the best Chebyshev scalarisation.

    Where nothing is feasible, the least violation, and more than any front.
    """
    feasible = pool.violations == 0
    if not feasible.any():
        return 1e9 + float(pool.violations.min())
    scaled = (pool.losses[feasible] - low) / np.where(width > 0, width, 1.0)
    return float(np.mean([(scaled / ray).max(axis=1).min() for ray in rays]))
