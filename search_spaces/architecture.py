"""The genotype: choices, and an architecture as a tuple of indices into them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_spaces.domains import Value

Genes = NDArray[np.int64]
"""A population: shape (n, d), one row an architecture, one column a choice; entries index `Choice.values`."""


@dataclass(frozen=True)
class Condition:
    """A choice has an effect only where the choice `name` takes one of `values`."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Choice:
    """One place of a document where several values may stand."""

    name: str
    values: tuple[Value, ...]
    when: tuple[Condition, ...] = ()
    """All must hold for the choice to have an effect; each names a choice that stands before this one."""

    @cached_property
    def ordered(self) -> bool:
        """Whether the values are numbers, whose order means something."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)


@dataclass(frozen=True, eq=False)
class Architecture(Mapping[str, Value]):
    """One point of a search space, by genes and by name.

    Reads as a mapping from choice names to values: ``architecture["stages.0.kernel"]``. Iterating gives only
    the choices that have an effect; a value without effect can still be read by its name.
    """

    genes: tuple[int, ...]
    """Indices into the values of `choices`, in their order."""
    key: str
    """Equal for equal networks: a digest of the canonical genes and of the space they belong to."""
    choices: Sequence[Choice] = field(repr=False)

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            raise KeyError(f"{name!r} is not a choice of this space: {', '.join(self._values)}")
        return self._values[name]

    @cached_property
    def _values(self) -> dict[str, Value]:
        return {c.name: c.values[g] for c, g in zip(self.choices, self.genes, strict=True)}

    def __iter__(self) -> Iterator[str]:
        effective: dict[str, Value] = {}
        for choice, gene in zip(self.choices, self.genes, strict=True):
            if all(w.name in effective and effective[w.name] in w.values for w in choice.when):
                effective[choice.name] = choice.values[gene]
        return iter(effective)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Architecture):
            return NotImplemented
        return (self.key, self.genes) == (other.key, other.genes)

    def __hash__(self) -> int:
        return hash((self.key, self.genes))


def fingerprint(name: str, choices: Sequence[Choice]) -> bytes:
    """Digest of what the genes of a space mean, so that keys of different spaces differ."""
    text = repr([(c.name, c.values, c.when) for c in choices])
    return hashlib.blake2b(f"{name}\n{text}".encode(), digest_size=16).digest()


def key_of(space_fingerprint: bytes, canonical_genes: NDArray[np.int64]) -> str:
    """The key of canonical genes: 32 hexadecimal digits."""
    data = canonical_genes.astype("<u2").tobytes()
    return hashlib.blake2b(data, key=space_fingerprint, digest_size=16).hexdigest()
