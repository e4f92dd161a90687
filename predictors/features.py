"""What predictors see of an architecture: its genes, encoded, and the costs that formulas give for free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes
from search_spaces.encodings import mixed
from search_spaces.space import Space


def gene_features(space: Space, genes: Genes) -> NDArray[np.float64]:
    """Canonical genes, encoded so that two values of a choice lie at most 1 apart. Shape (n, columns)."""
    return mixed(space, genes) * _column_scales(space)


def column_choices(space: Space) -> NDArray[np.int64]:
    """The choice that every column of `gene_features` belongs to, shape (columns,)."""
    return np.repeat(np.arange(len(space.choices)), _widths(space))


def cost_features(space: Space, genes: Genes) -> NDArray[np.float64]:
    """Costs known from formulas, on a logarithmic scale. Shape (n, costs); no columns without formulas."""
    columns = [np.arcsinh(column) for column in space.costs(genes).values()]  # a logarithm that allows 0
    return np.stack(columns, axis=1) if columns else np.zeros((len(genes), 0))


def targets_2d(targets: NDArray[np.float64], n: int) -> NDArray[np.float64]:
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


def _widths(space: Space) -> list[int]:
    return [1 + bool(c.when) if c.ordered else len(c.values) for c in space.choices]


def _column_scales(space: Space) -> NDArray[np.float64]:
    scales = [1.0 if c.ordered else np.sqrt(0.5) for c in space.choices]
    return np.repeat(scales, _widths(space)) if scales else np.zeros(0)
