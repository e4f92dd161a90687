"""Which cells of operations on edges compute the same function, by the rule of NAS-Bench-201.

Every node is written down as the sorted sum of what its edges bring: nothing (`none`, or an edge from a node that
has nothing), what the source is (`skip_connect`), or an operation on the source. Cells whose output reads the same
are one class (Dong and Yang, ICLR 2020, count 6,466 of them among 15,625 cells).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from search_spaces.feature import Ints

MAX_CELLS = 100_000
NOTHING = "#"


def representatives(nodes: int, operations: Sequence[str]) -> Ints:
    """For every cell the one that stands for its class, as indices into `operations`.

    Cells are ordered by their operations, those of the first edge changing slowest; edges by target, then by
    source. A class is represented by its member with most ``none``, the first of several. Shape (cells, edges).
    """
    cells: list[tuple[int, ...]] = [()]
    texts: list[tuple[str, ...]] = [("0",)]  # of a cell's nodes so far
    for node in range(1, nodes):
        endings = list(product(range(len(operations)), repeat=node))
        named = [[operations[o] for o in ending] for ending in endings]
        texts = [(*known, _sum(known, names)) for known in texts for names in named]
        cells = [(*cell, *ending) for cell in cells for ending in endings]
    numbers: dict[str, int] = {}
    classes = np.array([numbers.setdefault(known[-1], len(numbers)) for known in texts])
    table = np.array(cells, dtype=np.int64)
    none = operations.index("none") if "none" in operations else -1
    order = np.lexsort([np.arange(len(table)), -(table == none).sum(axis=1)])
    _, first = np.unique(classes[order], return_index=True)
    chosen: Ints = table[order[first]][classes]
    return chosen


def _sum(nodes: Sequence[str], operations: Sequence[str]) -> str:
    return "+".join(sorted(map(_term, nodes, operations)))


def _term(source: str, operation: str) -> str:
    if NOTHING in (source, operation.replace("none", NOTHING)):
        return NOTHING
    return source if operation == "skip_connect" else f"({source})@{operation}"
