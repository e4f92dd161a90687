"""The operators of every search, once for all spaces, on populations of shape (n, d).

Each takes and gives canonical genes. Randomness comes in as a generator; nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes
from search_spaces.space import Space

MAX_TRIES = 16


def sample(space: Space, n: int, rng: np.random.Generator) -> Genes:
    """`n` architectures, every gene uniform over its values. Shape (n, d)."""
    return space.canonical_genes(rng.integers(0, space.sizes, size=(n, len(space.choices))))


def mutate(space: Space, genes: Genes, rng: np.random.Generator) -> Genes:
    """Every row with one gene that has an effect set to another value. Shape (n, d).

    In spaces where several gene tuples mean one network a change may cancel out; it is drawn again, at most
    `MAX_TRIES` times, then one of the row's neighbours is taken. A row that no single gene changes (a space of
    one network) comes back as it was.
    """
    if not genes.size:
        return genes.copy()
    out = space.canonical_genes(_change_one(space, genes, rng))
    todo = np.flatnonzero((out == genes).all(axis=1))
    for _ in range(MAX_TRIES - 1):
        if not len(todo):
            break
        out[todo] = space.canonical_genes(_change_one(space, genes[todo], rng))
        todo = todo[(out[todo] == genes[todo]).all(axis=1)]
    for row in todo:
        around = neighbours(space, genes[row])
        if len(around):
            out[row] = around[rng.integers(len(around))]
    return out


def crossover(space: Space, mothers: Genes, fathers: Genes, rng: np.random.Generator) -> Genes:
    """Uniform crossover: every gene from one of the two parents. All of shape (n, d)."""
    return space.canonical_genes(np.where(rng.random(mothers.shape) < 0.5, mothers, fathers))


def neighbours(space: Space, genes: NDArray[np.int64]) -> Genes:
    """All other networks one gene away from the architecture `genes` of shape (d,). Shape (m, d), distinct."""
    rows = [genes]
    active = space.active(genes[None])[0]
    for column in np.flatnonzero(active):
        others = np.delete(np.arange(space.sizes[column]), genes[column])
        changed = np.repeat(genes[None], len(others), axis=0)
        changed[:, column] = others
        rows.extend(changed)
    found = _distinct(space.canonical_genes(np.stack(rows)))
    different: Genes = found[(found != genes).any(axis=1)]
    return different


def enumerate_all(space: Space, limit: int) -> Genes | None:
    """Every network of the space, distinct and canonical; None if there are more than `limit` gene tuples."""
    if space.size > limit:
        return None
    index = np.arange(space.size)
    columns = np.unravel_index(index, tuple(space.sizes.tolist())) if len(space.choices) else ()
    genes = np.stack(columns, axis=1) if columns else np.zeros((1, 0), dtype=np.int64)
    return _distinct(space.canonical_genes(genes.astype(np.int64)))


def identities(genes: Genes) -> Iterator[bytes]:
    """Each row as bytes, to be looked up in a set."""
    return (row.tobytes() for row in np.ascontiguousarray(genes, dtype=np.int64))


def _change_one(space: Space, genes: Genes, rng: np.random.Generator) -> Genes:
    open_to_change = space.active(genes) & (space.sizes > 1)
    draws = np.where(open_to_change, rng.random(genes.shape), -1.0)
    rows, columns = np.arange(len(genes)), draws.argmax(axis=1)
    sizes = space.sizes[columns]
    step = rng.integers(1, np.maximum(sizes, 2))  # 1 .. size - 1: never the value it has
    out = genes.copy()
    out[rows, columns] = (genes[rows, columns] + step) % sizes
    return out


def _distinct(genes: Genes) -> Genes:
    """Rows without repeats, in the order in which they first appear."""
    if genes.shape[1] == 0:
        return genes[:1]
    _, first = np.unique(genes, axis=0, return_index=True)
    return genes[np.sort(first)]
