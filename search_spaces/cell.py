"""The `cell` family: a directed acyclic graph with one operation on each edge, repeated along a fixed skeleton.

NAS-Bench-201 (Dong and Yang, ICLR 2020): nodes 0..3, six edges, five operations; a node is the sum of its
incoming edges. Skeleton: 3 x 3 stem, three stages of cells, a residual block that halves the map and doubles the
width between stages, then batch norm, global average pooling and a linear classifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from search_spaces.architecture import Architecture, Genes
from search_spaces.declared import DeclaredSpace, FamilySection
from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, varied
from search_spaces.layers import Column, LayerTable, table
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.space import BuildError
from search_spaces.variables import Variables

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


class CellArchitectureSection(Section):
    """One cell, and how often it stands in the network."""

    nodes: Annotated[int, Field(ge=2, le=8)] = 4
    operations: choice(*OPERATIONS)  # type: ignore[valid-type]
    width: varied(integer(1, 1024), {"type": "integer", "minimum": 1}) = Domain((16,))  # type: ignore[valid-type]
    cells: Annotated[int, Field(ge=1, le=64, description="cells a stage")] = 5
    stages: Annotated[int, Field(ge=1, le=8)] = 3


class CellDocument(FamilySection):
    """A space of cells."""

    family: Literal["cell"]
    architecture: CellArchitectureSection

    @field_validator("input")
    @classmethod
    def _positive(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(value) < 1:
            raise ValueError(f"{list(value)} is not allowed; allowed: [channels, height, width], each >= 1")
        return value


class CellSpace(DeclaredSpace):
    """Networks of a `CellDocument`; choices ``edge_i_j``: the operation from node i to node j."""

    document: CellDocument

    def __init__(self, document: CellDocument, name: str = "cell") -> None:
        self.document = document
        self.name = document.name or name
        section = document.architecture
        variables = Variables()
        self.edges = [(i, j) for j in range(1, section.nodes) for i in range(j)]
        self.operations = [variables.add(f"edge_{i}_{j}", section.operations) for i, j in self.edges]
        self.width = variables.add("width", section.width)
        parts, part_of = self._parts(document.quantization.per)
        self._policy = add_policy(variables, document.quantization, parts, part_of)
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices

    def canonical_genes(self, genes: Genes) -> Genes:
        """Operations on edges that lie on no path from input to output become ``none``.

        Such edges carry only what is discarded or only zeros, so the network computes the same without them.
        Networks that are twins for another reason (an operation after a skip, say) keep keys of their own.
        """
        genes = super().canonical_genes(genes)
        if not all(o.column is not None and "none" in o.values for o in self.operations):
            return genes
        columns = [o.column for o in self.operations]
        none = self.operations[0].values.index("none")
        live = genes[:, columns] != none
        out = genes.copy()
        out[:, columns] = np.where(live & self._on_path(live), genes[:, columns], none)
        return out

    def build(self, arch: Architecture) -> nn.Module:
        """Raises `BuildError`: the family describes and counts networks, and has no torch builder yet."""
        raise BuildError("the cell family has no torch builder yet; use the tabular, cost or callable evaluator")

    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population."""
        section = self.document.architecture
        channels, height, width = self.document.input
        c, area = self.width.read(genes), height * width
        columns = [Column("stem.conv", 9 * channels * c, c, area)]
        for s in range(section.stages):
            if s > 0:
                height, width = -(-height // 2), -(-width // 2)
                area = height * width
                columns += [
                    Column(f"reductions.{s}.conv_a", 9 * c * 2 * c, 2 * c, area),
                    Column(f"reductions.{s}.conv_b", 9 * 2 * c * 2 * c, 2 * c, area),
                    Column(f"reductions.{s}.shortcut", c * 2 * c, 2 * c, area, normalised=False),
                ]
                c = 2 * c
            kernels = [
                sum(k * o.equals(genes, name).astype(np.int64) for name, k in _KERNELS.items())
                for o in self.operations
            ]
            for cell in range(section.cells):
                columns += [
                    Column(f"stages.{s}.{cell}.edge_{i}_{j}", k**2 * c * c, c * (k > 0), area)
                    for (i, j), k in zip(self.edges, kernels, strict=True)
                ]
        columns.append(Column("norm", 0, c, 0))
        classes = self.document.classes
        columns.append(Column("classifier", c * classes, classes, 1, normalised=False, biased=True))
        return table(len(genes), columns, *self._policy.bits(genes))

    def _parts(self, per: str) -> tuple[list[Part], list[int]]:
        section = self.document.architecture
        names, part_of = ["stem"], [0]
        for s in range(section.stages):
            for cell in range(section.cells):
                name = f"stages.{s}.{cell}" if per == "layer" else f"stages.{s}"
                if names[-1] != name:
                    names.append(name)
                extra = 3 if s > 0 and cell == 0 else 0  # the reduction before a stage shares its first part
                part_of += [len(names) - 1] * (extra + len(self.edges))
        names.append("head")
        return [Part(name, {}) for name in names], [*part_of, len(names) - 1, len(names) - 1]

    def _on_path(self, live: np.ndarray) -> np.ndarray:
        """Which edges lie on a path of live edges from the first node to the last, shape (n, edges)."""
        nodes = self.document.architecture.nodes
        forward = np.zeros((len(live), nodes), dtype=bool)
        backward = np.zeros((len(live), nodes), dtype=bool)
        forward[:, 0] = backward[:, -1] = True
        for e, (i, j) in enumerate(self.edges):  # ordered by target: i is complete before it is read
            forward[:, j] |= live[:, e] & forward[:, i]
        for e, (i, j) in reversed(list(enumerate(self.edges))):
            backward[:, i] |= live[:, e] & backward[:, j]
        starts, ends = zip(*self.edges, strict=True)
        return forward[:, list(starts)] & backward[:, list(ends)]
