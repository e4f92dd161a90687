"""How far predictors can be trusted in a job, metric by metric, as its trials grow in number.

A pure function of the trials; nothing is kept. After n measured trials, in the order in which they finished,
`predictors.Auto` learns from them and is judged twice:

- *held out*: the n themselves, each as expected from the others of them. A little too good, as length scales, the
  weights of the models and the scale of standard deviations were chosen knowing all n;
- *later*: the trials that came after the n, up to the next n. The searcher chose these knowing the n, most of them
  near the best, so they differ less than random networks do, and their ranks are harder to tell. This is the
  harder test, and the one that a search puts its predictor to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Goal, Problem
from nas.searchers.acquisition import agrees
from nas.trial import Trial
from predictors import Auto, Measured, Prediction, Quality
from predictors.base import varies
from search_spaces.architecture import Genes
from search_spaces.operators import identities
from search_spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
JudgedOn: TypeAlias = Literal["held_out", "later"]

FEWEST = 10
"""Networks to learn from, and networks to compare, at the least."""
FIGURES = ("kendall", "spearman", "precision", "coverage_50", "coverage_90", "z_squared")


@dataclass(frozen=True)
class Judgement:
    """How well one metric was guessed, by a predictor that had learnt from the first trials."""

    metric: str
    goal: Goal
    """Which way is better, by the objective or else by the constraint on the metric."""
    trials: int
    """Measured trials that were learnt from, in the order in which they finished."""
    judged_on: JudgedOn
    quality: Quality

    @property
    def figures(self) -> Mapping[str, Measured]:
        """Those of `FIGURES`; ``precision`` is the share of the expected best tenth that is really among it."""
        best = self.quality.precision if self.goal is Goal.MAXIMIZE else self.quality.precision_low
        return {name: best if name == "precision" else getattr(self.quality, name) for name in FIGURES}


@dataclass(frozen=True)
class PredictorQuality:
    """What was found, and why something is missing."""

    judgements: tuple[Judgement, ...]
    """By metric, then by number of trials, held out before later."""
    remarks: tuple[str, ...]
    """Sentences for people."""


def predictor_quality(
    space: Space,
    problem: Problem,
    trials: Sequence[Trial],
    most: int | None = None,
    observe: Callable[[int, int], None] = lambda learnt, total: None,
) -> PredictorQuality:
    """Judge the predictor of every metric of `problem` that no formula gives, at each of `checkpoints`.

    Takes seconds for 1,000 trials and minutes for 10,000, each metric. With `most`, checkpoints beyond it are
    left out. `observe` is called before each fit, with the trials to learn from and the measured ones in all.
    """
    measured = sorted((t for t in trials if t.measured), key=lambda t: (t.order or 0, t.number))
    total = len(measured)
    if total < FEWEST:
        return PredictorQuality((), (f"too few measured trials: {total}; at least {FEWEST} are needed",))
    genes = space.canonical_genes(space.genes([t.architecture for t in measured]))
    values = {m: np.array([t.metrics[m] for t in measured], dtype=np.float64) for m in problem.metrics}
    costs = space.costs(genes, problem.metrics)
    exact = [m for m in problem.metrics if m in costs and agrees(values[m], costs[m])]
    remarks = [f"{metric} is given by a formula; nothing is predicted" for metric in exact]
    goals = {metric: goal for metric, goal in goals_of(problem).items() if metric not in exact}
    if not goals:
        return PredictorQuality((), tuple(remarks))
    targets = np.stack([_scaled(values[m]) for m in goals], axis=1)
    found: list[Judgement] = []
    ends = dict(pairwise([*checkpoints(total), total]))
    points = [n for n in ends if most is None or n <= most]
    for n in points:
        observe(n, total)
        found += _judged(space, goals, genes[: ends[n]], targets[: ends[n]], n)
    found.sort(key=lambda j: problem.metrics.index(j.metric))
    for metric in goals:
        remarks += _gaps(metric, values[metric], [j for j in found if j.metric == metric], points)
    if len(points) < len(ends):
        remarks.append(f"at most {most} of the {total} measured trials were learnt from")
    return PredictorQuality(tuple(found), tuple(remarks))


def held_out_quality(model: Auto, goals: Mapping[str, Goal], trials: int) -> PredictorQuality:
    """Judge one fitted predictor, of these metrics, on the `trials` that it learnt from, held out."""
    _, known = model.learnt()
    found = tuple(_compared(goals, trials, "held_out", known, known, model.held_out()))
    judged = {j.metric for j in found}
    why = f"its values are equal, or fewer than {FEWEST} networks differ"
    return PredictorQuality(found, tuple(f"{m} cannot be judged: {why}" for m in goals if m not in judged))


def checkpoints(total: int) -> list[int]:
    """10, 20, 50, 100, 200, 500, ... as long as at least 10 trials of `total` come after; then `total` itself."""
    steps = (step * 10**exponent for exponent in count(1) for step in (1, 2, 5))
    return [*takewhile(lambda n: n + FEWEST <= total, steps), total] if total >= FEWEST else []


def frame(found: PredictorQuality) -> pd.DataFrame:
    """One row a judgement, each figure with the ends of its interval; `attrs["remarks"]` are the remarks."""
    import pandas as pd

    columns = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    rows = [
        [j.metric, j.trials, j.judged_on, j.quality.count]
        + [value for m in j.figures.values() for value in (m.value, m.low, m.high)]
        for j in found.judgements
    ]
    out = pd.DataFrame(rows, columns=["metric", "trials", "judged_on", "count", *columns])
    out.attrs["remarks"] = found.remarks
    return out


def goals_of(problem: Problem) -> dict[str, Goal]:
    """Which way is better, of every metric that the problem names: by the objective, or else by the constraint."""
    bounds = {c.metric: Goal.MINIMIZE if c.relation == "<=" else Goal.MAXIMIZE for c in problem.constraints}
    return bounds | {o.metric: o.goal for o in problem.objectives}


def _scaled(values: Floats) -> Floats:
    """Values (n,) in another unit, as squares of very large ones would be infinite.

    The unit is a power of two, which changes no digit: figures do not depend on it, nor on what comes later.
    """
    _, exponent = np.frexp(np.abs(values).max())
    return np.asarray(np.ldexp(values, -exponent))


def _judged(space: Space, goals: Mapping[str, Goal], genes: Genes, targets: Floats, n: int) -> Iterator[Judgement]:
    """Learn from the first `n` rows; compare them, held out, and then those of the others that are new."""
    model = Auto(space).fit_genes(genes[:n], targets[:n])
    rows = list(identities(genes))
    seen = set(rows[:n])
    new = [i for i in range(n, len(rows)) if rows[i] not in seen]
    _, known = model.learnt()
    yield from _compared(goals, n, "held_out", known, known, model.held_out())
    yield from _compared(goals, n, "later", known, targets[new], model.predict_genes(genes[new]))


def _compared(
    goals: Mapping[str, Goal], n: int, judged_on: JudgedOn, known: Floats, truth: Floats, guess: Prediction
) -> Iterator[Judgement]:
    """A judgement of every metric whose values differ, among the `known` and in truth."""
    for i, (metric, goal) in enumerate(goals.items()):
        if len(truth) >= FEWEST and varies(known)[i] and varies(truth)[i]:
            quality = Quality.of(truth[:, i], guess.mean[:, i], guess.std[:, i])
            yield Judgement(metric, goal, n, judged_on, quality)


def _gaps(metric: str, values: Floats, found: Sequence[Judgement], points: Sequence[int]) -> list[str]:
    """Why a metric has fewer judgements than there could be; empty where it has all."""
    total = len(values)
    if not varies(_scaled(values)[:, None])[0]:
        return [f"{metric} is {values[0]:.6g} in all {total} measured trials; there is nothing to predict"]
    judged = [j.trials for j in found]
    lacking = [n for n in points if judged.count(n) < (1 if n == total else 2)]
    numbers = ", ".join(map(str, lacking))
    why = "values were equal, or too few networks new"
    return [f"{metric}: figures are missing at {numbers} trials, where {why}"] if lacking else []
