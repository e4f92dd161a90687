"""Cells as graphs, for drawings."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.cell_genes import CellGenes
from search_spaces.graph import Graph, Node, Port
from search_spaces.variables import Values


def edge_cell(operations: Mapping[tuple[int, int], str]) -> Graph:
    """A cell with an operation on each edge (from node i to node j); only those that count are given."""
    last = max((j for _, j in operations), default=1)
    nodes = [Node("0", "input")]
    for j in sorted({j for _, j in operations} | {last}):
        ports = tuple(Port(str(i), operation) for (i, target), operation in operations.items() if target == j)
        name = "output" if j == last else f"node {j}"
        nodes.append(Node(str(j), f"{name}: {'sum' if ports else 'zeros'}", ports))
    return Graph("cell", tuple(nodes))


def block_cell(title: str, cell: CellGenes, of: Values) -> Graph:
    """A cell of blocks of one network; blocks that do not reach its output are left out."""
    nodes = [Node("0", "newer input"), Node("1", "older input")]
    heard = cell.heard(of)
    for k, block in enumerate(cell.blocks):
        ports = tuple(
            Port(of.word(source), of.word(operation))
            for source, operation in zip(block.inputs, block.operations, strict=True)
        )
        if heard[k + 2]:
            nodes.append(Node(str(k + 2), f"block {k}: {of.word(block.combine)}", ports))
    states = [str(k) for k, used in enumerate(cell.outputs(of)) if used]
    return Graph(title, (*nodes, Node("output", "output: concat", tuple(map(Port, states)))))
