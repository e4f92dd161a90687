"""Energy that one example's forward pass takes, in millijoules, from an analytic model, for populations.

Figures of a 45 nm process at 0.9 V (Horowitz 2014, "Computing's energy problem (and what we can do about it)",
ISSCC, figure 1.1.9). What is taken for granted:

- A multiply-accumulate is one multiplication and one addition. In floating point, and wherever weights or
  activations have 32 bits, both are 32-bit floats. Else integers are multiplied, at the 0.2 pJ of 8 bits x 8 bits
  times the product of both widths (which gives 3.2 pJ at 32 bits, where 3.1 are published), and added up in 32
  bits. Ternary weights multiply nothing.
- Every byte of the model is fetched from DRAM once: 1.3 nJ for 64 bits, the lower end of what is published.
- Activations stay on the chip, in a memory of 1 MB: 100 pJ for 64 bits. Every operation reads its inputs and
  writes its output there; layers at the activation bits of their policy, all else at 32. Batch norms, activation
  functions and reshapes are part of the operation before them and move nothing.
- Nothing is idle, nothing leaks, and control costs nothing: real devices take several times as much. Networks can
  be compared by it; batteries cannot be sized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.feature import Count, Feature, Mask, both, simplified
from search_spaces.network import Network
from search_spaces.operations import (
    Activation,
    BatchNorm,
    Dropout,
    DropPath,
    Embedding,
    Flatten,
    Operation,
    Positions,
    Tokens,
    ToMap,
    ToTokens,
)
from search_spaces.quantization import FLOAT_BITS, TERNARY

FLOAT_MULTIPLY, FLOAT_ADD = 3.7, 0.9
"""pJ, 32 bits."""
MULTIPLY_8, ADD_32 = 0.2, 0.1
"""pJ, integers."""
ON_CHIP = 100 / 8
"""pJ to read or write a byte in a memory of 1 MB."""
DRAM = 1300 / 8
"""pJ to fetch a byte."""
PICO = 1e-9
"""Millijoules in a picojoule."""
FUSED = (Activation, BatchNorm, Dropout, DropPath, Flatten, Positions, Tokens, ToMap, ToTokens)
"""Operations that are part of the one before them."""

Widths: TypeAlias = Callable[[str], Iterable[tuple[Any, Any, Mask]]]
"""Weight and activation bits that a layer of this name may have, and in which networks it has them."""


def multiply_accumulate(weight: int | str, activation: int) -> float:
    """Picojoules of one multiply-accumulate at these bits; `weight` may be a name of ternary weights."""
    if FLOAT_BITS in (weight, activation):
        return FLOAT_MULTIPLY + FLOAT_ADD
    if weight in TERNARY:
        return ADD_32
    return MULTIPLY_8 * int(weight) * activation / 64 + ADD_32


class Energy(Network):
    """Adds up what operations take, the fetching of the model apart."""

    def __init__(self, n: int, widths: Widths, folds: bool) -> None:
        """`n` networks; `folds`: equal parts in a row have equal widths."""
        super().__init__()
        self.folds = folds
        self._widths = widths
        self._picojoules = np.zeros(n)

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        numbers = operation.quantized and not isinstance(operation, Embedding)  # which reads words
        widths = self._widths(name) if numbers else [(FLOAT_BITS, FLOAT_BITS, True)]
        return self._run(operation, inputs, widths)

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        return self._run(operation, inputs, [(FLOAT_BITS, FLOAT_BITS, True)])

    def millijoules(self, model_bytes: Count) -> NDArray[np.float64]:
        """Of each network, whose model has so many bytes; shape (n,)."""
        total: NDArray[np.float64] = self._picojoules + DRAM * model_bytes
        return total * PICO

    def _run(
        self, operation: Operation, inputs: tuple[Feature, ...], widths: Iterable[tuple[Any, Any, Mask]]
    ) -> Feature:
        y = operation.output(*inputs)
        if operation.training_only or self.there is False:
            return y
        if isinstance(operation, FUSED):
            return y
        macs, moved = operation.macs(y, *inputs), y.numel + sum(x.numel for x in inputs)
        for weight, activation, mask in widths:
            there = simplified(both(self.there, mask))
            if there is not False:
                bits = FLOAT_BITS if weight == FLOAT_BITS else activation
                each = multiply_accumulate(weight, activation) * macs + ON_CHIP * bits / 8 * moved
                self._picojoules += self.count * there * each
        return y
