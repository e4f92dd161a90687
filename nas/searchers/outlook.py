"""What finished trials let one expect of all other networks: exact formulas, and a predictor of one's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.objectives import Problem
from nas.searchers.acquisition import agrees, losses, violations
from nas.searchers.selection import ranks
from nas.trial import Trial, TrialState
from predictors.base import GenePredictor
from predictors.threads import in_halves
from search_spaces.architecture import Genes
from search_spaces.space import Space

Floats = NDArray[np.float64]
Metrics: TypeAlias = Mapping[str, Floats]
"""Values (n,) by metric."""

PredictorKind: TypeAlias = Literal[
    "auto", "ridge", "gaussian_process", "gradient_boosting", "random_forest", "mlp_ensemble"
]

MOST = 1000
"""Learnt from are at most so many trials: half of them the best, half the latest."""
SURE = 0.75
"""Networks that can be measured with less probability than this count as infeasible."""
UNLIKELY = 1e6
"""Violation for each unit of probability that lacks."""
BROKEN = (TrialState.INFEASIBLE, TrialState.FAILED)


def unfitted(kind: PredictorKind, space: Space) -> GenePredictor:
    """A predictor of this kind."""
    import predictors

    match kind:
        case "auto":
            return predictors.Auto(space)
        case "ridge":
            return predictors.Ridge(space)
        case "gaussian_process":
            return predictors.BlockProcess(space)
        case "gradient_boosting":
            return predictors.GradientBoosting(space)
        case "random_forest":
            return predictors.RandomForest(space)
        case "mlp_ensemble":
            return predictors.MlpEnsemble(space)


def judged(problem: Problem, metrics: Metrics) -> tuple[Floats, Floats]:
    """Losses (n, objectives) and amounts of violation (n,) of metrics."""
    values = np.stack([metrics[m] for m in problem.metrics], axis=1)
    return losses(problem, values), violations(problem, values)


class Outlook:
    """A pure function of the trials that it is made from; at least one of them must have been measured."""

    def __init__(self, space: Space, problem: Problem, trials: Sequence[Trial], blank: GenePredictor) -> None:
        """`blank`: copies of it are fitted, which share what it knows without any trial."""
        self._space, self._problem = space, problem
        measured = [t for t in trials if t.measured]
        self.genes: Genes = space.canonical_genes(space.genes([t.architecture for t in measured]))
        """Of the measured trials, canonical, shape (n, d)."""
        costs = space.costs(self.genes, problem.metrics)
        values = {m: _values(m, measured, costs) for m in problem.metrics}
        self.rank = ranks(*judged(problem, values))
        """Of the measured trials by what was measured, shape (n,); 0 the best."""
        self.exact = [m for m in costs if m in values and agrees(values[m], costs[m])]
        """Metrics that formulas give, as far as what was measured agrees with them."""
        self._guessed = [m for m in problem.metrics if m not in self.exact]
        self._units = [float(np.abs(values[m]).max()) or 1.0 for m in self._guessed]
        rows = _kept(self.rank)
        self._predictor: GenePredictor | None = None
        if self._guessed:
            targets = np.stack([values[m][rows] for m in self._guessed], axis=1)
            self._predictor = copy(blank).fit_genes(self.genes[rows], targets)
        self._success = self._learn_success(trials, blank)

    def expected(self, genes: Genes) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Means and standard deviations (n,) by metric, of canonical genes (n, d); formulas are certain."""
        stds = {m: np.zeros(len(genes)) for m in self.exact}
        if self._predictor is None:
            return self._means(genes, None), stds
        found = self._predictor.predict_genes(genes)
        return self._means(genes, found.mean), stds | dict(zip(self._guessed, found.std.T, strict=True))

    def judge(self, genes: Genes) -> tuple[Floats, Floats]:
        """Expected losses (n, objectives) and violations (n,) of canonical genes (n, d)."""
        return self.judge_by(self._problem, genes)

    def judge_by(self, problem: Problem, genes: Genes) -> tuple[Floats, Floats]:
        """The same for another problem, whose metrics are among those of the own one."""
        guessed = None if self._predictor is None else self._predictor.mean_genes(genes)
        loss, excess = judged(problem, self._means(genes, guessed))
        if self._success is not None:
            likely = np.round(self._success.mean_genes(genes)[:, 0], 9)
            excess += UNLIKELY * np.maximum(SURE - likely, 0.0)
        return loss, excess

    def best(self, count: int) -> Genes:
        """Genes of the best measured trials, at most `count`."""
        return self.genes[np.argsort(self.rank, kind="stable")[:count]]

    def _means(self, genes: Genes, guessed: Floats | None) -> dict[str, Floats]:
        """Of formulas, and of what is guessed (n, metrics without formula); each of shape (n,).

        Rounded to nine digits: the last ones differ between machines, and should decide nothing.
        """
        parts = in_halves(lambda rows: self._space.costs(rows, self.exact), genes) if self.exact else []
        means = {m: np.concatenate([part[m] for part in parts]) for m in self.exact}
        if guessed is not None:
            for metric, unit, column in zip(self._guessed, self._units, guessed.T, strict=True):
                means[metric] = np.round(column / unit, 9) * unit
        return means

    def _learn_success(self, trials: Sequence[Trial], blank: GenePredictor) -> GenePredictor | None:
        """Which networks can be measured at all, where some could not."""
        broken = [t.architecture for t in trials if t.state in BROKEN][-MOST // 2 :]
        if not broken:
            return None
        bad = self._space.canonical_genes(self._space.genes(broken))
        genes = np.concatenate([self.genes[-MOST // 2 :], bad])
        succeeded = (np.arange(len(genes)) < len(genes) - len(bad)).astype(np.float64)
        return copy(blank).fit_genes(genes, succeeded)


def _values(metric: str, trials: Sequence[Trial], costs: Metrics) -> Floats:
    """What was measured, or else what the formula says."""
    if metric in costs and not all(metric in t.metrics for t in trials):
        return np.asarray(costs[metric], dtype=np.float64)
    return np.array([t.metrics[metric] for t in trials])


def _kept(rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows to learn from, in order."""
    if len(rank) <= MOST:
        return np.arange(len(rank))
    best = np.argsort(rank, kind="stable")[: MOST // 2]
    return np.union1d(best, np.arange(len(rank) - MOST // 2, len(rank)))
