"""The best network under a constraint, for many constraints at once: a family of models, as FBNetV3-A to G.

Dai et al., "FBNetV3: joint architecture-recipe search using predictor pretraining", CVPR 2021, second stage: once
there are trials, evolution on a predictor gives the network for a new constraint in seconds, and nothing is
measured for it. Networks that were measured before stand beside the others with their measured values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nas.objectives import Constraint, Objective, Problem
from nas.searchers.inner import evolve
from nas.searchers.outlook import Outlook, PredictorKind, unfitted
from nas.trial import Trial
from search_spaces import Architecture, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean
from search_spaces.operators import sample
from search_spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

SIZE = 500
"""Networks of a generation."""
EVALUATIONS = 50_000
"""Predictions for one constraint, at most."""
SHARED = 20_000
"""Drawn once, so that every constraint begins with the best of them."""


@dataclass(frozen=True)
class Member:
    """The best network under one constraint, of those measured and those that the predictor knows."""

    constraint: Constraint
    architecture: Architecture
    expected: dict[str, float]
    """Of the objective and all constraints: by formulas, or else as measured, or else as predicted."""
    std: dict[str, float]
    """Standard deviation of each; 0 where a formula gives the metric, or a measurement."""
    meets: bool
    """Whether it keeps the constraint, and those of the job, as far as is known; else it is the nearest."""
    trial: Trial | None = field(repr=False)
    """The trial that measured it, if one did."""
    best_measured: Trial | None = field(repr=False)
    """Of the trials that keep all constraints the best."""


def predictor_evolution(
    space: Space,
    trials: Sequence[Trial],
    objective: Objective,
    constraints: Sequence[Constraint],
    always: Sequence[Constraint] = (),
    seed: int = 0,
    predictor: PredictorKind = "auto",
) -> list[Member]:
    """The best network for `objective` under each of `constraints`, in their order; `always` holds for all.

    Metrics with formulas are exact, the others are predicted by one predictor that is fitted once, on `trials`.

    Raises:
        SpecError: for a metric that has no formula and that not every measured trial has; without such trials.
    """
    whole = Problem((objective,), (*always, *constraints))
    _check(space, whole, trials)
    outlook, rng = Outlook(space, whole, trials, unfitted(predictor, space)), np.random.default_rng(seed)
    start = np.concatenate([outlook.genes, sample(space, SHARED, rng)])
    return [_member(space, trials, outlook, start, objective, c, always, rng) for c in constraints]


def frame(members: Sequence[Member], objective: Objective) -> pd.DataFrame:
    """One row a constraint: network, expected metrics with standard deviations, and what was measured."""
    import pandas as pd

    rows = []
    for m in members:
        best = m.best_measured
        row: dict[str, object] = {"constraint": str(m.constraint), "architecture": dict(m.architecture)}
        for metric, value in m.expected.items():
            row |= {metric: value, f"{metric}_std": m.std[metric]}
        row |= {
            "meets": m.meets,
            "measured": None if m.trial is None else m.trial.number,
            "best_measured": None if best is None else best.number,
            f"best_measured_{objective.metric}": None if best is None else best.metrics[objective.metric],
        }
        rows.append(row)
    return pd.DataFrame(rows).astype({"measured": "Int64", "best_measured": "Int64"} if rows else {})


def _member(
    space: Space,
    trials: Sequence[Trial],
    outlook: Outlook,
    start: Genes,
    objective: Objective,
    constraint: Constraint,
    always: Sequence[Constraint],
    rng: np.random.Generator,
) -> Member:
    problem = Problem((objective,), (*always, constraint))
    found = evolve(space, lambda genes: outlook.judge_by(problem, genes), start, SIZE, EVALUATIONS, rng)
    known = {t.architecture.key: t for t in reversed(trials) if t.measured and objective.metric in t.metrics}
    values = [_Measured(t, _values(space, problem, t)) for t in known.values()]
    nearest = min(values, key=lambda m: m.order(problem), default=None)
    keeping = nearest is not None and problem.violation(nearest.values) == 0
    best = nearest.trial if nearest is not None and keeping else None
    for genes, loss, violation in zip(found.genes, found.losses[:, 0], found.violations, strict=True):
        if nearest is not None and nearest.order(problem)[:2] <= (violation, loss):
            break
        architecture = space.canonical_architectures(genes[None])[0]
        if architecture.key not in known:
            means, stds = outlook.expected(genes[None])
            expected, std = ({m: float(part[m][0]) for m in problem.metrics} for part in (means, stds))
            return Member(constraint, architecture, expected, std, bool(violation == 0), None, best)
    assert nearest is not None  # every network that evolution found was measured
    expected = {m: nearest.values[m] for m in problem.metrics}
    return Member(
        constraint,
        nearest.trial.architecture,
        expected,
        dict.fromkeys(expected, 0.0),
        keeping,
        nearest.trial,
        best,
    )


@dataclass(frozen=True)
class _Measured:
    """A trial, and its metrics with those that formulas give."""

    trial: Trial
    values: dict[str, float]

    def order(self, problem: Problem) -> tuple[float, float, int]:
        """Small where it is good: by violation, then by loss."""
        return problem.violation(self.values), problem.losses(self.values)[0], self.trial.number


def _values(space: Space, problem: Problem, trial: Trial) -> dict[str, float]:
    wanted = {c.metric for c in problem.constraints} - set(trial.metrics)
    formulas = space.costs(space.genes([trial.architecture]), wanted) if wanted else {}
    return {**{m: float(v[0]) for m, v in formulas.items()}, **trial.metrics}


def _check(space: Space, problem: Problem, trials: Sequence[Trial]) -> None:
    measured = [t for t in trials if t.measured]
    if not measured:
        raise SpecError.at("trials", "none was measured; a family needs some to learn from")
    common = set.intersection(*(set(t.metrics) for t in measured))
    known = common | set(space.cost_names)
    for path, metrics, allowed in (
        ("objective", [o.metric for o in problem.objectives], common),
        ("constraints", [c.metric for c in problem.constraints], known),
    ):
        for metric in metrics:
            if metric not in allowed:
                names = sorted(allowed)
                hint = did_you_mean(metric, names)
                raise SpecError.at(path, f"{metric!r} is not known; allowed: {', '.join(names)}{hint}")
