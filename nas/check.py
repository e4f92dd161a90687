"""What the parts of a document mean together: known metrics, constraints that can be met, a fitting evaluator."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from nas import initial
from nas.evaluators.repeats import deviation
from nas.job import JobSpec
from nas.objectives import RANGES, Constraint
from search_spaces import Fault, Space, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean
from search_spaces.load import checked_space
from search_spaces.operators import enumerate_all, sample

DRAWS, STARTS, STEPS = 512, 4, 12
SMALL = 50_000


REMOTE_FAMILIES = ("staged", "cell", "transformer", "mlp")
"""Families of spaces that a client over HTTP may name: those that run no code of its own."""


def check(
    spec: JobSpec,
    *,
    space: Space | None = None,
    evaluator_given: bool = False,
    remote: bool = False,
    functions: Collection[str] = (),
) -> Space:
    """The space of a document whose parts fit together.

    Args:
        spec: the parsed document.
        space: the space, where the caller holds it already.
        evaluator_given: whether the caller holds the evaluator itself, so that its settings need not name it.
        remote: whether the document came over the network; then it may name no path, and no code but `functions`,
            which need not be installed here and are not imported.
        functions: import paths that the operator allows in a remote document.

    Raises:
        SpecError: with everything that does not fit.
    """
    if remote:
        _check_remote(spec, functions)
    if space is None:
        try:
            space = checked_space(spec.space, spec.name)
        except SpecError as error:
            raise error.under("space") from None
    faults = []
    if not evaluator_given and not (remote and spec.evaluator.code is not None):
        faults += [Fault(f"evaluator.{f.path}", f.message) for f in spec.evaluator.faults(space)]
    if not faults:
        asked = spec.searcher.faults_for(spec.evaluator, space)
        faults += [Fault(f"searcher.{f.path}", f.message) for f in asked]
    faults += [Fault(f"searcher.{f.path}", f.message) for f in spec.searcher.faults(space, spec.problem)]
    for i, fixed in enumerate(spec.initial):
        faults += [Fault(f"initial.{i}.{f.path}", f.message) for f in initial.faults(space, fixed)]
    faults += _too_many_repeats(spec) + _unknown_metrics(spec, space)
    faults += _out_of_range(spec.constraints)
    if not faults:
        faults += _out_of_reach(spec.constraints, space)
    if faults:
        raise SpecError(faults)
    return space


def _check_remote(spec: JobSpec, functions: Collection[str]) -> None:
    """Raises `SpecError` where a document names what no client may; looks at names alone."""
    found = [Fault(f"evaluator.{f.path}", f.message) for f in spec.evaluator.remote_faults(functions)]
    if spec.space.family not in REMOTE_FAMILIES:
        allowed = ", ".join(REMOTE_FAMILIES)
        found.append(Fault("space.family", f"{spec.space.family!r} is not allowed over HTTP; allowed: {allowed}"))
    if found:
        raise SpecError(found)


def _too_many_repeats(spec: JobSpec) -> list[Fault]:
    repeats, most = spec.budget.repeats, spec.evaluator.measurements()
    if most is None or repeats <= most:
        return []
    message = f"{repeats} is more than the {spec.evaluator.kind} evaluator can tell apart; allowed: 1 to {most}"
    return [Fault("budget.repeats", message)]


def known_metrics(spec: JobSpec, space: Space) -> list[str] | None:
    """The metrics that trials of a job will have, by name; None where only running a function tells."""
    measured = spec.evaluator.metrics()
    if measured is None:
        return None
    spread = map(deviation, measured) if spec.budget.repeats > 1 else ()
    return sorted({*measured, *spread, *space.cost_names, *space.asked_costs})


def _unknown_metrics(spec: JobSpec, space: Space) -> list[Fault]:
    known = known_metrics(spec, space)
    if known is None:
        return []
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
    """Constraints on formula metrics that no architecture meets.

    Each alone, by descending to the extreme of its metric from the best of many draws: costs are close to
    monotonic in every gene, so the descent ends there. All together only where the space is small enough to be
    looked through: elsewhere nothing is refused that may be met after all, and the search will tell.
    """
    known = {*space.cost_names, *space.asked_costs}
    exact = [(i, c) for i, c in enumerate(constraints) if c.metric in known]
    found = []
    for i, constraint in exact:
        reached = _extreme(space, constraint)
        if constraint.excess(reached) > 0:
            found.append(
                Fault(
                    f"constraints.{i}",
                    f"no architecture of the space meets {constraint}; the closest has "
                    f"{constraint.metric} = {reached:g}",
                )
            )
    return found or _contradiction([c for _, c in exact], space)


def _contradiction(constraints: Sequence[Constraint], space: Space) -> list[Fault]:
    """Whether constraints exclude each other: bounds of one metric, or in a space that is looked through."""
    together = " and ".join(map(str, constraints))
    for a in constraints:
        for b in constraints:
            if a.metric == b.metric and a.relation == "<=" and b.relation == ">=" and a.bound < b.bound:
                return [Fault("constraints", f"nothing can meet {a} and {b} at once")]
    every = enumerate_all(space, SMALL) if len(constraints) > 1 else None
    if every is None:
        return []
    costs = space.costs(every, {c.metric for c in constraints})
    met = np.ones(len(every), dtype=bool)
    for c in constraints:
        met &= costs[c.metric] <= c.bound if c.relation == "<=" else costs[c.metric] >= c.bound
    return [] if met.any() else [Fault("constraints", f"no architecture of the space meets {together} at once")]


def _extreme(space: Space, constraint: Constraint) -> float:
    """The best value of the constraint's metric found; stops early at one that meets it."""
    sign = 1.0 if constraint.relation == "<=" else -1.0

    def losses(genes: Genes) -> NDArray[np.float64]:
        return sign * space.costs(genes, [constraint.metric])[constraint.metric]

    drawn = sample(space, DRAWS, np.random.default_rng(0))
    values = losses(drawn)
    best = float(values.min())
    for start in np.argsort(values, kind="stable")[:STARTS]:
        here, least = drawn[start], float(values[start])
        for _ in range(STEPS):
            if constraint.excess(sign * least) == 0:
                return sign * least
            around = _moves(space, here)
            if not len(around):
                break
            moved = losses(around)
            jump = _together(here, around, moved, least)
            tried = space.canonical_genes(np.stack([around[moved.argmin()], jump]))
            reached = losses(tried)
            if reached.min() >= least:
                break
            here, least = tried[reached.argmin()], float(reached.min())
        best = min(best, least)
    return sign * best


def _moves(space: Space, genes: NDArray[np.int64]) -> Genes:
    """The architecture with one gene changed: to its first and last values, and to two between."""
    rows = []
    for column in np.flatnonzero(space.active(genes[None])[0]):
        for value in np.unique(np.linspace(0, space.sizes[column] - 1, 4).astype(np.int64)):
            if value != genes[column]:
                changed = genes.copy()
                changed[column] = value
                rows.append(changed)
    return space.canonical_genes(np.stack(rows)) if rows else np.zeros((0, len(genes)), dtype=np.int64)


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
