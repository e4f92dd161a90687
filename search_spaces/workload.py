"""What networks ask of a device: work by kind of operator, added up while a family walks through its networks.

The times of operators that run one after another add up, so a device that is known by a few rates (a call, a
multiply-accumulate, an entry read or written, each by kind) has a latency that is linear in these columns. Where
an operator either calculates or waits for memory, the roofline (Williams et al., "Roofline", 2009) takes the
larger of the two: the columns of `INTENSITIES`. Where starting it takes longer than its work, as on a GPU at batch
1, there is a floor below which work is free: those of `FLOORS`.

Batch norms after a layer count as folded into it, activations as operators of their own; reshapes take nothing.
Bits of a quantization policy do not enter: an entry is an entry.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Genes
from search_spaces.declared import CHUNK, DeclaredSpace
from search_spaces.feature import Count, Feature, Mask, at_least, both, negated, simplified
from search_spaces.network import Network
from search_spaces.operations import (
    Activation,
    Add,
    Attention,
    BatchNorm,
    Concat,
    Conv,
    Depthwise,
    Embedding,
    GlobalPool,
    LayerNorm,
    Linear,
    Multiply,
    Operation,
    Pool,
    Resize,
    Shrink,
    Subsample,
    Subtract,
    pair,
)
from search_spaces.variables import Values

KINDS = (
    *("conv 1", "conv", "depthwise 3", "depthwise 5", "depthwise", "grouped", "linear", "attention"),
    *("norm", "activation", "pool", "elementwise", "copy"),
)
"""Of operators: convolutions by the side of their window where devices treat them differently."""
QUANTITIES = ("calls", "macs", "activations", "weights")
"""Of every kind: how often, multiply-accumulates, entries read and written, and entries of weights."""
INTENSITIES = (4, 16, 64, 256)
"""Multiply-accumulates that a device does while it moves one entry."""
FLOORS = (1e6, 1e7, 1e8)
"""Multiply-accumulates that a device could do while it starts an operator."""
NAMES = (
    *(f"{kind}: {quantity}" for kind in KINDS for quantity in QUANTITIES),
    *(f"roofline {i}" for i in INTENSITIES),
    *(f"floor {f:.0e}" for f in FLOORS),
)
"""Of the columns."""
_ROOFLINE = len(KINDS) * len(QUANTITIES)
_FLOOR = _ROOFLINE + len(INTENSITIES)
_PLAIN: dict[type[Operation], str] = {
    **dict.fromkeys((BatchNorm, LayerNorm), "norm"),
    **dict.fromkeys((Pool, Shrink, GlobalPool, Resize), "pool"),
    **dict.fromkeys((Add, Subtract, Multiply), "elementwise"),
    **dict.fromkeys((Concat, Subsample, Embedding), "copy"),
    Linear: "linear",
    Attention: "attention",
    Activation: "activation",
}
"""Kinds that the class of an operation tells; other operations take no time."""


def workload(space: DeclaredSpace, genes: Genes) -> NDArray[np.float64]:
    """Work of one example's forward pass, a column each of `NAMES`. Shape (n, columns)."""
    out = np.zeros((len(genes), len(NAMES)))
    for start in range(0, len(genes), CHUNK):
        part = genes[start : start + CHUNK]
        work = Work(len(part))
        space.write(work, Values(part))
        out[start : start + CHUNK] = work.columns.T
    return out


class Work(Network):
    """Adds up the work of every network of a population."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.folds = True
        self.columns = np.zeros((len(NAMES), n))
        """A row each of `NAMES`, for n networks."""

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        return self._run(operation, inputs)

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        return self._run(operation, inputs)

    def _run(self, operation: Operation, inputs: tuple[Feature, ...]) -> Feature:
        y = operation.output(*inputs)
        if operation.training_only or self.there is False:
            return y
        macs, weights = operation.macs(y, *inputs), operation.weights(*inputs)
        moved = y.numel + sum(x.numel for x in inputs)
        for kind, mask in kinds(operation):
            there = simplified(both(self.there, mask))
            if there is not False:
                self._add(kind, self.count * there, (macs, moved, weights))
        return y

    def _add(self, kind: str, times: Count, work: tuple[Count, Count, Count]) -> None:
        macs, moved, weights = work
        first = KINDS.index(kind) * len(QUANTITIES)
        for i, quantity in enumerate((1, macs, moved, weights), first):
            self.columns[i] += times * quantity
        if isinstance(macs, int) and not macs:
            return  # neither roofline nor floor says more of it than what it moves
        for i, intensity in enumerate(INTENSITIES, _ROOFLINE):
            self.columns[i] += times * np.maximum(macs, intensity * (moved + weights))
        for i, floor in enumerate(FLOORS, _FLOOR):
            self.columns[i] += times * np.maximum(macs, floor)


def kinds(operation: Operation) -> Iterator[tuple[str, Mask]]:
    """The kinds that an operation is of, and in which networks; none for one that takes no time."""
    if isinstance(operation, Conv):
        pointwise = _side(operation.kernel) == 1
        yield "conv 1", pointwise
        yield "conv", negated(pointwise)
    elif isinstance(operation, Depthwise):
        side, alone = _side(operation.kernel), operation.group_width == 1
        yield "grouped", negated(alone)
        yield "depthwise 3", both(alone, side <= 3)
        yield "depthwise 5", both(alone, (side > 3) & (side <= 5))
        yield "depthwise", both(alone, side > 5)
    elif type(operation) in _PLAIN and not (isinstance(operation, BatchNorm) and operation.stored < 2):
        yield _PLAIN[type(operation)], True


def _side(kernel: Count) -> Count:
    """The longer side of a window."""
    height, width = pair(kernel)
    return at_least(height, width)
