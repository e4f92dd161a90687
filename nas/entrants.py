"""Fronts from arrays, for jobs of 100,000 trials: what they need to remember of a job is little, and grows.

A trial that an earlier one dominates (or equals) can never again belong to the front, nor add to its
hypervolume. Those that none did, the entrants, are the non-dominated ones once the order of finishing counts as
one more thing to minimize. So one pass finds them, and later trials are only compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.contracts import Measurements
from nas.objectives import Constraint, Objective, Problem
from nas.pareto import estimated_hypervolume, exact_seconds, hypervolume, non_dominated

MOST_POINTS = 200
"""Points of a history at most."""
EXACT_SECONDS = 0.5
"""A front whose hypervolume would take longer gets an estimate."""
ESTIMATE_SECONDS = 1e-5
"""That an estimate takes a trial, about."""
HISTORY_SECONDS = 4.0
"""Of hypervolumes that take longer, a history has fewer points."""


@dataclass(frozen=True)
class Entrants:
    """The feasible trials of a job that belonged to its front when they finished, in that order; k of them."""

    problem: Problem
    numbers: NDArray[np.int64]
    orders: NDArray[np.int64]
    losses: NDArray[np.float64]
    """(k, objectives)."""
    worst: NDArray[np.float64] | None
    """Per objective the greatest loss of any trial that has all metrics of the problem; None before the first."""

    @classmethod
    def none(cls, problem: Problem) -> Entrants:
        """Of a job that has measured nothing."""
        empty = np.empty(0, dtype=np.int64)
        return cls(problem, empty, empty, np.empty((0, len(problem.objectives))), None)

    def further(self, found: Measurements) -> Entrants:
        """With the trials that finished after all that are known. Those that lack a metric do not count."""
        rows = complete(self.problem, found)
        if not len(rows):
            return self
        losses = losses_of(self.problem, found, rows)
        worst = losses.max(axis=0) if self.worst is None else np.maximum(self.worst, losses.max(axis=0))
        good = feasible(self.problem.constraints, found, rows)
        numbers = np.concatenate([self.numbers, found.numbers[rows[good]]])
        orders = np.concatenate([self.orders, found.orders[rows[good]]])
        losses = np.concatenate([self.losses, losses[good]])
        kept = entered(losses)
        return Entrants(self.problem, numbers[kept], orders[kept], losses[kept], worst)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.numbers.nbytes + self.orders.nbytes + self.losses.nbytes


@dataclass(frozen=True)
class JointFront:
    """The front of the trials of several jobs, as if they had run one after the other. k entrants in all."""

    problem: Problem
    jobs: NDArray[np.int64]
    """(k,) which job, by its place."""
    numbers: NDArray[np.int64]
    finished: NDArray[np.int64]
    """(k,) trials that had finished by then, those of the jobs before included."""
    losses: NDArray[np.float64]
    worst: NDArray[np.float64] | None

    @classmethod
    def of(cls, problem: Problem, parts: Sequence[tuple[Entrants, int]]) -> JointFront:
        """Of the entrants of each job, and how many of its trials have finished."""
        before = np.cumsum([0, *(finished for _, finished in parts[:-1])])
        worsts = [e.worst for e, _ in parts if e.worst is not None]
        return cls(
            problem,
            np.repeat(np.arange(len(parts)), [len(e.numbers) for e, _ in parts]),
            np.concatenate([e.numbers for e, _ in parts]),
            np.concatenate([e.orders + b + 1 for (e, _), b in zip(parts, before, strict=True)]),
            np.concatenate([e.losses for e, _ in parts]),
            np.max(worsts, axis=0) if worsts else None,
        )

    @cached_property
    def members(self) -> tuple[tuple[int, int], ...]:
        """The front: which job, by its place, and the trial's number; the best in the first objective first."""
        rows = _front(self.losses)
        return tuple(zip(self.jobs[rows].tolist(), self.numbers[rows].tolist(), strict=True))

    @property
    def reference(self) -> tuple[float, ...] | None:
        """The default reference point, in the metrics' own units: the worst value seen of each objective."""
        if self.worst is None:
            return None
        return tuple(o.value(w) for o, w in zip(self.problem.objectives, self.worst.tolist(), strict=True))

    @cached_property
    def exact(self) -> bool:
        """Whether hypervolumes are exact, or estimates because the front is too large."""
        return self._soon(len(self.members))

    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """Volume between the front and `reference` (one value an objective, in the metrics' own units)."""
        point = self._turned(reference)
        return 0.0 if point is None else self._volume(_front(self.losses), point)

    def history(self, reference: Sequence[float] | None = None) -> list[tuple[int, float]]:
        """How many trials had finished, and the hypervolume then, wherever it grew.

        All measured against one `reference`. Of more than `MOST_POINTS` points, or so many as may be measured in
        time, so many evenly spaced ones, the first and the last among them. All are estimates where that of the
        front is; else fronts on the way that were too large are left out.
        """
        point = self._turned(reference)
        if point is None:
            return []
        inside = np.flatnonzero((self.losses < point).all(axis=1))
        grew = inside[entered(self.losses[inside])]
        found: list[tuple[int, float]] = []
        for i in _spaced(len(grew), self._most_points(len(grew))):
            front = grew[_front(self.losses[grew[: i + 1]])]
            if self.exact and not self._soon(len(front)):
                continue
            volume = self._volume(front, point)
            if not found or volume > found[-1][1]:  # rounding may swallow what was gained
                found.append((int(self.finished[grew[i]]), volume))
        return found

    def _volume(self, rows: NDArray[np.int64], point: NDArray[np.float64]) -> float:
        if self.exact:
            return hypervolume(self.losses[rows], point)
        inside = self.losses[(self.losses < point).all(axis=1)]
        return estimated_hypervolume(self.losses[rows], point, inside.min(axis=0)) if len(inside) else 0.0

    def _soon(self, points: int) -> bool:
        count = len(self.problem.objectives)
        return count <= 3 or exact_seconds(points, count) <= EXACT_SECONDS

    def _most_points(self, grew: int) -> int:
        """Of the history of a hypervolume that grew so often."""
        exact = exact_seconds(grew, len(self.problem.objectives))
        each = min(exact, EXACT_SECONDS) if self.exact else ESTIMATE_SECONDS * grew
        return max(2, int(min(MOST_POINTS, HISTORY_SECONDS / max(each, 1e-9))))

    def _turned(self, reference: Sequence[float] | None) -> NDArray[np.float64] | None:
        point = self.reference if reference is None else reference
        if point is None:
            return None
        return np.array([o.loss(float(v)) for o, v in zip(self.problem.objectives, point, strict=True)])


