"""The recommended predictor: several models, weighed by how well they do on networks that they did not see.

Stacking as Breiman, "Stacked regressions", 1996: weights are not negative and sum to 1. From few architectures
they stay close to what the errors of the models alone say. Standard deviations join what the models are unsure of
with how far they disagree, and are scaled so that 90% of the held-out errors lie within 1.645 of them (split
conformal prediction; Lei et al., "Distribution-free predictive inference for regression", 2018). Length scales are
found once, from all architectures, and then also used where some of these are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.base import Z90, Column, FeaturePredictor, Fit, Floats, folds
from predictors.contract import Prediction
from predictors.features import Features
from predictors.gradient_boosting import fit_trees
from predictors.process import tune_fine_process, tune_process
from predictors.ridge import fit_line, fit_quadratic
from predictors.sensitivity import policy_noise
from search_spaces.architecture import Genes

Tune: TypeAlias = Callable[[Floats, NDArray[np.int64], Floats], Fit]
"""Finds hyperparameters from features (n, columns), the block of each column, and one target (n,)."""


def untuned(fit: Callable[[Floats, NDArray[np.int64], Floats], Column]) -> Tune:
    """Of a model that has none, or finds them at every fit."""
    return lambda _x, groups, _y: lambda x, y: fit(x, groups, y)


MEMBERS = (untuned(fit_line), untuned(fit_quadratic), tune_process, tune_fine_process, untuned(fit_trees))
ENOUGH = 5
"""Of fewer architectures nothing can be held out: the Gaussian process alone has to do."""
TRUST = np.array([1.0, 1.0, 3.0, 1.0, 1.0])
"""Before any error is known: the process of few length scales is the best single model on most tables."""
PSEUDO = 100.0
"""So many architectures speak for the weights that trust and the errors of the models alone suggest."""
CAUTION = 20.0
"""As many architectures speak for standard deviations as the models give them."""
NEGLIGIBLE = 0.05
"""Models of less weight are left out, which saves time."""


@dataclass(frozen=True)
class Stack(Column):
    """One target: models with their weights and own errors, and the factor of the standard deviation."""

    models: Sequence[Column]
    weights: Floats
    errors: Floats
    factor: float
    held_out: tuple[Floats, Floats] | None
    """Mean and standard deviation of the architectures learnt from, as expected without them."""

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        means, stds = np.stack([model.guess(x) for model in self.models], axis=1)
        mean, std = _joined(self.weights, self.errors, means, stds)
        return mean, std * self.factor

    def mean(self, x: Floats) -> Floats:
        """See `Column`."""
        return self.weights @ np.stack([model.mean(x) for model in self.models])


class Auto(FeaturePredictor[Stack]):
    """A line through costs and scores, ridge regression, two Gaussian processes and boosted trees, stacked."""

    tunes: ClassVar[tuple[Tune, ...]] = MEMBERS
    trust: ClassVar[Floats] = TRUST

    def features(self, genes: Genes) -> Features:
        """As of every predictor and, where policies of quantization differ, how much of the signal they lose."""
        return Features(self.space, self.scores, genes, policy_noise(self.space))

    def held_out(self) -> Prediction:
        """As of every predictor; known from the fit where there were enough architectures."""
        columns = self._columns
        if any(column and column[1].held_out is None for column in columns):
            return super().held_out()
        _, targets = self.learnt()
        out = Prediction(targets.copy(), np.zeros_like(targets))
        for i, column in enumerate(columns):
            if column and column[1].held_out:
                out.mean[:, i], out.std[:, i] = column[0].back(*column[1].held_out)
        return out

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> Stack:
        """See `FeaturePredictor`."""
        if len(y) < ENOUGH:
            return Stack([tune_process(x, groups, y)(x, y)], np.ones(1), np.zeros(1), 1.0, None)
        fits = [tune(x, groups, y) for tune in self.tunes]
        means, stds = np.zeros((2, len(fits), len(y)))
        for seen, unseen in folds(len(y)):
            for i, fit in enumerate(fits):
                means[i, unseen], stds[i, unseen] = fit(x[seen], y[seen]).guess(x[unseen])
        errors = np.sqrt(((means - y) ** 2).mean(axis=1))
        weights = stacked(means, y, errors, self.trust)
        kept = np.flatnonzero(weights)
        weights, errors = weights[kept], errors[kept]
        mean, std = _joined(weights, errors, means[kept], stds[kept])
        factor = _factor(y - mean, std)
        models = [fits[i](x, y) for i in kept]
        return Stack(models, weights, errors, factor, (mean, std * factor))


def stacked(means: Floats, y: Floats, errors: Floats, trust: Floats) -> Floats:
    """Weights of models from their held-out predictions (models, n), errors and trust (models,); they sum to 1."""
    from scipy.optimize import nnls

    alone = trust * np.maximum(errors, 1e-9 + 1e-6 * errors.max()) ** -4.0
    alone /= alone.sum()
    disagreement = np.sqrt(PSEUDO * means.var(axis=0).mean())
    one = 1e3 * np.sqrt(len(y)) * np.ones(len(means))  # holds the sum
    rows = np.concatenate([means.T, disagreement * np.eye(len(means)), one[None]])
    weights, _ = nnls(rows, np.concatenate([y, disagreement * alone, one[:1]]))
    weights = np.where(weights < NEGLIGIBLE * weights.max(), 0.0, weights)
    return np.asarray(weights / weights.sum())


def _joined(weights: Floats, errors: Floats, means: Floats, stds: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (n,) of a mixture of models (models, n); those without a std have `errors`."""
    own = np.where(stds > 0, stds, errors[:, None])
    mean = weights @ means
    return mean, np.sqrt(weights @ (own**2 + (means - mean) ** 2))


def _factor(off: Floats, std: Floats) -> float:
    """What makes 1.645 standard deviations hold nine of ten held-out errors; close to 1 where these are few."""
    ratios = np.sort(np.abs(off) / np.maximum(std, 1e-12))
    place = min(len(ratios), int(np.ceil(0.9 * (len(ratios) + 1)))) - 1
    return float((ratios[place] / Z90) ** (len(off) / (len(off) + CAUTION)))
