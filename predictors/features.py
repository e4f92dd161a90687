"""What predictors see of an architecture: its genes, how it is wired, free costs, and zero-cost scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes
from search_spaces.encodings import counts, mixed
from search_spaces.space import Space

Floats = NDArray[np.float64]
Scores: TypeAlias = Callable[[Genes], Floats]
"""Gives scores of canonical genes (n, d), shape (n, k); not finite where there is none, or a network is dead."""

DEAR = "peak_activation_bytes"
"""Counting it takes three times as long as all other costs together, and says little that they do not."""
GENES, COUNTS, STRUCTURE, COSTS, SCORES, MORE = range(6)
"""The blocks of columns; see `Features`."""


def gene_features(space: Space, genes: Genes) -> Floats:
    """Canonical genes, encoded so that two values of a choice lie at most 1 apart. Shape (n, columns)."""
    return mixed(space, genes) * _column_scales(space)


def column_choices(space: Space) -> NDArray[np.int64]:
    """The choice that every column of `gene_features` belongs to, shape (columns,)."""
    return np.repeat(np.arange(len(space.choices)), _widths(space))


def cost_features(space: Space, genes: Genes) -> Floats:
    """Costs known from formulas, on a logarithmic scale. Shape (n, costs); no columns without formulas.

    All but the peak of activations, see `DEAR`.
    """
    names = [name for name in space.cost_names if name != DEAR]
    costs = space.costs(genes, names) if names else {}
    columns = [np.arcsinh(costs[name]) for name in names]  # a logarithm that allows 0
    return np.stack(columns, axis=1) if columns else np.zeros((len(genes), 0))


def targets_2d(targets: Floats, n: int) -> Floats:
    """Targets of `n` architectures as (n, t).

    Raises:
        ValueError: for another number of rows, none at all, or a value that is not finite.
    """
    out = np.asarray(targets, dtype=np.float64)
    out = out[:, None] if out.ndim == 1 else out
    if out.ndim != 2 or len(out) != n:
        raise ValueError(f"targets have shape {np.shape(targets)}; allowed: ({n},) or ({n}, t)")
    if n == 0:
        raise ValueError("no architectures to learn from; at least one is needed")
    bad = np.argwhere(~np.isfinite(out))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"target {column} of architecture {row} is {out[row, column]}; allowed: finite numbers")
    return out


@dataclass(frozen=True)
class Scale:
    """Columns centred and scaled by the rows they were learnt from; columns that do not vary there become 0."""

    centre: Floats
    factor: Floats

    @classmethod
    def of(cls, columns: Floats) -> Self:
        """From columns of shape (n, k); all those that vary have together the variance 1."""
        spread = columns.std(axis=0)
        varies = spread > 1e-9 * (1 + np.abs(columns).max(axis=0, initial=0))
        factor = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0) / np.sqrt(max(1, varies.sum()))
        return cls(columns.mean(axis=0), factor)

    def __call__(self, columns: Floats) -> Floats:
        """Columns of shape (n, k), scaled."""
        return (columns - self.centre) * self.factor


@dataclass(frozen=True)
class ScoreScale:
    """Scores as numbers that can be learnt from: tamed, ranked among those known, and whether they are finite."""

    known: tuple[Floats, ...]
    """Finite scores of each kind, sorted; never empty."""

    @classmethod
    def of(cls, scores: Floats) -> Self:
        """From scores (n, k) of the architectures to learn from."""
        finite = [np.sort(column[np.isfinite(column)]) for column in scores.T]
        return cls(tuple(column if len(column) else np.zeros(1) for column in finite))

    def __call__(self, scores: Floats) -> Floats:
        """Scores (n, k) as columns (n, 3 k), all finite. Minus infinity is the worst, not-a-number the median."""
        columns = []
        for score, known in zip(scores.T, self.known, strict=True):
            reach = known[-1] - known[0]
            full = np.nan_to_num(score, nan=float(np.median(known)), posinf=np.inf, neginf=-np.inf)
            value = np.clip(full, known[0] - reach / 2, known[-1] + reach / 2)
            rank = np.interp(value, known, np.linspace(0, 1, len(known))) - (value < known[0]) / len(known)
            columns += [value, rank, np.isfinite(score).astype(np.float64)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(scores), 0))


def score_columns(scores: Scores, genes: Genes) -> Callable[[Genes], Floats]:
    """Gives scores of canonical genes as columns (n, 3 k), tamed and scaled by those of genes to learn from."""
    known = scores(genes)
    tame = ScoreScale.of(known)
    scale = Scale.of(tame(known))
    return lambda wanted: scale(tame(scores(wanted)))


class Features:
    """Columns of architectures in blocks: genes, counts of alike genes, structure, costs, scores, others.

    Every block is scaled by the architectures that are learnt from, so that its columns have together the variance
    1: a block of many columns does not drown one of few.
    """

    def __init__(self, space: Space, scores: Scores | None, genes: Genes, more: Scores | None = None) -> None:
        """Of canonical genes (n, d) to learn from; `more`: a block of finite columns that are not tamed."""
        self._space, self._scores, self._more = space, scores, more
        self._score_scale = ScoreScale.of(scores(genes)) if scores else None
        blocks = self._blocks(genes)
        self._scales = [Scale.of(block) for block in blocks]
        self.groups = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
        """The block of every column, shape (columns,); of genes minus 1, minus 2, ...: the choice counted down."""
        self.groups[self.groups == GENES] = -1 - column_choices(space)

    def __call__(self, genes: Genes) -> Floats:
        """Of canonical genes (n, d), shape (n, columns)."""
        return np.concatenate([s(b) for s, b in zip(self._scales, self._blocks(genes), strict=True)], axis=1)

    def _blocks(self, genes: Genes) -> list[Floats]:
        space = self._space
        blocks = [gene_features(space, genes), counts(space, genes), space.structure(genes)]
        blocks.append(cost_features(space, genes))
        scored = self._scores is not None and self._score_scale is not None
        blocks.append(self._score_scale(self._scores(genes)) if scored else np.zeros((len(genes), 0)))  # type: ignore[misc]
        return [*blocks, self._more(genes)] if self._more else blocks


def _widths(space: Space) -> list[int]:
    return [1 + bool(c.when) if c.ordered else len(c.values) for c in space.choices]


def _column_scales(space: Space) -> Floats:
    scales = [1.0 if c.ordered else np.sqrt(0.5) for c in space.choices]
    return np.repeat(scales, _widths(space)) if scales else np.zeros(0)
