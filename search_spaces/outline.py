"""One network as a list of its operations, for policies, tables and drawings."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from search_spaces.feature import Feature, Mask
from search_spaces.network import Network, renamed
from search_spaces.operations import Linear, Operation


@dataclass(frozen=True)
class Line:
    """One operation of one network, with what it reads and gives."""

    name: str
    """Of the layer; empty for operations without a name."""
    operation: Operation
    inputs: tuple[Feature, ...]
    output: Feature

    @property
    def weights(self) -> int:
        """Entries of its weight."""
        return int(self.operation.weights(*self.inputs))

    @property
    def params(self) -> int:
        """All its entries that are learnt."""
        fixed = isinstance(self.operation, Linear) and not self.operation.learned
        return (0 if fixed else self.weights) + int(self.operation.vectors(*self.inputs))

    @property
    def macs(self) -> int:
        """Its multiply-accumulates for one example."""
        return int(self.operation.macs(self.output, *self.inputs))


class Outline(Network):
    """Lists the operations of a walk through one network; a feature's node is its line's number, -1 the input."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    @override
    def start(self, x: Feature) -> Feature:
        return renamed(x, -1)

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        return self._add(name, operation, inputs)

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        return self._add("", operation, inputs)

    @override
    def select(self, mask: Mask, yes: Feature, no: Feature) -> Feature:
        return yes if mask else no

    def _add(self, name: str, operation: Operation, inputs: tuple[Feature, ...]) -> Feature:
        y = operation.output(*inputs)
        if self.there is False:
            return y
        y = renamed(y, len(self.lines))
        self.lines.append(Line(name, operation, inputs, y))
        return y
