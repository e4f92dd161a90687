"""What a searcher believes of architectures not measured yet: exact formulas, a predictor for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.searchers.acquisition import Warp, agrees, losses, violations
from nas.searchers.selection import ranks
from nas.trial import Trial, TrialState
from predictors.features import Scores
from predictors.gaussian_process import GaussianProcess
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

Floats = NDArray[np.float64]

MAX_TRAINING = 500
"""A Gaussian process learns from at most so many trials: its cost grows with their cube."""
EVERY = 50
"""The surrogate learns from every trial until there are so many."""
LEARNING_GROWTH = 1.02
TUNING_GROWTH = 1.1
GOOD = 0.25
"""The share of an objective's values, the best, that predictors should tell apart most finely."""
TYPICAL = 512
"""So many architectures stand for the whole space."""
BROKEN = (TrialState.INFEASIBLE, TrialState.FAILED)


@dataclass(frozen=True)
class Column:
    """A metric to predict: its place in `Problem.metrics`, its direction, and the warp of its loss."""

    place: int
    sign: float
    warp: Warp


class Surrogate:
    """A pure function of the trials it is made from, and of an older surrogate that lends hyperparameters."""

    def __init__(
        self,
        space: Space,
        problem: Problem,
        trials: Sequence[Trial],
        like: Self | None = None,
        scores: Scores | None = None,
    ) -> None:
        self._space, self._problem, self._scores = space, problem, scores
        measured = [t for t in trials if t.measured]
        genes = space.canonical_genes(space.genes([t.architecture for t in measured]))
        values = np.array([[t.metrics[m] for m in problem.metrics] for t in measured])
        loss, violation = losses(problem, values), violations(problem, values)
        self._exact = _exact(space, problem, genes, values)
        self._columns = _columns(problem, values, self._exact)
        rows = _relevant(loss, violation)
        self._metrics = self._learn(genes[rows], values[rows], like)
        self._success = self._learn_success(genes[rows], trials)

    def sample(self, genes: Genes, normal: Floats) -> Floats:
        """Possible metrics of canonical genes (n, d), one sample for each row of `normal` (s, metrics).

        Shape (s, n, metrics). A row of zeros gives the medians.
        """
        out = np.empty((len(normal), len(genes), len(self._problem.metrics)))
        if self._exact:
            costs = self._space.costs(genes, self._exact.values())
            for place, metric in self._exact.items():
                out[:, :, place] = costs[metric]
        if self._metrics is not None:
            guess = self._metrics.predict_genes(genes)
            for i, column in enumerate(self._columns):
                warped = guess.mean[:, i] + normal[:, [column.place]] * guess.std[:, i]
                out[:, :, column.place] = column.sign * column.warp.back(warped)
        return out

    def expected_losses(self, genes: Genes) -> Floats:
        """Of those architectures (n, d) that are expected to be feasible, shape (f, objectives)."""
        values = self.sample(genes, np.zeros((1, len(self._problem.metrics))))[0]
        return np.asarray(losses(self._problem, values)[violations(self._problem, values) == 0])

    @cached_property
    def typical_losses(self) -> Floats:
        """Losses expected of feasible architectures drawn from the whole space, shape (f, objectives)."""
        drawn = sample(self._space, TYPICAL, np.random.default_rng(0))
        return self.expected_losses(self._space.canonical_genes(drawn))

    def smoothed(self, genes: Genes, caution: float) -> Floats:
        """Metrics (n, metrics) expected apart from noise, taken for `caution` times what is most likely."""
        calm = copy(self)
        if self._metrics is not None:
            calm._metrics = self._metrics.noisier(caution)
        return np.asarray(calm.sample(genes, np.zeros((1, len(self._problem.metrics))))[0])

    def success(self, genes: Genes) -> Floats:
        """How likely architectures can be measured at all, against the share that could be so far. Shape (n,)."""
        if self._success is None:
            return np.ones(len(genes))
        return np.clip(self._success.predict_genes(genes).mean[:, 0] / self._share, 0.01, 1.0)

    def _learn(self, genes: Genes, values: Floats, like: Self | None) -> GaussianProcess | None:
        if not self._columns:
            return None
        same = like is not None and [c.place for c in like._columns] == [c.place for c in self._columns]
        older = like._metrics if like is not None and same else None
        if like is not None and older is not None:
            self._columns = like._columns
        warped = [c.warp.forward(c.sign * values[:, c.place]) for c in self._columns]
        return GaussianProcess(self._space, self._scores).fit_genes(genes, np.stack(warped, axis=1), older)

    def _learn_success(self, measured: Genes, trials: Sequence[Trial]) -> GaussianProcess | None:
        broken = [t.architecture for t in trials if t.state in BROKEN][-MAX_TRAINING:]
        if not broken:
            return None
        genes = np.concatenate([measured, self._space.canonical_genes(self._space.genes(broken))])
        succeeded = (np.arange(len(genes)) < len(measured)).astype(np.float64)
        self._share = float(succeeded.mean())
        return GaussianProcess(self._space, self._scores).fit_genes(genes, succeeded)


