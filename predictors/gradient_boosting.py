"""Gradient-boosted trees (LightGBM; Ke et al., NeurIPS 2017), bagged: their spread says how sure they are.

Friedman, "Stochastic gradient boosting", 2002; Breiman, "Bagging predictors", 1996. The architectures that a
member did not see tell how far such guesses are off, and set the scale of the spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from predictors.base import Column, FeaturePredictor, Floats
from predictors.features import Scores
from search_spaces.space import Space

if TYPE_CHECKING:
    from lightgbm import Booster

ROUNDS = 150
PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.08,
    "num_leaves": 6,
    "min_data_in_bin": 1,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}
SMALL_ROUNDS = 80
SMALL = {**PARAMETERS, "learning_rate": 0.15, "num_leaves": 4}
"""Where trees are but one voice of several, as good, and asked in half the time."""


@dataclass(frozen=True)
class Boosted(Column):
    """An ensemble of boosted trees for one target."""

    members: Sequence[Booster]
    scale: float

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        guesses = _guesses(self.members, x)
        return guesses.mean(axis=0), guesses.std(axis=0) * self.scale


class GradientBoosting(FeaturePredictor[Boosted]):
    """An ensemble of boosted trees for each target.

    `std` is the spread of the members, scaled to fit their errors on architectures that they did not see.
    """

    def __init__(self, space: Space, scores: Scores | None = None, members: int = 10) -> None:
        super().__init__(space, scores)
        if members < 2:
            raise ValueError(f"members is {members}; allowed: integers >= 2")
        self.members = members

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> Boosted:
        """See `FeaturePredictor`."""
        bags = np.random.default_rng(0).integers(0, len(x), size=(self.members, len(x)))
        ensemble = [_boost(x[bag], y[bag]) for bag in bags]
        return Boosted(ensemble, _scale(ensemble, bags, x, y))


def fit_trees(x: Floats, groups: NDArray[np.int64], y: Floats) -> Boosted:
    """One row of few and small trees without a spread, for ensembles of other kinds."""
    return Boosted([_boost(x, y, SMALL, SMALL_ROUNDS)], 0.0)


def _boost(x: Floats, y: Floats, parameters: Mapping[str, Any] = PARAMETERS, rounds: int = ROUNDS) -> Booster:
    import lightgbm

    leaf = {"min_data_in_leaf": 2 if len(x) >= 10 else 1}
    return lightgbm.train({**parameters, **leaf}, lightgbm.Dataset(x, y), num_boost_round=rounds)


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
