"""From domains to genes: each place of a document becomes a variable, and those with a choice become genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Choice, Condition, Genes
from search_spaces.domains import Domain, Value


@dataclass(frozen=True)
class Variable:
    """One place of a document, fixed or chosen by the gene in `column`."""

    name: str
    values: tuple[Value, ...]
    column: int | None

    def of(self, genes: Sequence[int]) -> Value:
        """The value that one architecture has here."""
        return self.values[0 if self.column is None else genes[self.column]]

    def read(self, genes: Genes) -> NDArray[np.int64]:
        """The values of a population as integers, shape (n,). For variables whose values are integers."""
        if self.column is None:
            return np.full(len(genes), int(self.values[0]), dtype=np.int64)
        return np.array(self.values, dtype=np.int64)[genes[:, self.column]]

    def read_real(self, genes: Genes) -> NDArray[np.float64]:
        """The values of a population as real numbers, shape (n,)."""
        if self.column is None:
            return np.full(len(genes), float(self.values[0]))
        return np.array(self.values, dtype=np.float64)[genes[:, self.column]]

    def equals(self, genes: Genes, value: Value) -> NDArray[np.bool_]:
        """Where a population has `value` here, shape (n,)."""
        if self.column is None:
            return np.full(len(genes), self.values[0] == value)
        return np.array([v == value for v in self.values])[genes[:, self.column]]


class Variables:
    """Collects variables while a space is constructed, in the order in which they become genes."""

    def __init__(self) -> None:
        self._choices: list[Choice] = []

    def add(
        self, name: str, domain: Domain, when: Mapping[Variable, Collection[Value]] | None = None
    ) -> Variable:
        """A variable that has an effect only where every variable in `when` takes one of its listed values."""
        conditions: list[Condition] = []
        effective = True
        for parent, allowed in (when or {}).items():
            held = tuple(v for v in parent.values if v in allowed)
            if not held:
                effective = False  # it can never matter, so it is no gene
            elif len(held) < len(parent.values):
                conditions.append(Condition(parent.name, held))
        if domain.fixed or not effective:
            return Variable(name, domain.values[:1], None)
        self._choices.append(Choice(name, domain.values, tuple(conditions)))
        return Variable(name, domain.values, len(self._choices) - 1)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The genes collected so far."""
        return tuple(self._choices)
