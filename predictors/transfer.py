"""Latency on one device from many networks measured on others and a few on it.

Devices mostly agree on which networks are slow (Lu et al., "One proxy device is enough for hardware-aware neural
architecture search", 2021; Lee et al., "HELP", 2021, learn over many devices). So the source's prediction is
mapped to the target by as few numbers as held-out networks call for, and what is left over is learnt anew. Where
devices disagree, the map becomes constant, and what is learnt from the target's own networks alone is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from predictors.auto import ENOUGH, _factor, _joined, stacked
from predictors.base import Floats, GenePredictor, varies
from predictors.contract import Prediction, Predictor
from predictors.features import Scores
from predictors.latency import Latency
from predictors.scores import Prior
from search_spaces.architecture import Genes
from search_spaces.space import Space

TRUST = np.array([10.0, 2.0, 1.0])
"""In the map, in the map with what it leaves over, in the target's networks alone: the fewer numbers, the more."""


@dataclass(frozen=True)
class Map:
    """One source's prediction, brought to the target: ``offset + slope x prediction``, slope >= 0."""

    source: int
    offset: float
    slope: float
    unseen: Floats
    """What is expected of every network learnt from by the same kind of map without it, shape (n,)."""
    error: float
    """Root mean square of how far that is off."""

    @classmethod
    def best(cls, sources: Floats, y: Floats) -> Self:
        """From predictions (n, k) of k sources and a target (n,): as it is, scaled, moved too, or the mean alone.

        The least leave-one-out error decides.
        """
        maps = [cls._of(0, sources[:, 0], y, slope=0.0)]
        for k, s in enumerate(sources.T):
            moved, spread = s - s.mean(), float(((s - s.mean()) ** 2).sum())
            maps.append(cls(k, 0.0, 1.0, s, _size(y - s)))
            if (square := float(s @ s)) > 0 and s @ y > 0:
                slope, leverage = float(s @ y) / square, s**2 / square
                maps.append(cls._left_out(k, 0.0, slope, s, y, leverage))
            if len(y) > 2 and spread > 0 and moved @ y > 0:
                slope, leverage = float(moved @ y) / spread, 1 / len(y) + moved**2 / spread
                maps.append(cls._left_out(k, float(y.mean() - slope * s.mean()), slope, s, y, leverage))
        if len(y) < ENOUGH and len(maps) > 1:
            maps = maps[1:]  # so few agree with the mean by chance
        return min(maps, key=lambda m: m.error)

    @classmethod
    def _of(cls, source: int, s: Floats, y: Floats, slope: float) -> Self:
        return cls._left_out(source, float(y.mean()), slope, s, y, np.full(len(y), 1 / len(y)))

    @classmethod
    def _left_out(cls, source: int, offset: float, slope: float, s: Floats, y: Floats, leverage: Floats) -> Self:
        errors = (y - offset - slope * s) / np.maximum(1 - leverage, 1e-9)
        return cls(source, offset, slope, y - errors, _size(errors))

    def __call__(self, sources: Floats) -> Floats:
        """Of predictions (n, k), shape (n,)."""
        return self.offset + self.slope * sources[:, self.source]


class Transfer(GenePredictor):
    """The mapped source, that with a model of what it leaves over, and what the target's own networks teach.

    They are weighed by how well they do on networks held out; `std` is made as that of `auto`. From a single
    network, as from equal targets, nothing but that value is learnt.
    """

    def __init__(self, space: Space, source: Predictor, scores: Scores | None = None) -> None:
        """`source`: fitted to one device or to several (a target each), on a space with the choices of `space`.

        Raises:
            ValueError: for a source that knows other choices.
        """
        super().__init__(space, scores)
        self._source = Prior(space, source)

    def _learn(self, genes: Genes, targets: Floats) -> None:
        sources = self._source(genes)
        self._level, self._varies = targets.mean(axis=0), varies(targets)
        self._maps = [Map.best(sources, y) for y in targets.T]
        unseen = np.stack([m.unseen for m in self._maps], axis=1)
        self._rest = Latency(self.space, self.scores).fit_genes(genes, targets - unseen)
        self._alone = Latency(self.space, self.scores).fit_genes(genes, targets)
        members, (count, number) = len(TRUST), targets.shape
        self._weights, self._errors = np.eye(members)[:, :1].repeat(number, axis=1), np.zeros((members, number))
        self._errors[0] = [m.error for m in self._maps]
        self._factors = np.ones(number)
        if count < ENOUGH:
            return
        means, stds = _voices(unseen, self._rest.held_out(), self._alone.held_out())
        self._errors = np.sqrt(((means - targets) ** 2).mean(axis=1))
        for i in np.flatnonzero(self._varies):
            self._weights[:, i] = stacked(means[..., i], targets[:, i], self._errors[:, i], TRUST)
            mean, std = _joined(self._weights[:, i], self._errors[:, i], means[..., i], stds[..., i])
            self._factors[i] = _factor(targets[:, i] - mean, std)

    def _guess(self, genes: Genes) -> Prediction:
        sources = self._source(genes)
        mapped = np.stack([m(sources) for m in self._maps], axis=1)
        means, stds = _voices(mapped, self._rest.predict_genes(genes), self._alone.predict_genes(genes))
        out = Prediction(np.tile(self._level, (len(genes), 1)), np.zeros(mapped.shape))
        for i in np.flatnonzero(self._varies):
            mean, std = _joined(self._weights[:, i], self._errors[:, i], means[..., i], stds[..., i])
            out.mean[:, i], out.std[:, i] = mean, std * self._factors[i]
        return out


def _voices(mapped: Floats, rest: Prediction, alone: Prediction) -> tuple[Floats, Floats]:
    """Means and standard deviations of all members, each (members, n, t); 0: the member's error stands in."""
    means = np.stack([mapped, mapped + rest.mean, alone.mean])
    return means, np.stack([np.zeros_like(mapped), rest.std, alone.std])


def _size(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))
