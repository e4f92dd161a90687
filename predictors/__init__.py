"""Guess the metrics of an architecture, and say how sure the guess is."""

from predictors.contract import Prediction, Predictor
from predictors.gaussian_process import GaussianProcess
from predictors.gradient_boosting import GradientBoosting
from search_spaces.space import Space

__all__ = ["GaussianProcess", "GradientBoosting", "Prediction", "Predictor", "auto"]


def auto(space: Space) -> Predictor:
    """The recommended predictor for a space, not fitted yet."""
    return GaussianProcess(space)
