"""The variables of a cell of blocks, which states its blocks read, and its canonical form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.architecture import Genes
from search_spaces.cell_document import CellSection
from search_spaces.feature import Mask, both, negated
from search_spaces.variables import Values, Variable, Variables


@dataclass(frozen=True)
class BlockGenes:
    """The five variables of a block."""

    inputs: tuple[Variable, Variable]
    operations: tuple[Variable, Variable]
    combine: Variable

    @property
    def symmetric(self) -> bool:
        """Whether its two sides have the same choices, so that they may change places."""
        (a, b), (p, q) = self.inputs, self.operations
        return (a.values, p.values) == (b.values, q.values)


@dataclass(frozen=True)
class CellGenes:
    """The variables of a cell; state k + 2 is what block k gives."""

    blocks: tuple[BlockGenes, ...]
    output: str | tuple[int, ...]
    """States that are put side by side; or ``unused``, or ``blocks``."""

    def outputs(self, of: Values) -> list[Mask]:
        """Which states the cell's output is made of."""
        states = range(len(self.blocks) + 2)
        if self.output == "blocks":
            return [k >= 2 for k in states]
        if self.output != "unused":
            return [k in self.output for k in states]
        return [negated(self._read(of, k, [True] * len(self.blocks))) for k in states]

    def heard(self, of: Values) -> list[Mask]:
        """Which states reach the cell's output."""
        heard = self.outputs(of)
        for k in reversed(range(len(heard))):  # a state is read by later blocks only
            heard[k] = heard[k] | self._read(of, k, heard[2:])
        return heard

    def canonical(self, genes: Genes) -> None:
        """Bring a population into canonical form, in place.

        The two sides of a block are sorted, as sums do not tell them apart and what reads a concatenation weighs
        all its channels; the genes of blocks that do not reach the output become 0.
        """
        for block, heard in zip(self.blocks, self.heard(Values(genes))[2:], strict=True):
            variables = [*block.inputs, *block.operations, block.combine]
            columns = [v.column for v in variables if v.column is not None]
            if heard is not True:
                genes[:, columns] = np.where(np.reshape(heard, (-1, 1)), genes[:, columns], 0)
            pairs = [pair for pair in (block.inputs, block.operations) if pair[0].column is not None]
            if block.symmetric and pairs:
                left = np.stack([genes[:, a.column] for a, _ in pairs])
                right = np.stack([genes[:, b.column] for _, b in pairs])
                swapped = _greater(left, right)
                for (a, b), x, y in zip(pairs, left, right, strict=True):
                    genes[:, a.column], genes[:, b.column] = np.where(swapped, y, x), np.where(swapped, x, y)

    def _read(self, of: Values, state: int, blocks: Sequence[Mask]) -> Mask:
        """Where one of the blocks whose masks hold reads a state."""
        read: Mask = False
        for block, mask in zip(self.blocks, blocks, strict=True):
            for variable in block.inputs:
                read = read | both(mask, of.among(variable, state))
        return read


def add_cell(variables: Variables, path: str, section: CellSection) -> CellGenes:
    """The variables of a cell."""
    blocks = []
    for k, block in enumerate(section.open_or_given):
        name = f"{path}.{k}"
        one, two = (variables.add(f"{name}.input_{i + 1}", block.inputs[i]) for i in (0, 1))
        first, second = (variables.add(f"{name}.operation_{i + 1}", block.operations[i]) for i in (0, 1))
        combine = variables.add(f"{name}.combine", block.combine)
        blocks.append(BlockGenes((one, two), (first, second), combine))
    return CellGenes(tuple(blocks), section.output)


def _greater(left: Genes, right: Genes) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Where columns of `left` come after those of `right` in lexicographic order; both of shape (k, n)."""
    after = np.zeros(left.shape[1], dtype=bool)
    for x, y in zip(left[::-1], right[::-1], strict=True):
        after = (x > y) | ((x == y) & after)
    return after
