"""Populations as feature matrices for predictors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes
from search_spaces.space import Space


def one_hot(space: Space, genes: Genes) -> NDArray[np.float64]:
    """One column a value of every choice; all zero for a gene without effect. Shape (n, sum of sizes)."""
    offsets = np.concatenate([[0], np.cumsum(space.sizes)]).astype(np.int64)
    out = np.zeros((len(genes), int(offsets[-1])))
    rows = np.repeat(np.arange(len(genes)), genes.shape[1])
    out[rows, (genes + offsets[:-1]).ravel()] = space.active(genes).ravel()
    return out


def ordinal(space: Space, genes: Genes) -> NDArray[np.float64]:
    """One column a choice: the position of the value, scaled to [0, 1]; -1 for a gene without effect.

    For choices whose values are numbers; a position means nothing for the others. Shape (n, d).
    """
    scaled = genes / np.maximum(space.sizes - 1, 1)
    return np.where(space.active(genes), scaled, -1.0)


def mixed(space: Space, genes: Genes) -> NDArray[np.float64]:
    """Numbers by position, everything else one-hot, and one column that tells whether a number has an effect.

    The encoding of FBNetV3's predictor (Dai et al., 2021): categorical choices one-hot, ordered ones scaled to
    [0, 1]. Shape (n, columns).
    """
    hot, place = one_hot(space, genes), ordinal(space, genes)
    active = space.active(genes)
    columns: list[NDArray[np.float64]] = []
    start = 0
    for i, choice in enumerate(space.choices):
        stop = start + len(choice.values)
        if choice.ordered:
            columns.append(np.maximum(place[:, i : i + 1], 0.0))
            if choice.when:
                columns.append(active[:, i : i + 1].astype(np.float64))
        else:
            columns.append(hot[:, start:stop])
        start = stop
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(genes), 0))
