"""The table of weight tensors of a population of networks, and the exact costs that follow from it.

A family fills in a `LayerTable`; params, MACs and bytes are then the same arithmetic for every family. Counting
follows the field: params are all learnable tensors; one MAC is one multiply-accumulate (2 FLOPs) of convolutions
and linear layers; bias, normalisation, activation and pooling count no MACs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerTable:
    """Weight tensors of n networks; every array has shape (n, m), one column a module that may be there.

    A module that a network does not have has 0 weights and 0 outputs.
    """

    names: tuple[str, ...]
    """Names of the m modules, as in the built network."""
    weights: Ints
    """Number of entries of the weight tensor."""
    outputs: Ints
    """Output channels (or features): the axis along which weights are scaled when quantized."""
    positions: Ints
    """How often each weight is used for one input: height x width of the output map."""
    normalised: NDArray[np.bool_]
    """Whether a batch norm (2 learnable vectors) follows; otherwise the module has a bias where `biased`."""
    biased: NDArray[np.bool_]
    weight_bits: Ints
    activation_bits: Ints
    """Bits of the module's input."""


@dataclass(frozen=True)
class Modules:
    """The modules that networks of a space can have: what is the same for all of them."""

    names: tuple[str, ...]
    biased: frozenset[str]
    """Names (or last parts of names) of modules with a bias and no batch norm."""
    bare: frozenset[str] = frozenset()
    """Names (or last parts of names) of modules with neither."""

    def table(self, blocks: Sequence[Block], weight_bits: Ints, activation_bits: Ints) -> LayerTable:
        """The blocks of columns side by side, in the order of `names`; bits of shape (n, m)."""
        weights, outputs, positions = (np.concatenate(arrays, axis=1) for arrays in zip(*blocks, strict=True))
        present = outputs > 0
        biased, bare = self._marks
        return LayerTable(
            names=self.names,
            weights=weights * present,
            outputs=outputs,
            positions=positions * present,
            normalised=~(biased | bare) & present,
            biased=biased & present,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
        )

    @cached_property
    def _marks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        last = [(name, name.rpartition(".")[2]) for name in self.names]
        biased = np.array([bool({*names} & self.biased) for names in last])
        return biased, np.array([bool({*names} & self.bare) for names in last])


Block: TypeAlias = tuple[Ints, Ints, Ints]
"""Weights, outputs and positions of some modules, each of shape (n, modules)."""


def costs(layers: LayerTable) -> dict[str, NDArray[np.float64]]:
    """`params`, `macs` and `model_size_bytes` of every network, each of shape (n,)."""
    params = layers.weights + layers.outputs * (2 * layers.normalised + layers.biased)
    return {
        "params": params.sum(axis=1).astype(np.float64),
        "macs": (layers.weights * layers.positions).sum(axis=1).astype(np.float64),
        "model_size_bytes": size_bytes(layers).sum(axis=1).astype(np.float64),
    }


def size_bytes(layers: LayerTable) -> Ints:
    """Bytes of every module's packed weights under the policy, shape (n, m).

    Weights of b bits take ``ceil(weights * b / 8)`` bytes; below 32 bits each output channel has a 4-byte scale.
    Batch norms are folded into the module before them, which leaves one 4-byte bias an output channel; a norm
    that stands alone keeps its scale and shift.
    """
    packed = -(-layers.weights * layers.weight_bits // 8)
    scales = np.where((layers.weight_bits < 32) & (layers.weights > 0), layers.outputs, 0)
    lone = layers.normalised & (layers.weights == 0)
    vectors = layers.outputs * (layers.normalised | layers.biased) + layers.outputs * lone
    total: Ints = packed + FLOAT_BYTES * (scales + vectors)
    return total
