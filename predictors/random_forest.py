"""A random forest of extremely randomised trees (Geurts, Ernst, Wehenkel, "Extremely randomized trees", 2006).

Every tree sees a bootstrap sample, so that the rest (out of bag) tells how far such guesses are off (Breiman,
"Random forests", 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors.base import Column, FeaturePredictor, Floats

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

TREES = 200


@dataclass(frozen=True)
class Forest(Column):
    """A forest for one target."""

    trees: ExtraTreesRegressor
    scale: float

    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Column`."""
        mean, std = _guess(self.trees, x)
        return mean, std * self.scale


class RandomForest(FeaturePredictor[Forest]):
    """`std` is the spread of the trees, scaled so that it fits the errors out of bag."""

    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> Forest:
        """See `FeaturePredictor`."""
        import warnings

        from sklearn.ensemble import ExtraTreesRegressor

        y = np.round(y, 6)  # so that the unit of a target does not decide between splits that are equally good
        trees = ExtraTreesRegressor(TREES, max_features=0.5, bootstrap=True, oob_score=True, random_state=0)
        with warnings.catch_warnings():  # of very few rows some are in every bag; they are left out below
            warnings.simplefilter("ignore", UserWarning)
            trees.fit(x, y)
        off = trees.oob_prediction_ - y
        _, std = _guess(trees, x)
        seen = np.isfinite(off) & (std > 0)
        spread = float(np.sqrt((std[seen] ** 2).mean())) if seen.any() else 0.0
        return Forest(trees, float(np.sqrt((off[seen] ** 2).mean())) / spread if spread else 1.0)


def _guess(trees: ExtraTreesRegressor, x: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of the trees, each of shape (n,); one tree at a time, so that memory does not grow."""
    rows = np.ascontiguousarray(x, dtype=np.float32)
    total, squares = np.zeros((2, len(rows)))
    for tree in trees.estimators_:
        found = tree.predict(rows, check_input=False)
        total += found
        squares += found**2
    mean = total / len(trees.estimators_)
    return mean, np.sqrt(np.maximum(squares / len(trees.estimators_) - mean**2, 0.0))
