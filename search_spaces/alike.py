"""Values of a choice that come to the same network: the first of them stands for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes
from search_spaces.variables import Variable


@dataclass(frozen=True)
class Alike:
    """Which values of a gene mean the same, given the genes that it depends on."""

    columns: tuple[int, ...]
    """Of the genes that it depends on, then of itself."""
    first: NDArray[np.int64]
    """The first value that comes to the same; one axis a column."""

    def reset(self, genes: Genes) -> None:
        """Put the first of equal values into the genes, in place."""
        genes[:, self.columns[-1]] = self.first[tuple(genes[:, c] for c in self.columns)]


def alike(target: Variable, depends_on: Sequence[Variable], result: Callable[..., Any]) -> list[Alike]:
    """Where values of `target` give equal results of ``result(*others, own)``; nothing where none ever do."""
    if target.column is None:
        return []
    open_ones = [v for v in depends_on if v.column is not None]
    first = np.empty([len(v.values) for v in (*open_ones, target)], dtype=np.int64)
    for place in product(*(range(len(v.values)) for v in open_ones)):
        gene = dict(zip((v.name for v in open_ones), place, strict=True))
        others = [v.values[gene.get(v.name, 0)] for v in depends_on]
        seen: dict[Any, int] = {}
        first[place] = [seen.setdefault(result(*others, own), i) for i, own in enumerate(target.values)]
    if (first == np.arange(len(target.values))).all():
        return []
    return [Alike(tuple(v.column for v in (*open_ones, target) if v.column is not None), first)]
