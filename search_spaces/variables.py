"""From domains to genes: each place of a document becomes a variable, and those with a choice become genes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


class Row:
    """Variables side by side, read from a population at once."""

    def __init__(self, variables: Sequence[Variable], words: Sequence[Value] = ()) -> None:
        """Variables whose values are numbers, or stand in `words` and are read as positions in it."""
        width = max((len(v.values) for v in variables), default=1)
        numbers = [[words.index(x) if words else x for x in v.values] for v in variables]
        self._values = np.array([row + row[:1] * (width - len(row)) for row in numbers])
        self._columns = np.array([v.column or 0 for v in variables], dtype=np.int64)
        self._chosen = np.array([v.column is not None for v in variables])
        self._place = np.arange(len(variables))

    def read(self, genes: Genes) -> NDArray[Any]:
        """The values, shape (n, variables); integers where all values are integers."""
        if not self._chosen.any():
            return np.broadcast_to(self._values[:, 0], (len(genes), len(self._place)))
        return self._values[self._place, genes[:, self._columns] * self._chosen]  # type: ignore[no-any-return]


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
