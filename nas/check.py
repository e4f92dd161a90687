"""What the parts of a document mean together: known metrics, constraints that can be met, a fitting evaluator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas import initial
from nas.job import JobSpec
from nas.objectives import RANGES, Constraint
from search_spaces import Fault, Space, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean
from search_spaces.load import space_of
from search_spaces.operators import neighbours, sample

DRAWS = 512
STEPS = 12


def check(
    spec: JobSpec, *, space: Space | None = None, evaluator_given: bool = False, remote: bool = False
) -> Space:
    """The space of a document whose parts fit together.

    Args:
        spec: the parsed document.
        space: the space, where the caller holds it already.
        evaluator_given: whether the caller holds the evaluator itself, so that its settings need not name it.
        remote: whether the document came over the network; then it may name no path and no code.

    Raises:
        SpecError: with everything that does not fit.
    """
    if remote:
        found = [Fault(f"evaluator.{f.path}", f.message) for f in spec.evaluator.remote_faults()]
        if spec.space.family == "python":
            found.append(Fault("space.family", "'python' is not allowed over HTTP; allowed: staged, cell"))
        if found:
            raise SpecError(found)
    if space is None:
        try:
            space = space_of(spec.space, spec.name)
        except SpecError as error:
            raise error.under("space") from None
    faults = []
    if not evaluator_given:
        faults += [Fault(f"evaluator.{f.path}", f.message) for f in spec.evaluator.faults(space)]
    for i, fixed in enumerate(spec.initial):
        faults += [Fault(f"initial.{i}.{f.path}", f.message) for f in initial.faults(space, fixed)]
    faults += _unknown_metrics(spec, space)
    faults += _out_of_range(spec.constraints)
    if not faults:
        faults += _out_of_reach(spec.constraints, space)
    if faults:
        raise SpecError(faults)
    return space


def formula_metrics(space: Space) -> tuple[str, ...]:
    """The metrics that the space knows from formulas."""
    return tuple(space.costs(np.zeros((1, len(space.choices)), dtype=np.int64)))


def _unknown_metrics(spec: JobSpec, space: Space) -> list[Fault]:
    measured = spec.evaluator.metrics()
    if measured is None:  # only running a function tells what it gives
        return []
    known = sorted({*measured, *formula_metrics(space)})
    used = [(f"objectives.{i}.metric", o.metric) for i, o in enumerate(spec.objectives)]
    used += [(f"constraints.{i}", c.metric) for i, c in enumerate(spec.constraints)]
    return [
        Fault(
            path,
            f"{metric!r} is not a metric of the {spec.evaluator.kind} evaluator; "
            f"allowed: {', '.join(known)}{did_you_mean(metric, known)}",
        )
        for path, metric in used
        if metric not in known
    ]


def _out_of_range(constraints: Sequence[Constraint]) -> list[Fault]:
    found = []
    for i, constraint in enumerate(constraints):
        low, high = RANGES.get(constraint.metric, (-np.inf, np.inf))
        best = low if constraint.relation == "<=" else high
        if constraint.excess(best) > 0:
            found.append(
                Fault(f"constraints.{i}", f"nothing can meet {constraint}: it lies in [{low:g}, {high:g}]")
            )
    return found


def _out_of_reach(constraints: Sequence[Constraint], space: Space) -> list[Fault]:
    """Constraints on formula metrics that no architecture meets, each alone and then all together.

    A bounded search, so "no architecture found" is what it says; costs grow with every gene, so descending
    from the best of many draws finds the extremes of a space.
    """
    known = formula_metrics(space)
    exact = [(i, c) for i, c in enumerate(constraints) if c.metric in known]
    found = []
    for i, constraint in exact:
        nearest = _closest(space, [constraint])
        if nearest is not None:
            reached = float(space.costs(nearest)[constraint.metric][0])
            found.append(
                Fault(
                    f"constraints.{i}",
                    f"no architecture of the space meets {constraint}; the closest has "
                    f"{constraint.metric} = {reached:g}",
                )
            )
    if not found and len(exact) > 1 and _closest(space, [c for _, c in exact]) is not None:
        together = " and ".join(str(c) for _, c in exact)
        found.append(Fault("constraints", f"no architecture of the space meets {together} at once"))
    return found


def _closest(space: Space, constraints: Sequence[Constraint]) -> Genes | None:
    """The architecture of least violation, shape (1, d); None if one meets all constraints."""
    drawn = sample(space, DRAWS, np.random.default_rng(0))
    violation = _violations(space, drawn, constraints)
    here, least = drawn[violation.argmin()], float(violation.min())
    for _ in range(STEPS):
        if least == 0:
            return None
        around = neighbours(space, here)
        if not len(around):
            break
        moved = _violations(space, around, constraints)
        jump = _together(here, around, moved, least)
        tried = space.canonical_genes(np.stack([around[moved.argmin()], jump]))
        reached = _violations(space, tried, constraints)
        if reached.min() >= least:
            break
        here, least = tried[reached.argmin()], float(reached.min())
    return None if least == 0 else here[None]


def _together(
    here: NDArray[np.int64], around: Genes, moved: NDArray[np.float64], least: float
) -> NDArray[np.int64]:
    """Every change of one gene that helps by itself, made at once: the best value of each gene."""
    jump = here.copy()
    for row in np.argsort(-moved, kind="stable"):  # the best last, so that it stays
        if moved[row] < least:
            changed = around[row] != here
            jump[changed] = around[row][changed]
    return jump


def _violations(space: Space, genes: Genes, constraints: Sequence[Constraint]) -> NDArray[np.float64]:
    costs = space.costs(genes)
    excess = np.array([[c.excess(v) for v in costs[c.metric].tolist()] for c in constraints])
    total: NDArray[np.float64] = excess.sum(axis=0)
    return total
