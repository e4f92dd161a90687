"""The `quantization` section: how many bits the weights and activations of each part of a network get.

Weights have one scale an output channel: symmetric around zero, or affine with a zero point of their own;
activations are affine per tensor (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient
inference"). Ternary weights are -1, 0, 1 times the channel's scale (Li and Liu 2016, "Ternary weight
networks"), packed five to a byte. A part at 32-bit weights runs in floating point, so its activation bits have
no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.costs import FLOAT_BYTES
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice
from search_spaces.feature import Count, where
from search_spaces.variables import Values, Variable, Variables

FLOAT_BITS = 32
TERNARY = "ternary"
_FLOAT = Domain((FLOAT_BITS,))


class Quantization(Section):
    """Bits of weights and activations, chosen once or for every stage, layer or module."""

    per: Literal["network", "stage", "layer", "module"] = "stage"
    """What shares one policy; a layer is a block, a module a convolution or linear layer."""
    weight_bits: choice(2, 4, 8, 16, FLOAT_BITS, TERNARY) = _FLOAT  # type: ignore[valid-type]
    """Bits of weights; 32 is floating point."""
    weight_scheme: choice("symmetric", "asymmetric") = Domain(("symmetric",))  # type: ignore[valid-type]
    """Around zero, or with a zero point for each output channel."""
    activation_bits: choice(4, 8, 16, FLOAT_BITS) = _FLOAT  # type: ignore[valid-type]
    """Bits of activations; without effect where weights have 32."""


@dataclass(frozen=True)
class Bits:
    """The policy of one module."""

    weight: int | str
    """Bits, or ``ternary``."""
    activation: int
    scheme: str = "symmetric"


@dataclass(frozen=True)
class Part:
    """A part of a network that shares one policy: its name, and where it exists at all.

    It holds the layer of its name and all layers whose names continue it after a dot.
    """

    name: str
    when: Mapping[Variable, Sequence[Value]]


@dataclass(frozen=True)
class PartGenes:
    """The policy variables of one part."""

    weight: Variable
    scheme: Variable
    activation: Variable


class Policy:
    """The policy variables of a space, and which part each layer belongs to."""

    def __init__(self, parts: Mapping[str, PartGenes], fine: bool) -> None:
        self._parts = parts
        self.fine = fine
        """Whether parts of a stage may differ."""
        self.floats = all(p.weight.values == (FLOAT_BITS,) for p in parts.values())
        """Whether nothing is quantized."""

    def part(self, layer: str) -> PartGenes:
        """The part that a layer belongs to: its own, one that it is inside of, or the last beside it."""
        names = layer.split(".")
        for length in range(len(names), -1, -1):
            inside = ".".join(names[:length])
            if inside in self._parts:
                return self._parts[inside]
            beside = [p for p in self._parts if length and p.startswith(f"{inside}.")]
            if beside:
                return self._parts[beside[-1]]
        return list(self._parts.values())[-1]

    def bits(self, layer: str, of: Values) -> Bits:
        """The policy of a layer of one network."""
        part = self.part(layer)
        weight, scheme = of[part.weight], of.word(part.scheme)
        if weight == FLOAT_BITS:
            return Bits(weight, FLOAT_BITS)
        return Bits(weight, of[part.activation], "symmetric" if weight == TERNARY else scheme)

    def weight_bytes(self, of: Values) -> Callable[[str, Count, Count], Count]:
        """Bytes of a layer's packed weight with its scales and zero points, for a population."""

        def size(layer: str, entries: Count, outputs: Count) -> Count:
            part = self.part(layer)
            bits = {b for b in part.weight.values if b not in (FLOAT_BITS, TERNARY)}
            total = FLOAT_BYTES * entries
            for b in sorted(bits, key=int):
                packed = -(-entries * int(b) // 8) + FLOAT_BYTES * outputs
                point = outputs * -(-int(b) // 8)
                packed = packed + where(of.among(part.scheme, "asymmetric"), point, 0)
                total = where(of.among(part.weight, b), packed, total)
            if TERNARY in part.weight.values:
                packed = -(-entries // 5) + FLOAT_BYTES * outputs
                total = where(of.among(part.weight, TERNARY), packed, total)
            return total

        return size

    def activation_bits(self, of: Values) -> Callable[[str], Count]:
        """Bits of a layer's activations, for a population."""

        def bits(layer: str) -> Count:
            part = self.part(layer)
            return where(of.among(part.weight, FLOAT_BITS), FLOAT_BITS, of[part.activation])

        return bits


def add_policy(variables: Variables, section: Quantization, parts: Sequence[Part]) -> Policy:
    """Turn the section into genes, three for each part."""
    if section.per == "network":
        parts = [Part("", {})]
    genes = {}
    for part in parts:
        prefix = f"quantization.{part.name}".rstrip(".")
        w = variables.add(f"{prefix}.weight_bits", section.weight_bits, part.when)
        quantized = [v for v in w.values if v != FLOAT_BITS]
        whole = [v for v in quantized if v != TERNARY]
        scheme = variables.add(f"{prefix}.weight_scheme", section.weight_scheme, {**part.when, w: whole})
        activation = variables.add(
            f"{prefix}.activation_bits", section.activation_bits, {**part.when, w: quantized}
        )
        genes[part.name] = PartGenes(w, scheme, activation)
    return Policy(genes, fine=section.per in ("layer", "module") and section.weight_bits != _FLOAT)
