"""The `quantization` section: how many bits the weights and activations of each part of a network get.

Weights have one scale an output channel, or one for the whole weight or each group in a channel: symmetric around
zero, or affine with a zero point of their own; activations are affine per tensor (Krishnamoorthi 2018, "Quantizing
deep convolutional networks for efficient inference"). Ternary weights are -1, 0, 1 times their scale (Li and Liu
2016, "Ternary weight networks"). `search_spaces.schemes` says what becomes of a weight. A part at 32-bit weights
runs in floating point, so its activation bits have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.costs import FLOAT_BYTES
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice, integer, later, varied
from search_spaces.feature import Count, Mask, both, negated, where
from search_spaces.schemes import Blocks, Floats, Kind, Scheme, SparseTernary, Ternary, Whole
from search_spaces.variables import Values, Variable, Variables

FLOAT_BITS = 32
LARGEST_GROUP = 65536
TERNARY = ("ternary", "ternary_2bit", "ternary_3of4")
_FLOAT = Domain((FLOAT_BITS,))


class Quantization(Section):
    """Bits of weights and activations, chosen once or for every stage, layer or module."""

    per: Literal["network", "stage", "layer", "module"] = "stage"
    """What shares one policy; a layer is a block, a module a convolution or linear layer."""
    weight_bits: choice(2, 3, 4, 8, 16, FLOAT_BITS, *TERNARY) = _FLOAT  # type: ignore[valid-type]
    """Bits of weights; 32 is floating point, ``ternary`` takes 1.6 bits (five in a byte), ``ternary_2bit`` 2, and
    ``ternary_3of4``, which has exactly one zero in each four weights, 1.25."""
    weight_scheme: choice("symmetric", "asymmetric") = Domain(("symmetric",))  # type: ignore[valid-type]
    """Around zero, or with a zero point for each scale."""
    activation_bits: choice(4, 8, 16, FLOAT_BITS) = _FLOAT  # type: ignore[valid-type]
    """Bits of activations; without effect where weights have 32."""
    weight_granularity: choice("tensor", "channel", "group") = later("channel")  # type: ignore[valid-type]
    """What shares one scale: the whole weight, an output channel, or a group of weights in one."""
    group_size: varied(integer(2, LARGEST_GROUP)) = later(32)  # type: ignore[valid-type]
    """Weights of a group; the last group of a channel holds what is left."""
    activation_observer: choice("min_max", "ema", "percentile", "mse") = later("min_max")  # type: ignore[valid-type]
    """How calibration finds the range of activations: the extremes, their moving average over batches, all but
    the outermost of ten thousand, or the range of least squared error."""


@dataclass(frozen=True)
class Bits:
    """The policy of one module."""

    weight: int | str
    """Bits, or one of `TERNARY`."""
    activation: int
    scheme: str = "symmetric"
    granularity: str = "channel"
    group_size: int = 0
    """Of granularity ``group``."""
    observer: str = "min_max"

    @property
    def stored(self) -> Scheme:
        """How the weight is stored."""
        return _stored(self.weight, self.scheme, self.granularity, self.group_size)


def _stored(weight: Any, scheme: Any, granularity: Any, group_size: Any) -> Scheme:
    """The scheme of four values; equal ones where a value has no effect."""
    return Scheme(_kind(weight, scheme), Blocks(granularity, group_size if granularity == "group" else 0))


def _kind(weight: int | str, scheme: str) -> Kind:
    if weight == "ternary_3of4":
        return SparseTernary()
    if isinstance(weight, str):
        return Ternary(fives=weight == "ternary")
    return Floats() if weight == FLOAT_BITS else Whole(weight, symmetric=scheme == "symmetric")


@dataclass(frozen=True)
class Part:
    """A part of a network that shares one policy: its name, and where it exists at all.

    It holds the layer of its name and all layers whose names continue it after a dot.
    """

    name: str
    when: Mapping[Variable, Sequence[Value]]
    words: bool = False
    """Whether it reads word numbers and nothing else, which are not quantized."""


@dataclass(frozen=True, eq=False)
class PartGenes:
    """The policy variables of one part; equal to itself alone, and so quickly found again."""

    weight: Variable
    scheme: Variable
    activation: Variable
    granularity: Variable
    group_size: Variable
    observer: Variable

    def schemes(self, of: Values) -> dict[Scheme, Mask]:
        """Every way in which a network of the population may store weights that are no floats, and which do."""
        variables = (self.weight, self.scheme, self.granularity, self.group_size)
        found: dict[Scheme, Mask] = {}
        for values in product(*(v.values for v in variables)):
            if values[0] != FLOAT_BITS:
                holds = reduce(both, map(of.among, variables, values))
                scheme = _stored(*values)
                found[scheme] = found.get(scheme, False) | holds
        return found


class Policy:
    """The policy variables of a space, and which part each layer belongs to."""

    def __init__(self, parts: Mapping[str, PartGenes], fine: bool) -> None:
        self._parts = parts
        self._found: dict[str, PartGenes] = {}
        """By layers that were asked for: there are few names, and many questions."""
        self.fine = fine
        """Whether parts of a stage may differ."""
        self.floats = all(p.weight.values == (FLOAT_BITS,) for p in parts.values())
        """Whether nothing is quantized."""

    def part(self, layer: str) -> PartGenes:
        """The part that a layer belongs to: its own, one that it is inside of, or the last beside it."""
        if layer not in self._found:
            self._found[layer] = self._find(layer)
        return self._found[layer]

    def _find(self, layer: str) -> PartGenes:
        names = layer.split(".")
        for length in range(len(names), -1, -1):
            inside = ".".join(names[:length])
            if inside in self._parts:
                return self._parts[inside]
            beside = [p for p in self._parts if length and p.startswith(f"{inside}.")]
            if beside:
                return self._parts[beside[-1]]
        return list(self._parts.values())[-1]

    def quantizes(self, of: Values, active: NDArray[np.bool_]) -> Mask:
        """Where anything is quantized, given which genes have an effect, shape (n, d)."""
        weights = [part.weight for part in self._parts.values()]
        found: Mask = any(w.column is None and w.values[0] != FLOAT_BITS for w in weights)
        for weight in weights:
            if weight.column is not None:
                found = found | (active[:, weight.column] & negated(of.among(weight, FLOAT_BITS)))
        return found

    def bits(self, layer: str, of: Values) -> Bits:
        """The policy of a layer of one network."""
        part = self.part(layer)
        weight, granularity = of[part.weight], of.word(part.granularity)
        if weight == FLOAT_BITS:
            return Bits(weight, FLOAT_BITS)
        return Bits(
            weight,
            of[part.activation],
            "symmetric" if weight in TERNARY else of.word(part.scheme),
            granularity,
            of[part.group_size] if granularity == "group" else 0,
            of.word(part.observer) if of[part.activation] != FLOAT_BITS else "min_max",
        )

    def weight_bytes(self, of: Values) -> Callable[[str, Count, Count], Count]:
        """Bytes of a layer's packed weight with its scales and zero points, for a population."""

        @cache
        def schemes(part: PartGenes) -> dict[Scheme, Mask]:
            return part.schemes(of)

        def size(layer: str, entries: Count, outputs: Count) -> Count:
            total = FLOAT_BYTES * entries
            for scheme, holds in schemes(self.part(layer)).items():
                total = where(holds, scheme.bytes(entries, outputs), total)
            return total

        return size

    def activation_bits(self, of: Values) -> Callable[[str], Count]:
        """Bits of a layer's activations, for a population."""

        @cache
        def of_part(part: PartGenes) -> Count:
            return where(of.among(part.weight, FLOAT_BITS), FLOAT_BITS, of[part.activation])

        return lambda layer: of_part(self.part(layer))

    def widths(self, of: Values) -> Callable[[str], list[tuple[Value, Value, Mask]]]:
        """Weight and activation bits that a layer may have, and in which networks of a population it has them."""

        def widths(layer: str) -> list[tuple[Value, Value, Mask]]:
            weight, activation = (part := self.part(layer)).weight, part.activation
            pairs = product(weight.values, activation.values)
            return [(w, a, both(of.among(weight, w), of.among(activation, a))) for w, a in pairs]

        return widths


