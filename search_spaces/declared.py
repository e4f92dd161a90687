"""What the declared families share: a document, its three sections as genes, exact costs, and the builder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from typing_extensions import override

from search_spaces.architecture import Architecture, Genes
from search_spaces.costs import Counting, Tally
from search_spaces.document import Section
from search_spaces.energy import Energy
from search_spaces.feature import Count, Feature
from search_spaces.graph import Graph
from search_spaces.memory import Memory
from search_spaces.network import Network, Training
from search_spaces.outline import Line, Outline
from search_spaces.quantization import Bits, Policy, Quantization
from search_spaces.recipe import Recipe, RecipeGenes, RecipeSection
from search_spaces.space import Space
from search_spaces.variables import Values

if TYPE_CHECKING:
    from torch import nn

METRICS = ("params", "macs", "model_size_bytes", "peak_activation_bytes")
ASKED = ("energy_mj",)
"""Given where they are asked for by name only."""
CHUNK = 4096
"""Networks counted at a time, so that what is calculated with stays in a core's cache."""


Extent: TypeAlias = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": 65536})]
"""`ImageSection` checks it, with one message for all three."""


class FamilySection(Section):
    """The keys that every family's document has."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    """What the space is called in tables and reports."""
    classes: int = Field(ge=2, le=1_000_000)
    """Number of classes, the outputs of the classifier."""
    quantization: Quantization = Quantization()
    """How weights and activations are stored."""
    recipe: RecipeSection = RecipeSection()
    """How the network is trained."""


class ImageSection(FamilySection):
    """A family whose networks see images."""

    input: tuple[Extent, Extent, Extent] = Field(description="channels, height, width")

    @field_validator("input")
    @classmethod
    def _positive(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1 or max(value) > 65536:
            raise ValueError(
                f"{list(value)} is not allowed; allowed: [channels, height, width], each from 1 to 65536"
            )
        return value


class DeclaredSpace(Space):
    """A space read from a document. A family says what its genes are and writes its networks down."""

    document: FamilySection
    _policy: Policy
    _recipe: RecipeGenes

    @abstractmethod
    def write(self, net: Network, of: Values) -> Feature:
        """Walk through the networks of a population from input to logits; gives the logits."""

    @override
    def active(self, genes: Genes) -> NDArray[np.bool_]:
        active = super().active(genes)
        if columns := self._recipe.quantized:
            active[:, columns] &= np.reshape(self._policy.quantizes(Values(genes), active), (-1, 1))
        return active

    @override
    def build(self, arch: Architecture) -> nn.Module:
        """The network with fresh weights, from the canonical genes; raises `BuildError`."""
        from search_spaces.modules.build import build

        of = Values(self.canonical_genes(self.genes([arch])))
        return build(lambda net: self.write(net, of), self._training(arch), type(self).__name__)

    @override
    def costs(
        self, genes: Genes, metrics: Collection[str] | None = None, counting: Counting | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """`params`, `macs`, `model_size_bytes`, `peak_activation_bytes` of networks, each of shape (n,), exact.

        `peak_activation_bytes` is for one example; see `search_spaces.memory` for what it takes for granted.
        Where `metrics` names it, also `energy_mj` of one example: a model's, see `search_spaces.energy`.
        """
        wanted = METRICS if metrics is None else [m for m in (*METRICS, *ASKED) if m in metrics]
        found: dict[str, NDArray[np.float64]] = {m: np.empty(len(genes)) for m in wanted}
        for start in range(0, len(genes), CHUNK):
            part = genes[start : start + CHUNK]
            for metric, values in self._count(part, wanted, counting).items():
                found[metric][start : start + len(part)] = values
        return found

    def _count(self, genes: Genes, wanted: Collection[str], counting: Counting | None) -> dict[str, Count]:
        of = Values(genes)
        found: dict[str, Count] = {}
        if {"params", "macs", "model_size_bytes", "energy_mj"} & set(wanted):
            sizes = {"model_size_bytes", "energy_mj"} & set(wanted)
            sized = self._policy.weight_bytes(of) if sizes else None
            tally = Tally(counting, sized, folds=sized is None or not self._policy.fine)
            self.write(tally, of)
            found = {"params": tally.params, "macs": tally.macs, "model_size_bytes": tally.bytes}
        if "peak_activation_bytes" in wanted:
            bits = None if self._policy.floats else self._policy.activation_bits(of)
            memory = Memory(len(genes), bits, folds=not self._policy.fine)
            self.write(memory, of)
            found["peak_activation_bytes"] = memory.peak_bytes()
        if "energy_mj" in wanted:
            energy = Energy(len(genes), self._policy.widths(of), folds=not self._policy.fine)
            self.write(energy, of)
            found["energy_mj"] = energy.millijoules(found["model_size_bytes"])
        return {m: found[m] for m in wanted}

    @property
    @override
    def asked_costs(self) -> tuple[str, ...]:
        return ASKED

    @override
    def cost(self, arch: Architecture, counting: Counting | None = None) -> dict[str, float]:
        found = self.costs(self.genes([arch]), counting=counting)
        return {metric: float(values[0]) for metric, values in found.items()}

    def outline(self, arch: Architecture) -> list[Line]:
        """The operations of one network in their order, with their sizes."""
        outline = Outline()
        self.write(outline, Values(self.canonical_genes(self.genes([arch]))))
        return outline.lines

    def graphs(self, arch: Architecture) -> tuple[Graph, ...]:
        """The cells that the network repeats, for drawings; none in most families."""
        return ()

    def recipe(self, arch: Architecture) -> Recipe:
        """How the architecture is to be trained."""
        return self._recipe.recipe(arch.genes)

    @property
    def policies(self) -> Policy:
        """How the layers of a population are stored, part by part."""
        return self._policy

    def policy(self, arch: Architecture) -> dict[str, Bits]:
        """Bits of every convolution, linear layer and embedding of the network, by its name."""
        of = Values(self.canonical_genes(self.genes([arch])))
        return {
            line.name: self._policy.bits(line.name, of) for line in self.outline(arch) if line.operation.quantized
        }

    def _training(self, arch: Architecture) -> Training:
        recipe = self.recipe(arch)
        return Training(recipe.dropout, recipe.stochastic_depth)

    @cached_property
    def identity(self) -> str:
        """The document without its name: spaces that mean the same have the same keys."""
        return self.document.model_dump_json(exclude={"name"})
