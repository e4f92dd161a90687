"""The `quantization` section: how many bits the weights and activations of each part of a network get.

Weights are quantized symmetrically per output channel, activations affinely per tensor (Krishnamoorthi 2018,
"Quantizing deep convolutional networks for efficient inference"). A part at 32-bit weights runs in floating
point, so its activation bits have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search_spaces.architecture import Genes
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice
from search_spaces.layers import Ints
from search_spaces.variables import Row, Variable, Variables

FLOAT_BITS = 32
_FLOAT = Domain((FLOAT_BITS,))


class Quantization(Section):
    """Bits of weights and activations, the same choice for every stage or for every layer."""

    per: Literal["stage", "layer"] = "stage"
    weight_bits: choice(2, 4, 8, FLOAT_BITS) = _FLOAT  # type: ignore[valid-type]
    activation_bits: choice(8, FLOAT_BITS) = _FLOAT  # type: ignore[valid-type]


@dataclass(frozen=True)
class Bits:
    """The policy of one module."""

    weight: int
    activation: int


@dataclass(frozen=True)
class Part:
    """A part of a network that shares one policy: its name, and where it exists at all."""

    name: str
    when: Mapping[Variable, Sequence[Value]]


@dataclass(frozen=True)
class Policy:
    """The policy genes of a space: bits of every part, and the part that each module belongs to."""

    weight: Row
    activation: Row
    part_of: Ints
    """For every module, in the order of the layer table: the index of its part."""

    def bits(self, genes: Genes) -> tuple[Ints, Ints]:
        """Bits of weights and of inputs of every module, each of shape (n, m)."""
        weight = self.weight.read(genes)
        activation = np.where(weight < FLOAT_BITS, self.activation.read(genes), FLOAT_BITS)
        return weight[:, self.part_of], activation[:, self.part_of]


def add_policy(
    variables: Variables, section: Quantization, parts: Sequence[Part], part_of: Sequence[int]
) -> Policy:
    """Turn the section into genes, a pair for each part."""
    weight, activation = [], []
    for part in parts:
        prefix = f"quantization.{part.name}"
        w = variables.add(f"{prefix}.weight_bits", section.weight_bits, part.when)
        quantized = [v for v in w.values if v != FLOAT_BITS]
        weight.append(w)
        activation.append(
            variables.add(f"{prefix}.activation_bits", section.activation_bits, {**part.when, w: quantized})
        )
    return Policy(Row(weight), Row(activation), np.array(part_of))
