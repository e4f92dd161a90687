"""NASNet: a normal and a reduction cell of blocks (see `cell_walk`), and the networks they are stacked to.

Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition" (CVPR 2018). Three stages of
normal cells, a reduction cell between them that halves the map and doubles the width. Every cell reads the
outputs of the two cells before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Architecture, Genes
from search_spaces.cell import CellSpace
from search_spaces.cell_document import BlockCellsSection, CellDocument
from search_spaces.cell_genes import CellGenes, add_cell
from search_spaces.cell_graphs import block_cell
from search_spaces.cell_walk import Inputs, Place, Wiring, write_cell
from search_spaces.costs import Counting
from search_spaces.domains import Value
from search_spaces.feature import Feature, simplified
from search_spaces.graph import Graph
from search_spaces.network import Network, conv_norm
from search_spaces.operations import Activation, AuxiliaryHead, Conv, Dropout, GlobalPool, Linear
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.variables import Values, Variable, Variables

STAGES = 3
_When: TypeAlias = Mapping[Variable, Sequence[Value]]


class BlockCellSpace(CellSpace):
    """Networks of a `CellDocument` of blocks; choices as ``normal.0.input_1`` and ``reduction.4.operation_2``."""

    def __init__(self, document: CellDocument, name: str = "cell") -> None:
        super().__init__(document, name)
        assert isinstance(document.architecture, BlockCellsSection)
        self._section = section = document.architecture
        variables = Variables()
        self._normal = add_cell(variables, "normal", section.normal)
        self._reduction = add_cell(variables, "reduction", section.reduction or section.normal)
        self._width = variables.add("width", section.width)
        self._cells = variables.add("cells", section.cells)
        self._drop = variables.add("drop_path", section.drop_path)
        self._stems = 2 if section.skeleton == "imagenet" else 0
        self._policy = add_policy(variables, document.quantization, self._parts(document.quantization.per))
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices

    @override
    def canonical_genes(self, genes: Genes) -> Genes:
        """The two sides of every block sorted, and blocks that do not reach their cell's output reset.

        Cells that differ in the order of their blocks only keep keys of their own.
        """
        genes = super().canonical_genes(genes).copy()
        for cell in (self._normal, self._reduction):
            cell.canonical(genes)
        return genes

    @override
    def graphs(self, arch: Architecture) -> tuple[Graph, ...]:
        of = Values(self.canonical_genes(self.genes([arch])))
        cells = {"normal cell": self._normal, "reduction cell": self._reduction}
        return tuple(block_cell(title, cell, of) for title, cell in cells.items())

    @override
    def costs(
        self, genes: Genes, metrics: Collection[str] | None = None, counting: Counting | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """As those of every family, of the canonical form: which side of a block runs first changes memory."""
        return super().costs(self.canonical_genes(genes), metrics, counting)

    @override
    def write(self, net: Network, of: Values) -> Feature:
        normal, reduction = (Wiring.read(of, cell) for cell in (self._normal, self._reduction))
        x = net.start(Feature(*self.document.input))
        inputs = self._write_stem(net, of, reduction, x)
        for stage in range(STAGES):
            if stage:
                place = self._place(of, f"stages.{stage}.reduction.", stage, -1, 2)
                inputs = Inputs(write_cell(net, reduction, place, inputs), self._kept(inputs), halved=True)
            for cell in range(max(int(n) for n in self._cells.values)):
                mask = simplified(of[self._cells] > cell)
                with net.only(mask) as there:
                    if there is False:
                        break
                    y = write_cell(net, normal, self._place(of, f"stages.{stage}.{cell}.", stage, cell), inputs)
                older = inputs.newer if inputs.older is None else net.select(mask, inputs.newer, inputs.older)
                inputs = Inputs(net.select(mask, y, inputs.newer), older)
            if self._section.auxiliary_head and stage == STAGES - 2:
                head = AuxiliaryHead(self.document.classes)
                inputs = replace(inputs, newer=net.layer("auxiliary", head, inputs.newer))
        x = net.apply(GlobalPool(), net.apply(Activation("relu"), inputs.newer))
        if net.training.dropout:
            x = net.layer("dropout", Dropout(net.training.dropout), x)
        return net.layer("classifier", Linear(self.document.classes), x)

    def _write_stem(self, net: Network, of: Values, reduction: Wiring, x: Feature) -> Inputs:
        multiplier = self._section.stem_multiplier
        if not self._stems:
            return Inputs(conv_norm(net, "stem.conv", Conv(multiplier * of[self._width], 3), x))
        inputs = Inputs(conv_norm(net, "stem.conv", Conv(32 * multiplier, 3, 2, padding=0), x))
        for k in range(self._stems):
            place = self._place(of, f"stem.{k}.", 0, k - self._stems, 2)
            place = replace(place, width=place.width // 2 ** (self._stems - k))
            inputs = Inputs(write_cell(net, reduction, place, inputs), inputs.newer, halved=True)
        return inputs

    def _kept(self, inputs: Inputs) -> Feature | None:
        """The older input of the cell after a reduction."""
        return inputs.older if self._section.skip_reduction_layer_input else inputs.newer

    def _place(self, of: Values, path: str, stage: int, cell: int, stride: int = 1) -> Place:
        """The place of a cell; a reduction is number -1 of the stage that it leads to."""
        cells = int(of.word(self._cells))
        before = self._stems + stage * (cells + 1) + cell
        total = self._stems + STAGES * cells + STAGES - 1
        drop = float(of.word(self._drop)) * (before + 1) / total  # what is deeper is dropped more often
        return Place(path, of[self._width] * 2**stage, stride, drop)

    def _parts(self, per: str) -> list[Part]:
        """The parts that have a policy of their own: stem, stages, cells or their blocks, head."""
        found = [Part("stem", {})]
        for stage in range(STAGES):
            if per == "stage":
                found.append(Part(f"stages.{stage}", {}))
                continue
            if stage:
                found += _cell_parts(f"stages.{stage}.reduction", self._reduction, per, {})
            for cell in range(max(int(n) for n in self._cells.values)):
                there: _When = {self._cells: [n for n in self._cells.values if int(n) > cell]}
                found += _cell_parts(f"stages.{stage}.{cell}", self._normal, per, there)
        return [*found, Part("head", {})]


def _cell_parts(path: str, cell: CellGenes, per: str, there: _When) -> list[Part]:
    """A cell, or the fits of its inputs and each of its blocks, whose two sides have to be alike."""
    if per == "layer":
        return [Part(path, there)]
    inner = ["newer", "older", *map(str, range(len(cell.blocks))), "output"]
    return [Part(f"{path}.{name}", there) for name in inner]
