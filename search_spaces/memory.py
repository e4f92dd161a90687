"""The greatest memory that activations need at one moment, for populations.

Operations run one after another, as the walk names them, for one example. A tensor is held from the operation
that writes it to the last one that reads it. Batch norms, activations, gates and additions work in
place, on their last input; reshapes and slices take nothing. The input counts at its own size, in 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.feature import Count, Feature, Ints, Mask, both, negated, simplified, where
from search_spaces.network import Network, renamed
from search_spaces.operations import (
    Activation,
    Add,
    BatchNorm,
    Dropout,
    DropPath,
    Flatten,
    Multiply,
    Operation,
    Positions,
    Tokens,
    ToMap,
    ToTokens,
)

IN_PLACE = (
    *(Activation, Add, BatchNorm, Dropout, DropPath, Flatten, Multiply, Positions, ToMap, ToTokens),
    Tokens,
)
FLOAT_BITS = 32

Holders: TypeAlias = tuple[tuple[int, Mask], ...]
"""The buffers that may hold a feature, and in which networks each does."""


class Memory(Network):
    """Follows which buffers are alive after every operation."""

    def __init__(self, n: int, activation_bits: Callable[[str], Count] | None = None, folds: bool = True) -> None:
        """`n` networks; the bits at which a layer's output is kept, by its name (None: all 32)."""
        super().__init__()
        self.folds = folds
        self._n = n
        self._bits = activation_bits
        self._time = 0
        self._born: list[int] = []
        self._size: list[Ints] = []
        self._last: list[Ints] = []
        self._width: list[Count] = []

    @override
    def start(self, x: Feature) -> Feature:
        return self._write(x, FLOAT_BITS)

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        if operation.training_only:
            return renamed(operation.output(*inputs), inputs[-1].node)
        return self._run(operation, inputs, self._bits(name) if self._bits else None)

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        return self._run(operation, inputs, None)

    @override
    def select(self, mask: Mask, yes: Feature, no: Feature) -> Feature:
        mask = simplified(mask)
        chosen = super().select(mask, yes, no)
        if isinstance(mask, bool):
            return chosen
        held = [(b, both(m, mask)) for b, m in yes.node or ()] + [
            (b, both(m, negated(mask))) for b, m in no.node or ()
        ]
        return renamed(chosen, _merged(held))

    def peak_bytes(self) -> NDArray[np.int64]:
        """The greatest sum of buffers alive at one moment, shape (n,)."""
        change = np.zeros((self._time + 2, self._n), dtype=np.int64)
        networks = np.arange(self._n)
        for born, size, last in zip(self._born, self._size, self._last, strict=True):
            change[born] += size
            change[last + 1, networks] -= size
        peak: NDArray[np.int64] = change.cumsum(axis=0).max(axis=0)
        return peak

    def _run(self, operation: Operation, inputs: tuple[Feature, ...], bits: Count) -> Feature:
        y = operation.output(*inputs)
        if self.there is False:
            return renamed(y, ())
        self._time += 1
        for x in inputs:
            self._read(x)
        if isinstance(operation, IN_PLACE):
            return renamed(y, inputs[-1].node)
        if bits is None:  # what has no weights keeps the precision of what it is computed from
            bits = FLOAT_BITS
            for buffer, mask in (
                held for x in reversed(inputs) for held in x.node
            ):  # the first input's in the end
                bits = where(mask, self._width[buffer], bits)
        return self._write(y, bits)

    def _write(self, y: Feature, bits: Count) -> Feature:
        size = np.broadcast_to(-(-y.numel * bits // 8) * self.there, (self._n,)).astype(np.int64)
        self._born.append(self._time)
        self._size.append(size)
        self._last.append(np.full(self._n, self._time, dtype=np.int64))
        self._width.append(bits)
        return renamed(y, ((len(self._born) - 1, True),))

    def _read(self, x: Feature) -> None:
        for buffer, mask in x.node or ():
            held = simplified(both(mask, self.there))
            if held is not False:
                self._last[buffer] = np.where(held, self._time, self._last[buffer])


def _merged(held: list[tuple[int, Mask]]) -> Holders:
    found: dict[int, Mask] = {}
    for buffer, mask in held:
        mask = simplified(mask)
        if mask is not False:
            before = found.get(buffer, False)
            found[buffer] = simplified(mask if before is False else np.logical_or(before, mask))
    return tuple(found.items())
