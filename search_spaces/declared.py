"""What the declared families share: a document, its three sections as genes, and costs from the layer table."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from search_spaces.architecture import Architecture, Genes
from search_spaces.document import Section
from search_spaces.layers import LayerTable, costs
from search_spaces.quantization import Bits, Policy, Quantization
from search_spaces.recipe import Recipe, RecipeGenes, RecipeSection
from search_spaces.space import Space


class FamilySection(Section):
    """The keys that every family's document has."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    input: tuple[int, int, int] = Field(description="channels, height, width")
    classes: int = Field(ge=2)
    quantization: Quantization = Quantization()
    recipe: RecipeSection = RecipeSection()

    @field_validator("input")
    @classmethod
    def _positive(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError(f"{list(value)} is not allowed; allowed: [channels, height, width], each >= 1")
        return value


class DeclaredSpace(Space):
    """A space read from a document."""

    document: FamilySection
    _policy: Policy
    _recipe: RecipeGenes

    @abstractmethod
    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population."""

    def costs(self, genes: Genes) -> dict[str, NDArray[np.float64]]:
        """`params`, `macs` and `model_size_bytes` of the canonical networks, each of shape (n,), exact."""
        return costs(self.layers(self.canonical_genes(genes)))

    def recipe(self, arch: Architecture) -> Recipe:
        """How the architecture is to be trained."""
        return self._recipe.recipe(arch.genes)

    def policy(self, arch: Architecture) -> dict[str, Bits]:
        """Bits of every module that the network has, by module name."""
        layers = self.layers(self.canonical_genes(self.genes([arch])))
        rows = zip(
            layers.names,
            layers.weights[0].tolist(),
            layers.weight_bits[0].tolist(),
            layers.activation_bits[0].tolist(),
            strict=True,
        )
        return {name: Bits(w, a) for name, weights, w, a in rows if weights}

    @cached_property
    def identity(self) -> str:
        """The document without its name: spaces that mean the same have the same keys."""
        return self.document.model_dump_json(exclude={"name"})
