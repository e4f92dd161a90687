"""From domains to genes: each place of a document becomes a variable, and those with a choice become genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.architecture import Choice, Condition, Genes
from search_spaces.domains import Domain, Value
from search_spaces.feature import Mask


@dataclass(frozen=True)
class Variable:
    """One place of a document, fixed or chosen by the gene in `column`."""

    name: str
    values: tuple[Value, ...]
    column: int | None

    def of(self, genes: Sequence[int]) -> Value:
        """The value that one architecture has here."""
        return self.values[0 if self.column is None else genes[self.column]]


class Values:
    """What the variables of a space are in a population; plain scalars where it is a single network."""

    def __init__(self, genes: Genes) -> None:
        """Genes of shape (n, d)."""
        self.n = len(genes)
        self._genes: Any = genes[0].tolist() if self.n == 1 else np.ascontiguousarray(genes.T)

    def __getitem__(self, variable: Variable) -> Any:
        """Its value: a scalar where all networks agree, else an array of shape (n,)."""
        if variable.column is None:
            return variable.values[0]
        if self.n == 1:
            return variable.values[self._genes[variable.column]]
        return np.array(variable.values)[self._genes[variable.column]]

    def among(self, variable: Variable, *values: Value) -> Mask:
        """Where it is one of `values`."""
        if variable.column is None:
            return variable.values[0] in values
        if self.n == 1:
            return variable.values[self._genes[variable.column]] in values
        return np.array([v in values for v in variable.values])[self._genes[variable.column]]

    def word(self, variable: Variable) -> str:
        """Its value as text, for what no cost depends on; of a population, that of its first network."""
        if variable.column is None:
            return str(variable.values[0])
        gene = self._genes[variable.column]
        return str(variable.values[gene if self.n == 1 else int(gene[0])])


class Variables:
    """Collects variables while a space is constructed, in the order in which they become genes."""

    def __init__(self) -> None:
        self._choices: list[Choice] = []

    def add(self, name: str, domain: Domain, when: Mapping[Variable, Collection[Value]] | None = None) -> Variable:
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
