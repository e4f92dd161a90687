"""The `cell` family: a directed acyclic graph with one operation on each edge, repeated along a fixed skeleton.

NAS-Bench-201 (Dong and Yang, ICLR 2020): nodes 0..3, six edges, five operations; a node is the sum of its
incoming edges. Skeleton: 3 x 3 stem, three stages of cells, a residual block that halves the map and doubles the
width between stages, then batch norm, global average pooling and a linear classifier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search_spaces.architecture import Architecture, Genes
from search_spaces.declared import DeclaredSpace, FamilySection
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice, integer, varied
from search_spaces.layers import Block, LayerTable, Modules
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.space import BuildError
from search_spaces.variables import Row, Variables

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class CellArchitectureSection(Section):
    """One cell, and how often it stands in the network."""

    nodes: Annotated[int, Field(ge=2, le=8)] = 4
    operations: choice(*OPERATIONS)  # type: ignore[valid-type]
    width: varied(integer(1, 1024), {"type": "integer", "minimum": 1}) = Domain((16,))  # type: ignore[valid-type]
    cells: Annotated[int, Field(ge=1, le=16, description="cells a stage")] = 5
    stages: Annotated[int, Field(ge=1, le=8)] = 3


class CellDocument(FamilySection):
    """A space of cells."""

    family: Literal["cell"]
    architecture: CellArchitectureSection


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
        self._widths = Row([self.width])
        self._kernels = Row([replace(o, values=tuple(map(_kernel, o.values))) for o in self.operations])
        self._modules = Modules(
            self._module_names(), biased=frozenset({"classifier"}), bare=frozenset({"shortcut"})
        )

    def canonical_genes(self, genes: Genes) -> Genes:
        """Operations that change nothing become ``none``.

        That is, those whose result never reaches the output, and those that pass zeros on. A convolution fed
        with zeros stays: the batch norm after it may have learnt a bias. Networks that are twins for another
        reason (an operation after a skip, say) keep keys of their own.
        """
        genes = super().canonical_genes(genes)
        if not all(o.column is not None and "none" in o.values for o in self.operations):
            return genes
        columns = [o.column for o in self.operations if o.column is not None]
        none = self.operations[0].values.index("none")
        useful = self._useful(genes[:, columns] != none, self._kernels.read(genes) > 0)
        out = genes.copy()
        out[:, columns] = np.where(useful, genes[:, columns], none)
        return out

    def _useful(self, live: NDArray[np.bool_], conv: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which live edges carry more than zeros, and to the output; all of shape (n, edges)."""
        nodes = self.document.architecture.nodes
        signal = np.zeros((len(live), nodes), dtype=bool)  # may be other than zero
        heard = np.zeros((len(live), nodes), dtype=bool)  # reaches the output
        signal[:, 0] = heard[:, -1] = True
        for e, (i, j) in enumerate(self.edges):  # ordered by target: node i is complete before it is read
            signal[:, j] |= live[:, e] & (signal[:, i] | conv[:, e])
        for e, (i, j) in reversed(list(enumerate(self.edges))):
            heard[:, i] |= live[:, e] & heard[:, j]
        sources, targets = (list(ends) for ends in zip(*self.edges, strict=True))
        useful: NDArray[np.bool_] = live & heard[:, targets] & (signal[:, sources] | conv)
        return useful

    def build(self, arch: Architecture) -> nn.Module:
        """Raises `BuildError`: the family describes and counts networks, and has no torch builder yet."""
        raise BuildError("the cell family has no torch builder yet; use the tabular, cost or callable evaluator")

    def layers(self, genes: Genes) -> LayerTable:
        """The weight tensors of a population."""
        section, n = self.document.architecture, len(genes)
        channels, height, width = self.document.input
        ones = np.ones((n, 1), dtype=np.int64)
        c, area = self._widths.read(genes), height * width
        kernels = self._kernels.read(genes)
        blocks: list[Block] = [(9 * channels * c, c, area * ones)]
        for s in range(section.stages):
            if s > 0:
                height, width = -(-height // 2), -(-width // 2)
                area = height * width
                block = np.array([18, 36, 2]) * c**2  # two 3 x 3 convolutions and a 1 x 1 shortcut
                blocks.append((block, np.array([2, 2, 2]) * c, np.full_like(block, area)))
                c = 2 * c
            edges = np.arange(section.cells * len(self.edges)) % len(self.edges)  # every cell alike
            weights, outputs = (kernels**2 * c * c)[:, edges], (c * (kernels > 0))[:, edges]
            blocks.append((weights, outputs, np.full_like(weights, area)))
        classes = self.document.classes * ones
        blocks += [(0 * c, c, 0 * ones), (c * classes, classes, ones)]
        return self._modules.table(blocks, *self._policy.bits(genes))

    def _module_names(self) -> tuple[str, ...]:
        section = self.document.architecture
        names = ["stem.conv"]
        for s in range(section.stages):
            names += [f"reductions.{s}.{part}" for part in ("conv_a", "conv_b", "shortcut") if s > 0]
            names += [f"stages.{s}.{cell}.edge_{i}_{j}" for cell in range(section.cells) for i, j in self.edges]
        return (*names, "norm", "classifier")

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


def _kernel(operation: Value) -> int:
    """Kernel size of an operation's convolution; 0 where it has no weights."""
    return {"nor_conv_1x1": 1, "nor_conv_3x3": 3}.get(str(operation), 0)
