"""The greatest memory that activations need at one moment, for populations.

Operations run one after another, as the walk names them, for one example. A tensor is held from the operation
that writes it to the last one that reads it. Batch norms, activations, gates and additions work in place, on
their last input; reshapes and slices take nothing; the input counts at its own size. A tensor that quantized
layers read, and nothing else, is kept at the bits of their inputs (the widest of them); sums, gates and pooling
want 32 bits, as does whatever goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.feature import Count, Feature, Mask, at_least, both, negated, simplified, where
from search_spaces.network import Network, renamed
from search_spaces.operations import (
    Activation,
    Add,
    BatchNorm,
    Dropout,
    DropPath,
    Embedding,
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
        """`n` networks; the bits at which a layer reads its input, by its name (None: all 32)."""
        super().__init__()
        self.folds = folds
        self._n = n
        self._read_bits = activation_bits
        self._time = 0
        self._buffers: list[Buffer] = []

    @override
    def start(self, x: Feature) -> Feature:
        return self._write(x)

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        if operation.training_only:
            return inputs[0]
        numbers = operation.quantized and not isinstance(operation, Embedding)  # which reads words
        bits = self._read_bits(name) if self._read_bits is not None and numbers else FLOAT_BITS
        return self._run(operation, inputs, bits)

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        return self._run(operation, inputs, FLOAT_BITS)

    @override
    def select(self, mask: Mask, yes: Feature, no: Feature) -> Feature:
        mask = simplified(mask)
        chosen = super().select(mask, yes, no)
        if isinstance(mask, bool):
            return chosen
        held = [(b, both(m, mask)) for b, m in yes.node or ()]
        held += [(b, both(m, negated(mask))) for b, m in no.node or ()]
        return renamed(chosen, _merged(held))

    def peak_bytes(self) -> NDArray[np.int64]:
        """The greatest sum of buffers alive at one moment, shape (n,)."""
        change: list[Count] = [0] * (self._time + 2)
        freed = np.zeros((self._time + 2, self._n), dtype=np.int64)
        networks = np.arange(self._n)
        for buffer in self._buffers:
            size = -(-buffer.entries * where(buffer.bits > 0, buffer.bits, FLOAT_BITS) // 8)
            change[buffer.born] = change[buffer.born] + size
            if isinstance(buffer.last, int):
                change[buffer.last + 1] = change[buffer.last + 1] - size
            else:
                freed[buffer.last + 1, networks] += size
        if all(isinstance(c, int) for c in change) and not freed.any():
            return np.full(self._n, max(accumulate(change)))
        alive = np.stack([np.broadcast_to(c, self._n) for c in change]) - freed
        peak: NDArray[np.int64] = alive.cumsum(axis=0).max(axis=0)
        return peak

    def _run(self, operation: Operation, inputs: tuple[Feature, ...], bits: Count) -> Feature:
        y = operation.output(*inputs)
        if self.there is False:
            return renamed(y, ())
        self._time += 1
        passes = isinstance(operation, IN_PLACE) and len(inputs) == 1
        for x in inputs:
            self._read(x, 0 if passes else bits)
        if isinstance(operation, IN_PLACE):
            return renamed(y, inputs[-1].node)
        return self._write(y)

    def _write(self, y: Feature) -> Feature:
        entries = y.numel if self.there is True else y.numel * self.there
        self._buffers.append(Buffer(self._time, entries, self._time))
        return renamed(y, ((len(self._buffers) - 1, True),))

    def _read(self, x: Feature, bits: Count) -> None:
        """Note that x is read now, at so many bits (0: by what only passes it on)."""
        for number, mask in x.node or ():
            held = simplified(both(mask, self.there))
            if held is not False:
                self._buffers[number].read(self._time, bits, held)


@dataclass(slots=True)
class Buffer:
    """Memory that one operation writes, as far as the walk has come."""

    born: int
    entries: Count
    last: Count
    """When it is read for the last time."""
    bits: Count = 0
    """The widest at which it is read; 0 where nothing reads it."""

    def read(self, time: int, bits: Count, held: Mask) -> None:
        """Note a read at `time`, in networks where the mask holds; arrays, which are its own, change in place."""
        if isinstance(self.last, int):
            self.last = where(held, time, self.last)
        else:
            np.copyto(self.last, time, where=held)
        if isinstance(self.bits, int):
            self.bits = at_least(self.bits, bits if held is True else bits * held)
        else:
            np.maximum(self.bits, bits, out=self.bits, where=held)


def _merged(held: list[tuple[int, Mask]]) -> Holders:
    found: dict[int, Mask] = {}
    for buffer, mask in held:
        mask = simplified(mask)
        if mask is not False:
            before = found.get(buffer, False)
            found[buffer] = simplified(mask if before is False else np.logical_or(before, mask))
    return tuple(found.items())
