"""Which sizes of groups fit the layers of a space: a group of weights is a whole part of its row.

A row holds the weights of one output channel. Where it is no longer than the group, it is one group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Choice, Genes
from search_spaces.declared import DeclaredSpace
from search_spaces.faults import SpecError
from search_spaces.feature import Feature, at_least
from search_spaces.network import Network
from search_spaces.operations import Operation
from search_spaces.quantization import FLOAT_BITS, LARGEST_GROUP
from search_spaces.variables import Values

ALL = 4096
"""Spaces of no more networks than this are looked at whole."""
DRAWN = 256
"""Networks that are drawn from larger ones; to these come those that differ from the smallest or the largest
values in one choice."""
SUGGESTED = 6


def check_groups(space: DeclaredSpace) -> None:
    """Refuse sizes of groups that leave a rest in a row of some network.

    Raises:
        SpecError: at `quantization.group_size`, naming such rows and sizes that would do.
    """
    section = space.document.quantization
    if section.weight_bits.values == (FLOAT_BITS,) or "group" not in section.weight_granularity.values:
        return
    found, sizes = rows(space), np.array(section.group_size.values)
    wrong = [int(size) for size in sizes[~fitting(found, sizes)]]
    if wrong:
        told = "; ".join(_wrong(size, found) for size in wrong[:3])
        raise SpecError.at("quantization.group_size", f"{told}; {_allowed(found)}")


def rows(space: DeclaredSpace) -> dict[int, str]:
    """Lengths of rows in the networks of a space, each with a layer that has it; of large spaces, most of them."""
    genes = np.unique(space.canonical_genes(_population(space)), axis=0)
    listener = Rows()
    space.write(listener, Values(genes))
    return dict(sorted(listener.found.items()))


def fitting(found: Mapping[int, str], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which sizes leave no rest in any row that is longer."""
    fit = np.ones(len(sizes), bool)
    for length in found:  # one after the other: there may be many of both
        fit &= (length <= sizes) | (length % sizes == 0)
    return fit


class Rows(Network):
    """Collects the lengths of the rows of all layers that can be quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.folds = True
        self.found: dict[int, str] = {}
        """The first layer of each length."""

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if operation.quantized and self.there is not False:
            row = np.asarray(operation.weights(*inputs) // at_least(y.channels, 1))
            there = np.broadcast_to(self.there, np.broadcast_shapes(row.shape, np.shape(self.there)))
            for length in np.unique(np.broadcast_to(row, there.shape)[there]).tolist():
                self.found.setdefault(length, name)
        return y


def _population(space: DeclaredSpace) -> Genes:
    """Networks that show what rows there are: of choices of the architecture, other genes are 0."""
    sizes = np.array([len(c.values) if _shapes(c) else 1 for c in space.choices], dtype=np.int64)
    count = math.prod(sizes.tolist())
    if count <= ALL:
        several = np.flatnonzero(sizes > 1)
        genes = np.zeros((count, len(sizes)), dtype=np.int64)
        genes[:, several] = np.indices(tuple(sizes[several])).reshape(len(several), count).T
        return genes
    drawn = np.random.default_rng(0).integers(0, sizes, size=(DRAWN, len(sizes)))
    return np.concatenate([drawn, *(_around(base, sizes) for base in (0 * sizes, sizes - 1))])


def _around(base: NDArray[np.int64], sizes: NDArray[np.int64]) -> Genes:
    """The genes, and all that differ from them in one."""
    column = np.repeat(np.arange(len(sizes)), sizes)
    found = np.tile(base, (len(column), 1))
    found[np.arange(len(column)), column] = np.concatenate([np.arange(size) for size in sizes])
    return found


def _shapes(choice: Choice) -> bool:
    return not choice.name.startswith(("quantization.", "recipe."))


def _wrong(size: int, found: Mapping[int, str]) -> str:
    length, layer = next((n, name) for n, name in found.items() if n > size and n % size)
    return f"{size} does not divide the {length} weights of an output channel of {layer}"


def _allowed(found: Mapping[int, str]) -> str:
    longest = max(found)
    tried = np.arange(2, min(longest, LARGEST_GROUP + 1))
    told = [str(size) for size in tried[fitting(found, tried)][:SUGGESTED].tolist()]
    if longest <= LARGEST_GROUP:
        told.append(f"integers >= {longest}, where a group is a whole channel")
    return f"allowed: {', '.join(told) or 'none in this space'}"
