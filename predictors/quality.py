"""How far a predictor can be trusted: how well it ranks, and whether its standard deviations are true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.base import Z90, GenePredictor

Floats = NDArray[np.float64]

Z50 = 0.6745
DRAWS = 200
RANGES = np.array([[-1.0, 1.0]] * 2 + [[0.0, 1.0]] * 4 + [[0.0, np.inf]])
"""What the figures of `Quality` can be, in their order."""
SHARES = slice(2, 6)
MAX_ROWS = 300
"""Bootstrap samples are of at most so many rows (an m-out-of-n bootstrap): rank correlations take n log n each."""


@dataclass(frozen=True)
class Measured:
    """A figure with its 90% interval: by the bootstrap, and of shares by Wilson's score.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Where all of a few errors
    are covered, every bootstrap sample agrees, but nothing is certain.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """Of one target, from architectures that were not learnt from."""

    count: int
    """Architectures that were compared."""
    kendall: Measured
    """Kendall's tau-b between what was expected and what was measured; 0 where either does not vary."""
    spearman: Measured
    precision: Measured
    """Share of the expected best tenth (the greatest values, at least one) that is among the real best tenth."""
    precision_low: Measured
    """The same of the smallest values."""
    coverage_50: Measured
    """Share of measurements inside the interval that should hold half of them."""
    coverage_90: Measured
    z_squared: Measured
    """Mean square of the error over its standard deviation; 1 where that is true, 0 where nothing varies."""

    @classmethod
    def of(cls, truth: Floats, mean: Floats, std: Floats, seed: int = 0) -> Self:
        """From measurements (n,), expectations (n,) and their standard deviations (n,).

        Raises:
            ValueError: for fewer than 2 measurements, or shapes that differ.
        """
        if truth.ndim != 1 or len(truth) < 2 or not truth.shape == mean.shape == std.shape:
            shapes = f"{truth.shape}, {mean.shape} and {std.shape}"
            raise ValueError(f"truth, mean and std have shapes {shapes}; allowed: three times (n,), n >= 2")
        rows = np.stack([truth, mean, std])
        rng = np.random.default_rng(seed)
        size = min(len(truth), MAX_ROWS)
        drawn = np.stack([_figures(rows[:, rng.integers(0, len(truth), size)]) for _ in range(DRAWS)])
        value = np.array(_figures(rows))
        narrower = np.sqrt(size / len(truth))  # smaller samples scatter more
        low, high = value + narrower * (np.quantile(drawn, [0.05, 0.95], axis=0) - np.median(drawn, axis=0))
        low, high = np.clip([low, high], *RANGES.T)
        of = np.array([_tenth(len(truth))] * 2 + [len(truth)] * 2)
        low[SHARES], high[SHARES] = _wilson(value[SHARES], of)
        return cls(len(truth), *(Measured(*map(float, f)) for f in zip(value, low, high, strict=True)))


def quality(predictor: GenePredictor, seed: int = 0) -> list[Quality]:
    """Of a fitted predictor, target by target, by leaving out parts of what it has learnt from.

    Raises:
        RuntimeError: before `fit`.
        ValueError: after a fit to a single architecture.
    """
    _, targets = predictor.learnt()
    held_out = predictor.held_out()
    columns = zip(targets.T, held_out.mean.T, held_out.std.T, strict=True)
    return [Quality.of(truth, mean, std, seed) for truth, mean, std in columns]


def _figures(rows: Floats) -> Sequence[float]:
    """The figures of `Quality`, in their order, from truth, mean and std of shape (3, n)."""
    from scipy.stats import kendalltau, spearmanr

    truth, mean, std = rows
    vary = np.ptp(truth) > 0 and np.ptp(mean) > 0
    z = np.abs(mean - truth) / np.where(std > 0, std, 1.0)
    z = np.where((std > 0) | (mean == truth), z, np.inf)
    return [
        float(kendalltau(mean, truth).statistic) if vary else 0.0,
        float(spearmanr(mean, truth).statistic) if vary else 0.0,
        _precision(truth, mean),
        _precision(-truth, -mean),
        float((z <= Z50).mean()),
        float((z <= Z90).mean()),
        float((np.minimum(z, 1e3) ** 2).mean()),
    ]


def _precision(truth: Floats, mean: Floats) -> float:
    best = _tenth(len(truth))
    threshold = np.sort(truth)[-best]
    return float((truth[np.argsort(-mean, kind="stable")[:best]] >= threshold).mean())


def _tenth(n: int) -> int:
    return max(1, round(n / 10))


def _wilson(shares: Floats, of: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Ends of the 90% intervals of shares (k,), each of so many."""
    square = Z90**2
    centre = (of * shares + square / 2) / (of + square)
    half = Z90 * np.sqrt(of * shares * (1 - shares) + square / 4) / (of + square)
    return np.clip(centre - half, 0.0, shares), np.clip(centre + half, shares, 1.0)  # rounding aside
