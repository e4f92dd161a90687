"""The contract of a predictor: guess metrics of architectures, and say how sure the guess is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from search_spaces import Architecture


@dataclass(frozen=True)
class Prediction:
    """What a predictor expects of n architectures and t targets."""

    mean: NDArray[np.float64]
    """Shape (n, t), in the units of the targets."""
    std: NDArray[np.float64]
    """Shape (n, t): standard deviation of the predictor's own uncertainty, >= 0."""

    def __post_init__(self) -> None:
        if self.mean.shape != self.std.shape or self.mean.ndim != 2:
            raise ValueError(f"mean {self.mean.shape} and std {self.std.shape} must both be (n, t)")


class Predictor(Protocol):
    """Learns targets of architectures. `fit` starts afresh and is deterministic."""

    def fit(self, archs: Sequence[Architecture], targets: NDArray[np.float64]) -> Self:
        """Learn from n architectures and their targets of shape (n, t), or (n,) for one target."""
        ...

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation, each of shape (n, t)."""
        ...
