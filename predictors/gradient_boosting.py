"""Gradient-boosted trees (LightGBM; Ke et al., NeurIPS 2017), bagged: their spread says how sure they are.

Breiman, "Bagging predictors", 1996. The architectures that a member did not see tell how far such guesses
are off, and set the scale of the spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from predictors.contract import Prediction
from predictors.features import cost_features, gene_features, targets_2d
from search_spaces import Architecture
from search_spaces.architecture import Genes
from search_spaces.space import Space

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]

ROUNDS = 200
PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.1,
    "num_leaves": 4,
    "min_data_in_bin": 1,
    "feature_fraction": 0.7,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


class GradientBoosting:
    """An ensemble of boosted trees for each target.

    `std` is the spread of the members, scaled to fit their errors on architectures that they did not see.
    """

    def __init__(self, space: Space, members: int = 10) -> None:
        if members < 2:
            raise ValueError(f"members is {members}; allowed: integers >= 2")
        self._space, self._size = space, members
        self._ensembles: list[list[Booster]] = []

    def fit(self, archs: Sequence[Architecture], targets: Floats) -> Self:
        """Learn from n architectures and targets of shape (n, t) or (n,).

        Raises:
            ValueError: for targets that are not finite or of another shape.
        """
        return self.fit_genes(self._space.canonical_genes(self._space.genes(archs)), targets)

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation, each of shape (n, t).

        Raises:
            RuntimeError: before `fit`.
        """
        return self.predict_genes(self._space.canonical_genes(self._space.genes(archs)))

    def fit_genes(self, genes: Genes, targets: Floats) -> Self:
        """As `fit`, from canonical genes of shape (n, d)."""
        y = targets_2d(targets, len(genes))
        self._centre, self._spread = y.mean(axis=0), y.std(axis=0)
        scaled = (y - self._centre) / np.where(self._spread > 0, self._spread, 1.0)
        x = self._features(genes)
        bags = np.random.default_rng(0).integers(0, len(x), size=(self._size, len(x)))
        self._ensembles = [[_boost(x[bag], column[bag]) for bag in bags] for column in scaled.T]
        self._scales = np.array(
            [_scale(e, bags, x, column) for e, column in zip(self._ensembles, scaled.T, strict=True)]
        )
        return self

    def predict_genes(self, genes: Genes) -> Prediction:
        """As `predict`, from canonical genes of shape (n, d)."""
        if not self._ensembles:
            raise RuntimeError("gradient boosting was not fitted; call fit first")
        if not len(genes):
            return Prediction(*np.zeros((2, 0, len(self._ensembles))))
        x = self._features(genes)
        guesses = np.stack([_guesses(e, x) for e in self._ensembles], axis=2)
        mean = guesses.mean(axis=0) * self._spread + self._centre
        return Prediction(mean, guesses.std(axis=0) * self._scales * self._spread)

    def _features(self, genes: Genes) -> Floats:
        return np.concatenate([gene_features(self._space, genes), cost_features(self._space, genes)], axis=1)


def _boost(x: Floats, y: Floats) -> Booster:
    import lightgbm

    parameters = {**PARAMETERS, "min_data_in_leaf": 2 if len(x) >= 10 else 1}
    return lightgbm.train(parameters, lightgbm.Dataset(x, y), num_boost_round=ROUNDS)


def _guesses(ensemble: Sequence[Booster], x: Floats) -> Floats:
    """What every member expects, shape (members, n)."""
    return np.stack([np.asarray(member.predict(x, num_threads=1)) for member in ensemble])


def _scale(ensemble: Sequence[Booster], bags: NDArray[np.int64], x: Floats, y: Floats) -> float:
    """Root mean square of the error over that of the spread, on rows that two members or more did not see."""
    unseen = np.stack([~np.isin(np.arange(len(x)), bag) for bag in bags])
    count = unseen.sum(axis=0)
    known = count >= 2
    if not known.any():
        return 1.0
    guesses, unseen, count = _guesses(ensemble, x)[:, known], unseen[:, known], count[known]
    mean = (guesses * unseen).sum(axis=0) / count
    spread = (((guesses - mean) ** 2) * unseen).sum() / count.sum()
    error = ((mean - y[known]) ** 2).mean()
    return float(np.sqrt(error / spread)) if spread > 0 else 1.0
