"""What all predictors share: architectures become genes, and targets are checked and brought to one scale."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from predictors.contract import Prediction
from predictors.features import Features, Scores, targets_2d
from predictors.threads import in_halves
from search_spaces import Architecture
from search_spaces.architecture import Genes
from search_spaces.space import Space

Floats = NDArray[np.float64]

Z90 = 1.6449
"""Nine of ten values of a normal distribution lie within so many standard deviations of the mean."""


class GenePredictor(ABC):
    """Architectures at the edges, canonical genes within."""

    def __init__(self, space: Space, scores: Scores | None = None) -> None:
        """`scores`: zero-cost scores of canonical genes, where there are some; see `features.Scores`."""
        self.space, self.scores = space, scores

    def fit(self, archs: Sequence[Architecture], targets: Floats) -> Self:
        """Learn from n architectures and targets of shape (n, t) or (n,).

        Raises:
            ValueError: for targets that are not finite or of another shape.
        """
        return self.fit_genes(self.space.canonical_genes(self.space.genes(archs)), targets)

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation, each of shape (n, t).

        Raises:
            RuntimeError: before `fit`.
        """
        return self.predict_genes(self.space.canonical_genes(self.space.genes(archs)))

    def fit_genes(self, genes: Genes, targets: Floats) -> Self:
        """As `fit`, from canonical genes of shape (n, d)."""
        y = targets_2d(targets, len(genes))
        self.genes, self.targets = genes, y
        """What was learnt from."""
        self._learn(*_merged(genes, y))
        return self

    def predict_genes(self, genes: Genes) -> Prediction:
        """As `predict`, from canonical genes of shape (n, d)."""
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__} was not fitted; call fit first")
        if not len(genes):
            return Prediction(*np.zeros((2, 0, self.targets.shape[1])))
        return self._guess(genes)

    def mean_genes(self, genes: Genes) -> Floats:
        """The mean of `predict_genes` alone, (n, t), for what asks a million times and needs no more."""
        return self.predict_genes(genes).mean

    @property
    def fitted(self) -> bool:
        """Whether there was a fit."""
        return hasattr(self, "targets")

    def held_out(self) -> Prediction:
        """What is expected of every architecture learnt from without it: `folds` of them at a time are left out.

        A network that was given several times counts once; see `learnt`.
        """
        genes, targets = self.learnt()
        out = Prediction(*np.zeros((2, *targets.shape)))
        for seen, unseen in folds(len(genes)):
            found = copy.copy(self).fit_genes(genes[seen], targets[seen]).predict_genes(genes[unseen])
            out.mean[unseen], out.std[unseen] = found.mean, found.std
        return out

    def learnt(self) -> tuple[Genes, Floats]:
        """Distinct genes (n, d) and targets (n, t) of the last fit; of repeated networks the mean."""
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__} was not fitted; call fit first")
        return _merged(self.genes, self.targets)

    @abstractmethod
    def _learn(self, genes: Genes, targets: Floats) -> None:
        """Learn from distinct canonical genes (n, d) and checked targets (n, t)."""

    @abstractmethod
    def _guess(self, genes: Genes) -> Prediction:
        """Predict canonical genes (n, d), n >= 1."""


