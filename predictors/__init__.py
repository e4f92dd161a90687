"""Guess the metrics of an architecture, and say how sure the guess is."""

from predictors.auto import Auto
from predictors.contract import Prediction, Predictor
from predictors.features import Scores
from predictors.files import FileFault, load, save
from predictors.gaussian_process import GaussianProcess
from predictors.gradient_boosting import GradientBoosting
from predictors.latency import Latency
from predictors.mlp import MlpEnsemble
from predictors.process import BlockProcess
from predictors.quality import Measured, Quality, quality
from predictors.random_forest import RandomForest
from predictors.ridge import Ridge
from predictors.scores import Prior, ScoreTable
from predictors.transfer import Transfer
from predictors.zero_cost import Proxy, ZeroCost, consensus
from search_spaces.space import Space

__all__ = [
    "Auto",
    "BlockProcess",
    "FileFault",
    "GaussianProcess",
    "GradientBoosting",
    "Latency",
    "Measured",
    "MlpEnsemble",
    "Prediction",
    "Predictor",
    "Prior",
    "Proxy",
    "Quality",
    "RandomForest",
    "Ridge",
    "ScoreTable",
    "Scores",
    "Transfer",
    "ZeroCost",
    "auto",
    "consensus",
    "load",
    "quality",
    "save",
]


def auto(space: Space, scores: Scores | None = None) -> Auto:
    """The recommended predictor for a space, not fitted yet; `scores`: zero-cost scores, where there are some."""
    return Auto(space, scores)
