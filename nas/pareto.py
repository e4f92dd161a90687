"""The Pareto front of trials. Feasibility comes before dominance; dominance is computed by moocore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import moocore
import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.trial import Trial


@dataclass(frozen=True)
class ParetoFront:
    """The feasible trials that no other feasible trial dominates, with the losses of all that were measured."""

    problem: Problem
    trials: tuple[Trial, ...]
    """Non-dominated, the best in the first objective first; of equal points the one that finished first."""
    worst: tuple[float, ...] | None
    """Per objective the greatest loss of any measured trial; None before the first."""
    exact: ClassVar[bool] = True
    """Of hypervolumes, however long they take."""

    @classmethod
    def of(cls, trials: Iterable[Trial], problem: Problem) -> ParetoFront:
        """The front of these trials; those not measured in full are left out."""
        measured = sorted((t for t in trials if t.measured), key=lambda t: t.order or 0)
        if not measured:
            return cls(problem, (), None)
        losses = np.array([problem.losses(t.metrics) for t in measured])
        feasible = np.array([t.feasible is True for t in measured])
        worst = tuple(losses.max(axis=0).tolist())
        index = np.flatnonzero(feasible)
        if not len(index):
            return cls(problem, (), worst)
        kept = index[non_dominated(losses[index])]
        ranked = sorted(kept.tolist(), key=lambda i: tuple(losses[i]))
        return cls(problem, tuple(measured[i] for i in ranked), worst)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Losses of the front, shape (n, objectives)."""
        rows = [self.problem.losses(t.metrics) for t in self.trials]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.problem.objectives))

    @property
    def reference(self) -> tuple[float, ...] | None:
        """The default reference point, in the metrics' own units: the worst value seen of each objective."""
        if self.worst is None:
            return None
        return tuple(o.value(w) for o, w in zip(self.problem.objectives, self.worst, strict=True))

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Volume between the front and `reference` (one value an objective, in the metrics' own units).

        0 for an empty front. Volumes with different references cannot be compared.
        """
        point = reference if reference is not None else self.reference
        if point is None:
            return 0.0
        if len(point) != len(self.problem.objectives):
            raise ValueError(
                f"the reference has {len(point)} values; allowed: {len(self.problem.objectives)}, one an objective"
            )
        turned = [o.loss(float(v)) for o, v in zip(self.problem.objectives, point, strict=True)]
        return hypervolume(self.losses, np.array(turned))


def non_dominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of `losses` (n, m) no other row dominates; of equal rows the first. Shape (n,)."""
    if losses.shape[1] == 1:  # moocore wants two objectives
        keep = np.zeros(len(losses), dtype=bool)
        keep[losses[:, 0].argmin()] = True
        return keep
    return np.asarray(moocore.is_nondominated(losses, keep_weakly=False), dtype=bool)


def pareto_rank(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for the non-dominated rows, 1 for those left once they are gone, and so on. Shape (n,)."""
    if losses.shape[1] == 1:
        return np.unique(losses[:, 0], return_inverse=True)[1].astype(np.int64)
    return np.asarray(moocore.pareto_rank(losses), dtype=np.int64)


def hypervolume(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume dominated by the rows of `losses` (n, m) within `reference` (m,)."""
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if losses.shape[1] == 1:
        return float(reference[0] - inside.min())
    return float(moocore.hypervolume(inside, ref=reference))


DIRECTIONS = 8192
"""Of an estimate; with so many, those of fronts of 1,000 to 20,000 points were off by 0.2% at most."""


def estimated_hypervolume(
    losses: NDArray[np.float64], reference: NDArray[np.float64], least: NDArray[np.float64]
) -> float:
    """As `hypervolume`, about, in time linear in the rows: how far they reach along fixed directions.

    Args:
        losses: (n, m).
        reference: (m,).
        least: (m,), below every row and the reference. While it is the same, no further row makes the volume less.
    """
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        width = reference - least
        reach = moocore.hv_approx((inside - least) / width, ref=np.ones(len(width)), nsamples=DIRECTIONS)
        return float(np.prod(width) * reach)


def exact_seconds(points: int, objectives: int) -> float:
    """About how long `hypervolume` takes for so many rows, on one core; from four objectives by squares."""
    if objectives <= 3:
        return 3e-6 * points
    return (4e-9 if objectives == 4 else 5e-8) * points**2
