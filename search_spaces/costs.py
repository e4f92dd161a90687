"""Exact costs of populations, added up while a family walks through its networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from typing_extensions import override

from search_spaces.feature import Count, Feature
from search_spaces.network import Network
from search_spaces.operations import Attention, BatchNorm, LayerNorm, Linear, Operation

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Counting:
    """What is counted. The defaults are the field's: every learnable tensor, and attention products.

    Published tables differ: those of MobileNetV2 and GhostNetV2 leave out the scales and shifts of batch norms,
    some of ViTs leave out the two products of attention, and most leave out heads that only training needs.
    """

    normalization: bool = True
    """Whether scales and shifts of normalisation layers are `params`."""
    attention: bool = True
    """Whether ``QK'`` and its product with the values are `macs`."""
    auxiliary: bool = False
    """Whether parts that only training uses (NASNet's auxiliary head, say) are `params`."""


WeightBytes: TypeAlias = Callable[[str, Count, Count], Count]
"""Bytes of a packed weight: name of the layer, entries, output channels."""


class Tally(Network):
    """Adds up params, MACs and bytes of every network of a population."""

    def __init__(
        self,
        counting: Counting | None = None,
        weight_bytes: WeightBytes | None = None,
        folds: bool = True,
    ) -> None:
        """`weight_bytes` None: sizes are not wanted; `folds`: it is the same for equal parts in a row."""
        super().__init__()
        self.folds = folds
        self.counting = counting or Counting()
        self.weight_bytes = weight_bytes
        self.params: Count = 0
        self.macs: Count = 0
        self.bytes: Count = 0

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if self.there is False or (operation.training_only and not self.counting.auxiliary):
            return y
        weights, vectors = operation.weights(*inputs), operation.vectors(*inputs)
        learnt = vectors if isinstance(operation, Linear) and not operation.learned else weights + vectors
        norm = isinstance(operation, BatchNorm | LayerNorm)
        if self.counting.normalization or not norm:
            self.params = self.params + self._present(learnt)
        if not norm and not operation.training_only:
            self.macs = self.macs + self._present(operation.macs(y, *inputs))
        if self.weight_bytes is not None and not operation.training_only:
            self.bytes = self.bytes + self._present(self._size(name, operation, weights, vectors, y))
        return y

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if self.there is not False and isinstance(operation, Attention) and self.counting.attention:
            self.macs = self.macs + self._present(operation.macs(y, *inputs))
        return y

    def _size(self, name: str, operation: Operation, weights: Count, vectors: Count, y: Feature) -> Count:
        """Bytes of one layer in a packed model; a batch norm is folded away where there is a layer before it."""
        if isinstance(operation, BatchNorm):
            return FLOAT_BYTES * operation.stored * y.channels
        assert self.weight_bytes is not None
        weightless = isinstance(weights, int) and weights == 0
        return FLOAT_BYTES * vectors + (0 if weightless else self.weight_bytes(name, weights, y.channels))

    def _present(self, count: Count) -> Count:
        if isinstance(self.count, int) and self.count == 1:
            return count if self.there is True else count * self.there
        return count * self.count if self.there is True else count * (self.count * self.there)