def best(found: Measurements, wanted: Objective, bounds: Sequence[Constraint]) -> tuple[float, int] | None:
    """Loss and number of the trial that is best for `wanted` among those that meet `bounds`, or None."""
    problem = Problem((wanted,), tuple(bounds))
    rows = complete(problem, found)
    if not len(rows):
        return None
    rows = rows[feasible(bounds, found, rows)]
    if not len(rows):
        return None
    losses = losses_of(problem, found, rows)[:, 0]
    first = np.lexsort([found.numbers[rows], losses])[0]
    return float(losses[first]), int(found.numbers[rows[first]])


def entered(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of `losses` (n, m) no earlier row dominates or equals. Shape (n,)."""
    if not len(losses):
        return np.zeros(0, dtype=bool)
    return non_dominated(np.column_stack([losses, np.arange(len(losses))]))


def complete(problem: Problem, found: Measurements) -> NDArray[np.int64]:
    """Rows that have every metric of the problem."""
    if not set(problem.metrics) <= set(found.names):
        return np.empty(0, dtype=np.int64)
    columns = [found.names.index(m) for m in problem.metrics]
    return np.flatnonzero(~np.isnan(found.values[:, columns]).any(axis=1))


def losses_of(problem: Problem, found: Measurements, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number an objective of complete rows, less is better: (rows, objectives)."""
    columns = np.array([found.names.index(o.metric) for o in problem.objectives])
    signs = np.array([o.loss(1.0) for o in problem.objectives])
    return np.asarray(found.values[rows[:, None], columns] * signs, dtype=np.float64)


def feasible(constraints: Sequence[Constraint], found: Measurements, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these complete rows meet all constraints, as `Constraint.excess` says."""
    holds = np.ones(len(rows), dtype=bool)
    for constraint in constraints:
        values = found.values[rows, found.names.index(constraint.metric)]
        with np.errstate(over="ignore"):
            over = values - constraint.bound if constraint.relation == "<=" else constraint.bound - values
            holds &= np.maximum(0.0, over) / max(abs(constraint.bound), 1e-12) == 0
    return holds


def joined(known: Measurements, new: Measurements) -> Measurements:
    """Both, where `new` finished after all that is known; a metric that one lacks is NaN there."""
    names = tuple(dict.fromkeys([*known.names, *new.names]))
    return Measurements(
        np.concatenate([known.numbers, new.numbers]),
        np.concatenate([known.orders, new.orders]),
        np.concatenate([known.feasible, new.feasible]),
        names,
        np.concatenate([_spread(known, names), _spread(new, names)]),
    )


def after(found: Measurements, order: int) -> Measurements:
    """Those of the rows that finished after `order`; a view."""
    first = int(np.searchsorted(found.orders, order, side="right"))
    return Measurements(
        found.numbers[first:], found.orders[first:], found.feasible[first:], found.names, found.values[first:]
    )


def _spread(found: Measurements, names: Sequence[str]) -> NDArray[np.float64]:
    """The values with a column for each of `names`."""
    if found.names == names:
        return found.values
    values = np.full((len(found.numbers), len(names)), np.nan)
    values[:, [names.index(name) for name in found.names]] = found.values
    return values


def _spaced(count: int, most: int) -> NDArray[np.int64]:
    """Of 0, 1, ... count - 1 so many evenly spaced ones at most, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _front(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of the front, the best in the first objective first."""
    if not len(losses):
        return np.empty(0, dtype=np.int64)
    rows = np.flatnonzero(non_dominated(losses))
    return rows[np.lexsort(losses[rows].T[::-1])]
