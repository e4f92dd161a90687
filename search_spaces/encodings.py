"""Populations as feature matrices for predictors."""

from __future__ import annotations

import re

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
    active, values = space.active(genes).T, np.ascontiguousarray(genes.T)
    columns: list[NDArray[np.float64]] = []
    for i, choice in enumerate(space.choices):
        if choice.ordered:
            columns.append(np.where(active[i], values[i] / max(1, len(choice.values) - 1), 0.0))
            if choice.when:
                columns.append(active[i].astype(np.float64))
        else:
            columns += [((values[i] == v) & active[i]).astype(np.float64) for v in range(len(choice.values))]
    return np.stack(columns).T if columns else np.zeros((len(genes), 0))


def pairs(space: Space, genes: Genes) -> NDArray[np.float64]:
    """Products of the `one_hot` columns of every two choices: for spaces of few choices. Shape (n, columns)."""
    hot = np.split(one_hot(space, genes), np.cumsum(space.sizes)[:-1], axis=1)
    both = [(a[:, :, None] * b[:, None]).reshape(len(genes), -1) for i, a in enumerate(hot) for b in hot[i + 1 :]]
    return np.concatenate(both, axis=1) if both else np.zeros((len(genes), 0))


def counts(space: Space, genes: Genes) -> NDArray[np.float64]:
    """How often alike choices take each value: the share of all of them, genes without effect left out.

    Choices are alike if they have the same values and, up to numbers in them, the same name (the kernels of all
    blocks); and once more if they differ only in the last number (the kernels of a stage). What holds for one of
    them mostly holds for the others, so their sum can be learnt from few architectures. Shape (n, columns).
    """
    columns: list[NDArray[np.float64]] = []
    active = space.active(genes)
    for members in _alike(space):
        values, used = genes[:, members], active[:, members]
        columns += [((values == v) & used).mean(axis=1) for v in range(int(space.sizes[members[0]]))]
    return np.stack(columns, axis=1) if columns else np.zeros((len(genes), 0))


def _alike(space: Space) -> list[list[int]]:
    """Columns of choices that belong together, two or more of them each."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, choice in enumerate(space.choices):
        values = repr(choice.values)
        for name in {re.sub(r"\d+", "#", choice.name), re.sub(r"\d+(\D*)$", r"#\1", choice.name)}:
            groups.setdefault((name, values), []).append(i)
    distinct = dict.fromkeys(tuple(group) for _, group in sorted(groups.items()) if len(group) > 1)
    return [list(group) for group in distinct]