def add_policy(variables: Variables, section: Quantization, parts: Sequence[Part]) -> Policy:
    """Turn the section into genes, some for each part."""
    if section.per == "network":
        parts = [Part("", {})]
    genes = {}
    for part in parts:
        prefix = f"quantization.{part.name}".rstrip(".")
        w = variables.add(f"{prefix}.weight_bits", section.weight_bits, part.when)
        quantized = {**part.when, w: [v for v in w.values if v != FLOAT_BITS]}
        whole = {**part.when, w: [v for v in quantized[w] if v not in TERNARY]}
        scheme = variables.add(f"{prefix}.weight_scheme", section.weight_scheme, whole)
        read = _FLOAT if part.words else section.activation_bits
        activation = variables.add(f"{prefix}.activation_bits", read, quantized)
        granularity = variables.add(f"{prefix}.weight_granularity", section.weight_granularity, quantized)
        size = variables.add(f"{prefix}.group_size", section.group_size, {**quantized, granularity: ["group"]})
        observed = {**quantized, activation: [v for v in activation.values if v != FLOAT_BITS]}
        observer = variables.add(f"{prefix}.activation_observer", section.activation_observer, observed)
        genes[part.name] = PartGenes(w, scheme, activation, granularity, size, observer)
    return Policy(genes, fine=section.per in ("layer", "module") and section.weight_bits != _FLOAT)