class Column(ABC):
    """One target, learnt."""

    @abstractmethod
    def guess(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of features (n, columns), each of shape (n,)."""

    def mean(self, x: Floats) -> Floats:
        """The mean alone, where that is less work."""
        return self.guess(x)[0]


Fit: TypeAlias = Callable[[Floats, Floats], Column]
"""Learns one target (n,) from features (n, columns)."""
C = TypeVar("C", bound=Column)
T = TypeVar("T")


@dataclass(frozen=True)
class Warp:
    """A target on a scale that collapsed networks and slow outliers do not stretch.

    The inverse hyperbolic sine of the distance from the median, in units of the usual distance from it: linear
    near the median, logarithmic far from it.
    """

    centre: float
    unit: float
    shift: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, y: Floats) -> Self:
        """From targets (n,) that are not all equal; gives them the mean 0 and the variance 1."""
        centre = float(np.median(y))
        unit = max(1.4826 * float(np.median(np.abs(y - centre))), 0.05 * float(y.std()))
        bent = np.arcsinh((y - centre) / unit)
        return cls(centre, unit, float(bent.mean()), float(bent.std()))

    def forward(self, y: Floats) -> Floats:
        """Targets to warped targets."""
        return (np.arcsinh((y - self.centre) / self.unit) - self.shift) / self.spread

    def back(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of warped targets to those of targets.

        The mean becomes the median; the standard deviation is that of an interval which holds nine of ten.
        """
        low, middle, high = (
            np.sinh(np.clip((mean + k * std) * self.spread + self.shift, -20.0, 20.0)) for k in (-Z90, 0.0, Z90)
        )
        return self.centre + self.unit * middle, self.unit * (high - low) / (2 * Z90)


@dataclass(frozen=True)
class Line:
    """A target centred and scaled, and nothing else: what adds up goes on to do so."""

    shift: float
    spread: float

    @classmethod
    def of(cls, y: Floats) -> Self:
        """From targets (n,) that are not all equal; gives them the mean 0 and the variance 1."""
        return cls(float(y.mean()), float(y.std()))

    def forward(self, y: Floats) -> Floats:
        """See `Warp`."""
        return (y - self.shift) / self.spread

    def back(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """See `Warp`."""
        return mean * self.spread + self.shift, std * self.spread


class FeaturePredictor(GenePredictor, Generic[C]):
    """Learns each target apart from the columns of `Features`; of a target that does not vary it is certain."""

    def features(self, genes: Genes) -> Features:
        """What it sees of architectures, scaled by the canonical genes (n, d) that it learns from."""
        return Features(self.space, self.scores, genes)

    def warp(self, y: Floats) -> Warp | Line:
        """The scale on which a target (n,) that varies is learnt."""
        return Warp.of(y)

    @abstractmethod
    def learn(self, x: Floats, groups: NDArray[np.int64], y: Floats) -> C:
        """From features (n, columns) with the block of each column, and one target (n,) of mean 0, variance 1."""

    def _learn(self, genes: Genes, targets: Floats) -> None:
        self._features = self.features(genes)
        x = self._features(genes)
        self._level = targets.mean(axis=0)
        self._columns: list[tuple[Warp | Line, C] | None] = []
        for y, open_to_learn in zip(targets.T, varies(targets), strict=True):
            warp = self.warp(y) if open_to_learn else None
            self._columns.append((warp, self.learn(x, self._features.groups, warp.forward(y))) if warp else None)

    def mean_genes(self, genes: Genes) -> Floats:
        """See `GenePredictor`."""
        if not (self.fitted and len(genes)):
            return super().mean_genes(genes)
        return np.concatenate(self._shared(self._mean_rows, genes))

    def _guess(self, genes: Genes) -> Prediction:
        parts = self._shared(self._guess_rows, genes)
        return Prediction(np.concatenate([p.mean for p in parts]), np.concatenate([p.std for p in parts]))

    def _shared(self, of: Callable[[Genes], T], genes: Genes) -> list[T]:
        if self.scores:  # these may come from anywhere, and be asked by one thread at a time only
            return [of(genes)]
        return in_halves(of, genes)

    def _guess_rows(self, genes: Genes) -> Prediction:
        x = self._features(genes)
        out = Prediction(np.tile(self._level, (len(genes), 1)), np.zeros((len(genes), len(self._level))))
        for i, learnt in enumerate(self._columns):
            if learnt:
                warp, column = learnt
                out.mean[:, i], out.std[:, i] = warp.back(*column.guess(x))
        return out

    def _mean_rows(self, genes: Genes) -> Floats:
        x, certain = self._features(genes), np.zeros(len(genes))
        out = np.tile(self._level, (len(genes), 1))
        for i, learnt in enumerate(self._columns):
            if learnt:
                warp, column = learnt
                out[:, i], _ = warp.back(column.mean(x), certain)
        return out


def varies(targets: Floats) -> NDArray[np.bool_]:
    """Which of the targets (n, t) are not the same everywhere, up to rounding. Shape (t,)."""
    return np.asarray(targets.std(axis=0) > 1e-12 * np.abs(targets).max(axis=0))


def folds(n: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Rows to learn from and rows to hold out, every row once: 10 folds of fewer than 50 rows, else 5."""
    count = min(n, 10 if n < 50 else 5)
    of = np.random.default_rng(0).permutation(n) % count
    for fold in range(count):
        yield of != fold, of == fold


def _merged(genes: Genes, targets: Floats) -> tuple[Genes, Floats]:
    """Every network once, with the mean of its targets, in the order in which they first come."""
    if not genes.shape[1]:
        return genes[:1], targets.mean(axis=0, keepdims=True)
    _, first, inverse = np.unique(genes, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(genes):
        return genes, targets
    sums = np.zeros((len(first), targets.shape[1]))
    np.add.at(sums, inverse.ravel(), targets)
    means = sums / np.bincount(inverse.ravel())[:, None]
    order = np.argsort(first)
    return genes[first[order]], means[order]
