"""Cells with an operation on each edge of a complete directed acyclic graph, as in NAS-Bench-201.

Dong and Yang, "NAS-Bench-201" (ICLR 2020): a node is the sum of its incoming edges. Skeleton: 3 x 3 stem, stages
of cells, between them a residual block that halves the map and doubles the width, then batch norm, ReLU, global
average pooling and a linear classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Architecture, Genes
from search_spaces.cell import CellSpace
from search_spaces.cell_classes import MAX_CELLS, representatives
from search_spaces.cell_document import CellDocument, EdgeCellsSection
from search_spaces.cell_graphs import edge_cell
from search_spaces.cell_paths import path_features
from search_spaces.domains import Domain, Value
from search_spaces.feature import Feature, Ints, Mask, both, negated, where
from search_spaces.graph import Graph
from search_spaces.network import Network, conv_norm, one_of, optional, runs
from search_spaces.operations import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    Dropout,
    GlobalPool,
    Linear,
    Pool,
    Shrink,
    Zeros,
)
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.variables import Values, Variable, Variables

CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


class EdgeCellSpace(CellSpace):
    """Networks of a `CellDocument` of edges; choices ``edge_i_j``: the operation from node i to node j.

    An operation is dead if it lies on no path of others than ``none`` from the cell's input to its output. Dead
    ones are neither built nor counted. Costs of genes that are not canonical are those of the cell as it is
    written: twins compute the same function, some of them with fewer weights.
    """

    def __init__(self, document: CellDocument, name: str = "cell") -> None:
        super().__init__(document, name)
        assert isinstance(document.architecture, EdgeCellsSection)
        self._section = document.architecture
        variables = Variables()
        self._edges = [(i, j) for j in range(1, self._section.nodes) for i in range(j)]
        self._operations = [variables.add(f"edge_{i}_{j}", self._section.operations) for i, j in self._edges]
        self._width = variables.add("width", self._section.width)
        self._cells = variables.add("cells", self._section.cells)
        self._policy = add_policy(variables, document.quantization, self._parts(document.quantization.per))
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices

    @override
    def canonical_genes(self, genes: Genes) -> Genes:
        """Cells that compute the same function become one (see `cell_classes`).

        Where there are more than 100,000 cells, or where every convolution has a quantization of its own, only
        dead operations become ``none``, if that is among the operations.
        """
        if self._columns:
            genes = genes.copy()
            if self._merges:
                number = np.ravel_multi_index(tuple(genes[:, self._columns].T), self._shape)
                genes[:, self._columns] = self._representatives[number]
            elif "none" in self._section.operations.values:
                none = self._section.operations.values.index("none")
                live = np.stack([np.broadcast_to(m, len(genes)) for m in self._live(Values(genes))], axis=1)
                genes[:, self._columns] = np.where(live, genes[:, self._columns], none)
        return super().canonical_genes(genes)

    @override
    def structure(self, genes: Genes) -> NDArray[np.float64]:
        """Paths of the cell, see `cell_paths`."""
        if not self._columns:
            return np.zeros((len(genes), 0))
        cells = genes[:, self._columns]
        if math.prod(self._shape) > MAX_CELLS:
            return self._paths(cells)
        number = np.ravel_multi_index(tuple(cells.T), self._shape)
        return np.asarray(self._path_table[number])

    @override
    def graphs(self, arch: Architecture) -> tuple[Graph, ...]:
        of = Values(self.canonical_genes(self.genes([arch])))
        edges = zip(self._edges, self._live(of), self._operations, strict=True)
        return (edge_cell({edge: of.word(operation) for edge, live, operation in edges if live}),)

    @override
    def write(self, net: Network, of: Values) -> Feature:
        live = self._live(of)
        x = conv_norm(net, "stem.conv", Conv(of[self._width], 3), net.start(Feature(*self.document.input)))
        for stage in range(self._section.stages):
            if stage:
                x = _reduction(net, f"stages.{stage}.reduction.", x)
            for cell, times in runs(net, max(int(n) for n in self._cells.values), of[self._cells], alike=0):
                write = partial(self._write_cell, net, of, f"stages.{stage}.{cell}.", live)
                with net.times(times):
                    x = optional(net, of[self._cells] > cell, x, write)
        x = net.apply(Activation("relu"), net.layer("norm", BatchNorm(), x))
        x = net.apply(GlobalPool(), x)
        if net.training.dropout:
            x = net.layer("dropout", Dropout(net.training.dropout), x)
        return net.layer("classifier", Linear(self.document.classes), x)

    def _write_cell(self, net: Network, of: Values, path: str, live: Sequence[Mask], x: Feature) -> Feature:
        nodes, last = [x], self._section.nodes - 1
        for j in range(1, last + 1):
            terms: list[tuple[Mask, Callable[[], Feature]]] = []
            for (i, target), mask, operation in zip(self._edges, live, self._operations, strict=True):
                if target == j:
                    name = f"{path}edge_{i}_{j}"
                    terms.append((mask, lambda n=name, o=operation, f=nodes[i]: _write_edge(net, of, n, o, f)))  # type: ignore[misc]
            nodes.append(_summed(net, x, terms))
        return nodes[-1]

    def _live(self, of: Values) -> list[Mask]:
        """Which edges lie on a path from the input to the output."""
        given = [negated(of.among(o, "none")) for o in self._operations]
        reached: list[Mask] = [True] + [False] * (self._section.nodes - 1)
        heard = reached[::-1]
        for mask, (i, j) in zip(
            given, self._edges, strict=True
        ):  # by target: the source is complete before it is read
            reached[j] = reached[j] | both(mask, reached[i])
        for mask, (i, j) in reversed(list(zip(given, self._edges, strict=True))):
            heard[i] = heard[i] | both(mask, heard[j])
        return [both(mask, both(reached[i], heard[j])) for mask, (i, j) in zip(given, self._edges, strict=True)]

    @property
    def _columns(self) -> list[int]:
        return [o.column for o in self._operations if o.column is not None]

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self._section.operations.values),) * len(self._edges)

    @property
    def _merges(self) -> bool:
        """Whether whole classes become one; not where a convolution that changes its edge changes its policy."""
        policy = self.document.quantization
        alike = all(value.fixed for _, value in policy if isinstance(value, Domain))
        few = len(self._section.operations.values) ** len(self._edges) <= MAX_CELLS
        return few and (alike or policy.per != "module")

    @cached_property
    def _representatives(self) -> Ints:
        return representatives(self._section.nodes, [str(o) for o in self._section.operations.values])

    @cached_property
    def _path_table(self) -> NDArray[np.float64]:
        """Of every cell, in the order of its number."""
        return self._paths(np.stack(np.unravel_index(np.arange(math.prod(self._shape)), self._shape), axis=1))

    def _paths(self, cells: Genes) -> NDArray[np.float64]:
        return path_features(self._section.nodes, [str(o) for o in self._section.operations.values], cells)

    def _parts(self, per: str) -> list[Part]:
        """The parts that have a policy of their own: stem, stages, cells or their convolutions, head."""
        found = [Part("stem", {})]
        for stage in range(self._section.stages):
            if per == "stage":
                found.append(Part(f"stages.{stage}", {}))
                continue
            reduction = f"stages.{stage}.reduction"
            layers = ("",) if per == "layer" else (".conv_a", ".conv_b", ".shortcut")
            found += [Part(reduction + layer, {}) for layer in layers if stage]
            for cell in range(max(int(n) for n in self._cells.values)):
                there: dict[Variable, list[Value]] = {
                    self._cells: [n for n in self._cells.values if int(n) > cell]
                }
                if per == "layer":
                    found.append(Part(f"stages.{stage}.{cell}", there))
                else:
                    found += [
                        Part(f"stages.{stage}.{cell}.{o.name}", {**there, o: CONVOLUTIONS})
                        for o in self._operations
                        if set(o.values) & set(CONVOLUTIONS)
                    ]
        return [*found, Part("head", {})]


def _write_edge(net: Network, of: Values, name: str, operation: Variable, x: Feature) -> Feature:
    """The operation of one edge; ReLU, convolution, batch norm in this order."""
    kernel = where(of.among(operation, "nor_conv_3x3"), 3, 1)
    return one_of(
        net,
        [
            (
                of.among(operation, *CONVOLUTIONS),
                lambda: conv_norm(net, name, Conv(x.channels, kernel), net.apply(Activation("relu"), x)),
            ),
            (of.among(operation, "avg_pool_3x3"), lambda: net.apply(Pool("average", 3), x)),
            (of.among(operation, "skip_connect"), lambda: x),
        ],
    )


def _summed(net: Network, x: Feature, terms: Sequence[tuple[Mask, Callable[[], Feature]]]) -> Feature:
    """The sum of the terms whose masks hold; zeros of the size of `x` where there is none."""
    total: Feature | None = None
    present: Mask = False
    for mask, walk in terms:
        with net.only(mask) as there:
            if there is False:
                continue
            term = walk()
            before = total
            if before is not None:
                term = optional(net, present, term, lambda f, t=before: net.apply(Add(), t, f))  # type: ignore[misc]
        total = term if before is None else net.select(mask, term, before)
        present = present | mask
    if total is None:
        return net.apply(Zeros(), x)
    return optional(net, negated(present), total, lambda f: net.apply(Zeros(), x))


def _reduction(net: Network, path: str, x: Feature) -> Feature:
    """Half the map and twice the width: two 3 x 3 convolutions, and an average pooled 1 x 1 beside them."""
    width = 2 * x.channels
    y = conv_norm(net, f"{path}conv_a", Conv(width, 3, 2), net.apply(Activation("relu"), x))
    y = conv_norm(net, f"{path}conv_b", Conv(width, 3), net.apply(Activation("relu"), y))
    shortcut = net.layer(f"{path}shortcut", Conv(width), net.apply(Shrink("average"), x))
    return net.apply(Add(), shortcut, y)
