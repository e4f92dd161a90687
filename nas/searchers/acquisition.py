"""How much candidates are worth: the expected improvement of the hypervolume, or of the violation.

The hypervolume is, up to a constant, the mean over random directions of the best scalarised point (Golovin
and Zhang, "Random hypervolume scalarizations for provable multi-objective black box optimization", ICML
2020). So its expected improvement is a mean over directions and samples: one short formula for any number
of objectives, and for a single one the usual expected improvement (Jones, Schonlau, Welch, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from search_spaces.architecture import Genes
from search_spaces.space import Space

Floats = NDArray[np.float64]

AGREEMENT = 0.8
"""A formula is believed that gave at least this share of the values that were measured."""
WIDEST = 2.0
"""So many times as wide as typical losses spread a frame can be; see `Frame.of`."""


@dataclass(frozen=True)
class Warp:
    """A monotone map that makes losses easier to predict: linear where they are good, logarithmic where bad.

    Collapsed networks and slow outliers then do not drown the differences between the good ones.
    """

    centre: float
    scale: float

    @classmethod
    def of(cls, losses: Floats, good: float = 0.5) -> Warp:
        """Fitted to losses of shape (n,), n >= 1: linear in the best share `good`, unless these all but tie."""
        centre, largest = float(np.quantile(losses, good)), float(np.abs(losses).max())
        deviation = largest * float((losses / largest).std()) if largest else 0.0  # squares of 1e200 are infinite
        return cls(centre, max(centre - float(losses.min()), 0.01 * deviation) or 1.0)

    def forward(self, losses: Floats) -> Floats:
        """Losses to warped losses, of any shape."""
        z = (losses - self.centre) / self.scale
        return np.where(z > 0, np.log1p(np.maximum(z, 0.0)), z)

    def back(self, warped: Floats) -> Floats:
        """Warped losses to losses, of any shape; finite unless losses come near the largest number there is."""
        z = np.where(warped > 0, np.expm1(np.clip(warped, 0.0, 50.0)), warped)
        return np.asarray(z * self.scale + self.centre)


@dataclass(frozen=True)
class Frame:
    """Where hypervolume is measured: losses are scaled so that `ideal` is 0 and the reference point is 1."""

    ideal: Floats
    reference: Floats

    @classmethod
    def of(cls, front: Floats, losses: Floats) -> Frame:
        """From the best of the front (f, m) to a tenth beyond nearly the worst of typical losses (n, m).

        A front that reaches beyond them widens the frame, but to no more than `WIDEST` times as much: its far end
        is sought, and a collapsed network that is on the front as the fastest of all does not drown the rest.
        """
        ideal = front.min(axis=0)
        usual, own = np.quantile(losses, 0.95, axis=0) - ideal, front.max(axis=0) - ideal
        width = np.where(usual > 0, np.clip(own, usual, WIDEST * np.maximum(usual, 0.0)), own)
        return cls(ideal, ideal + 1.1 * np.where(width > 0, width, 1.0))

    def scale(self, losses: Floats) -> Floats:
        """Losses (..., m) in the frame."""
        return np.asarray((losses - self.ideal) / (self.reference - self.ideal))


def losses(problem: Problem, values: Floats) -> Floats:
    """Losses (..., objectives) of metrics (..., metrics of the problem)."""
    place = {metric: i for i, metric in enumerate(problem.metrics)}
    return np.stack([o.loss(1.0) * values[..., place[o.metric]] for o in problem.objectives], axis=-1)


def violations(problem: Problem, values: Floats) -> Floats:
    """`Problem.violation` of metrics (..., metrics of the problem), shape (...)."""
    place = {metric: i for i, metric in enumerate(problem.metrics)}
    out = np.zeros(values.shape[:-1])
    for constraint in problem.constraints:
        sign = 1.0 if constraint.relation == "<=" else -1.0
        over = sign * (values[..., place[constraint.metric]] - constraint.bound)
        out += np.maximum(over, 0.0) / max(abs(constraint.bound), 1e-12)
    return out


def known_violations(space: Space, problem: Problem, genes: Genes) -> Floats:
    """Violations (n,) of those constraints whose metrics formulas give, of genes (n, d)."""
    costs = space.costs(genes, {c.metric for c in problem.constraints})
    known = Problem((), [c for c in problem.constraints if c.metric in costs])
    if not known.constraints:
        return np.zeros(len(genes))
    return violations(known, np.stack([costs[metric] for metric in known.metrics], axis=-1))


def agrees(measured: Floats, formula: Floats) -> bool:
    """Whether a formula is to be believed, by its values (n,) of networks that were measured.

    Where it gave nearly all of them: a table may count a twin of the network, which no model foresees, and a
    formula that is mostly right is still the better guess.
    """
    return bool(np.isclose(measured, formula, rtol=1e-9, atol=0.0).mean() >= AGREEMENT)


def standard_normal(samples: int, columns: int, rng: np.random.Generator) -> Floats:
    """Stratified standard normal samples (a Latin hypercube), shape (samples, columns)."""
    strata = np.stack([rng.permutation(samples) for _ in range(columns)], axis=1)
    uniform = (strata + rng.uniform(0.01, 0.99, size=(samples, columns))) / samples
    return np.asarray(np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(uniform))


def directions(count: int, objectives: int, rng: np.random.Generator) -> Floats:
    """Uniform on the positive part of the sphere, shape (count, objectives); a single 1 for one objective."""
    if objectives == 1:
        return np.ones((1, 1))
    drawn = np.abs(rng.standard_normal((count, objectives))) + 1e-9
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def hypervolume_improvement(samples: Floats, front: Floats, rays: Floats) -> Floats:
    """Up to a constant, the hypervolume that each sample alone would add to `front`.

    Args:
        samples: losses in a `Frame`, shape (s, n, m).
        front: losses of what is there already, in the same frame, shape (f, m); may be empty.
        rays: directions, shape (k, m).

    Returns:
        Shape (s, n).
    """
    out = np.zeros(samples.shape[:2])
    room, there = _room(samples), _room(front)
    for ray in rays:
        reach = _reach(room, ray)
        reach -= _reach(there, ray).max(initial=0.0)
        out += np.maximum(reach, 0.0, out=reach)
    return out / len(rays)


def reach(samples: Floats, rays: Floats) -> Floats:
    """How far losses (s, n, m) in a `Frame` reach along each of rays (k, m), shape (s, n, k)."""
    room = _room(samples)
    return np.stack([_reach(room, ray) for ray in rays], axis=-1)


def expected_improvement(samples: Floats, least: float) -> Floats:
    """How much less than `least` the violations (s, n) are expected to be, shape (n,)."""
    return np.asarray(np.maximum(least - samples, 0.0).mean(axis=0))


def best_first(*keys: Floats) -> NDArray[np.int64]:
    """The order of rows by keys of shape (n,): the first weighs most, small comes before great; stable.

    Keys that agree to nine digits are equal, so that rounding, which differs between machines, decides nothing.
    """
    scales = [float(np.abs(key).max(initial=0.0)) or 1.0 for key in keys]
    return np.lexsort([np.round(key / scale, 9) for key, scale in zip(keys, scales, strict=True)][::-1])


def _room(losses: Floats) -> Floats:
    """How far losses (..., m) in a frame lie below its reference, objective by objective: shape (m, ...).

    Objectives come first, as minima over an axis of two or three numbers take ten times as long.
    """
    return np.ascontiguousarray(np.moveaxis(1.0 - losses, -1, 0))


def _reach(room: Floats, ray: Floats) -> Floats:
    """The hypervolume scalarisation of points with this room (m, ...), shape (...)."""
    out = room[0] / ray[0]
    for column, part in zip(room[1:], ray[1:], strict=True):
        np.minimum(out, column / part, out=out)
    return np.asarray(np.maximum(out, 0.0, out=out) ** len(ray))
