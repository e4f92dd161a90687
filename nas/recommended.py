"""Which measured networks to take where measurements are noisy: those that the model of all of them thinks best.

Of many noisy measurements the best is mostly a lucky one. A Gaussian process that has seen all trials knows how
good a network is apart from luck, as far as networks like it were measured too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.pareto import non_dominated
from nas.searchers.acquisition import losses, violations
from nas.searchers.surrogate import Surrogate
from nas.trial import Trial
from search_spaces.space import Space

CAUTION = 10.0
"""The noise is taken for so many times what is most likely, as a lucky best costs more than a modest one. Chosen
among 1, 3, 10 and 30 on one table, NAS-Bench-201 with a single training run of each network."""


@dataclass(frozen=True)
class Recommended:
    """Networks to take, and what is expected of them."""

    trials: tuple[Trial, ...]
    """Non-dominated in what is expected, the best of the first objective first."""
    expected: NDArray[np.float64]
    """Metrics apart from noise, shape (trials, metrics of the problem); formula metrics are as measured."""


def recommended(space: Space, problem: Problem, trials: Sequence[Trial]) -> Recommended:
    """The feasible front in expected metrics; among measured networks only, and none of an empty search.

    Where no network is expected to be feasible, the one nearest to it.
    """
    measured = sorted((t for t in trials if t.measured), key=lambda t: t.number)
    if not measured:
        return Recommended((), np.zeros((0, len(problem.metrics))))
    genes = space.canonical_genes(space.genes([t.architecture for t in measured]))
    values = Surrogate(space, problem, measured).smoothed(genes, CAUTION)
    loss, violation = losses(problem, values), violations(problem, values)
    rows = np.flatnonzero(violation == violation.min())
    rows = rows[non_dominated(loss[rows])]
    rows = rows[np.lexsort(loss[rows].T[::-1])]
    return Recommended(tuple(measured[i] for i in rows), values[rows])
