"""How much of a network's signal its quantization policy is expected to lose, from the policy alone.

The noise of a scheme is that of normally distributed weights, measured once for each kind of numbers and length of
blocks with the scheme itself: ``sum (w - quantized w)**2 / sum w**2``, the inverse of the signal to quantization
noise ratio (Krishnamoorthi 2018). Noises of layers add up (Lin et al. 2016, "Fixed point quantization of deep
convolutional networks"). Activations of b bits lose about ``4**-b``. Nothing is built or trained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Genes
from search_spaces.declared import CHUNK, DeclaredSpace
from search_spaces.feature import Count, Feature, at_least, simplified
from search_spaces.network import Network
from search_spaces.operations import Operation
from search_spaces.quantization import FLOAT_BITS, Policy
from search_spaces.schemes import Scheme
from search_spaces.space import Space
from search_spaces.variables import Values

Floats = NDArray[np.float64]
NAMES = ("weights", "weights by MACs", "weights by entries", "activations", "worst layer")
"""Of the columns; each the natural logarithm of noise over signal."""
DRAWN = 2**14
"""Weights that a scheme's noise is measured on, at least."""
LENGTHS = 2.0 ** np.arange(1, 17)
"""Of blocks; between these the logarithm of the noise is interpolated."""
UNHEARD = 1e-3
"""Noise over signal that no accuracy notices: less of it makes no difference, and there is always a logarithm."""


def policy_noise(space: Space) -> Callable[[Genes], Floats] | None:
    """`sensitivity` of a space's networks; None where their policies do not differ."""
    if isinstance(space, DeclaredSpace) and any(c.name.startswith("quantization.") for c in space.choices):
        return partial(sensitivity, space)
    return None


def sensitivity(space: DeclaredSpace, genes: Genes) -> Floats:
    """Expected noise over signal of canonical genes (n, d), a column each of `NAMES`. Shape (n, columns)."""
    out = np.zeros((len(genes), len(NAMES)))
    for start in range(0, len(genes), CHUNK):
        part = genes[start : start + CHUNK]
        listener = Noise(len(part), space.policies, Values(part))
        space.write(listener, Values(part))
        out[start : start + len(part)] = listener.columns()
    return out


class Noise(Network):
    """Adds up the expected noise of every network of a population."""

    def __init__(self, n: int, policy: Policy, of: Values) -> None:
        super().__init__()
        self._policy, self._of, self._bits = policy, of, policy.activation_bits(of)
        self._sums = np.zeros((6, n))
        """Noise of weights alone, times MACs and times entries; of activations; MACs and entries themselves."""
        self._worst = np.zeros(n)

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if not operation.quantized or self.there is False:
            return y
        entries, macs = operation.weights(*inputs), operation.macs(y, *inputs)
        weights, bits = self._weights(name, entries, y.channels), np.asarray(self._bits(name))
        activations = np.where(bits < FLOAT_BITS, 4.0**-bits, 0.0)
        found = np.broadcast_arrays(weights, macs * weights, entries * weights, activations, macs, entries)
        there = np.asarray(self.there, dtype=np.float64)
        self._sums += there * np.stack(found)
        self._worst = np.maximum(self._worst, there * (weights + activations))
        return y

    def columns(self) -> Floats:
        """Shape (n, columns)."""
        weights, by_macs, by_entries, activations, macs, entries = self._sums
        by_macs, by_entries = by_macs / np.maximum(macs, 1.0), by_entries / np.maximum(entries, 1.0)
        found = np.stack([weights, by_macs, by_entries, activations, self._worst], axis=1)
        return np.log(found + UNHEARD)

    def _weights(self, name: str, entries: Count, outputs: Count) -> Floats:
        """Noise over signal of one layer's weight, shape (n,)."""
        total = np.zeros(self._worst.shape)
        row = entries // at_least(outputs, 1)
        for scheme, holds in self._policy.part(name).schemes(self._of).items():
            if simplified(holds) is not False:
                granularity = scheme.blocks.granularity
                length = entries if granularity == "tensor" else row
                length = np.minimum(row, scheme.blocks.size) if granularity == "group" else length
                total = total + np.asarray(holds) * noise(scheme, np.asarray(length, dtype=np.float64))
        return total


def noise(scheme: Scheme, length: Floats) -> Floats:
    """Noise over signal of normally distributed weights in blocks of these lengths."""
    at = np.log(np.clip(length, LENGTHS[0], LENGTHS[-1]))
    return np.exp(np.interp(at, np.log(LENGTHS), _measured(Scheme(scheme.kind))))


@cache
def _measured(scheme: Scheme) -> Floats:
    """Logarithms of noise over signal for blocks of `LENGTHS`, one a row."""
    found = []
    for length in LENGTHS.astype(int):
        rows = np.random.default_rng(0).normal(size=(-(-DRAWN // length), length)).astype(np.float32)
        signal, lost = (float((x.astype(np.float64) ** 2).sum()) for x in (rows, rows - scheme.fake(rows)))
        found.append(np.log(lost / signal + 1e-12))
    return np.array(found)