class Learner:
    """Finished trials in order, and the surrogate that they make; at least one must have been measured.

    It learns from every trial while they are few, then at growing intervals, and hyperparameters more rarely;
    which trials it has learnt from depends on their number alone.
    """

    def __init__(self, space: Space, problem: Problem, scores: Scores | None = None) -> None:
        self._space, self._problem, self._scores = space, problem, scores
        self._trials: list[Trial] = []
        self._needed = 0  # trials up to the first that was measured
        self._tuned: tuple[int, Surrogate] | None = None
        self._learnt: tuple[int, Surrogate] | None = None

    def add(self, trial: Trial) -> None:
        """The trial that finished next."""
        self._trials.append(trial)
        if trial.measured and not self._needed:
            self._needed = len(self._trials)

    def surrogate(self) -> Surrogate:
        """What the trials teach, as of the last point of the schedule."""
        tuned = max(checkpoint(len(self._trials), TUNING_GROWTH), self._needed)
        if self._tuned is None or self._tuned[0] != tuned:
            self._tuned = tuned, self._surrogate_of(tuned)
            self._learnt = self._tuned
        learnt = max(checkpoint(len(self._trials), LEARNING_GROWTH), self._needed)
        if self._learnt is None or self._learnt[0] != learnt:
            self._learnt = learnt, self._surrogate_of(learnt, self._tuned[1])
        return self._learnt[1]

    def _surrogate_of(self, count: int, like: Surrogate | None = None) -> Surrogate:
        return Surrogate(self._space, self._problem, self._trials[:count], like, self._scores)


def checkpoint(count: int, growth: float) -> int:
    """The last number of trials, up to `count`, at which something is learnt anew."""
    last = min(count, EVERY)
    while (after := max(last + 1, int(last * growth))) <= count:
        last = after
    return last


def _exact(space: Space, problem: Problem, genes: Genes, values: Floats) -> dict[int, str]:
    """Places of the metrics that formulas give, as far as what was measured agrees with them."""
    costs = space.costs(genes, problem.metrics)
    return {
        i: metric
        for i, metric in enumerate(problem.metrics)
        if metric in costs and agrees(values[:, i], costs[metric])
    }


def _columns(problem: Problem, values: Floats, exact: dict[int, str]) -> list[Column]:
    signs = {c.metric: 1.0 if c.relation == "<=" else -1.0 for c in problem.constraints}
    sought = {o.metric: o.loss(1.0) for o in problem.objectives}
    signs |= sought
    return [
        Column(i, signs[metric], Warp.of(signs[metric] * values[:, i], GOOD if metric in sought else 0.5))
        for i, metric in enumerate(problem.metrics)
        if i not in exact
    ]


def _relevant(losses: Floats, violations: Floats) -> NDArray[np.int64]:
    """Rows to learn from, in order: half the best, a quarter the latest, the rest spread over all others."""
    if len(losses) <= MAX_TRAINING:
        return np.arange(len(losses))
    best = np.argsort(ranks(losses, violations), kind="stable")[: MAX_TRAINING // 2]
    chosen = np.union1d(best, np.arange(len(losses) - MAX_TRAINING // 4, len(losses)))
    others = np.setdiff1d(np.arange(len(losses)), chosen)
    spread = np.linspace(0, len(others) - 1, MAX_TRAINING - len(chosen)).astype(np.int64)
    return np.union1d(chosen, others[spread])
