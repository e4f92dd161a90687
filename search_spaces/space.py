"""A search space: choices, which of them have an effect, and what an architecture costs and builds.

A space of one's own is a subclass of `Space` that gives `choices` and `build` (and `costs`, where there is a
formula). Populations are integer arrays of shape (n, d); `Architecture` objects stand at the edges only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Architecture, Choice, Condition, Genes, fingerprint, key_of
from search_spaces.domains import Value
from search_spaces.faults import Fault, SpecError, did_you_mean, show

if TYPE_CHECKING:
    from torch import nn


class BuildError(ValueError):
    """An architecture that no network can be built from, with the reason."""


class Space(ABC):
    """What an architecture is. Subclasses are frozen: nothing changes after construction, and they pickle."""

    name: str
    choices: tuple[Choice, ...]

    @abstractmethod
    def build(self, arch: Architecture) -> nn.Module:
        """The network as a torch module with fresh weights. Raises `BuildError`."""

    def costs(self, genes: Genes, metrics: Collection[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Metrics known from formulas alone, each of shape (n,); none unless a space knows formulas.

        `metrics`: those that are wanted, where not all of them are.
        """
        return {}

    def canonical_genes(self, genes: Genes) -> Genes:
        """The population with every gene without effect reset to 0; idempotent."""
        return np.where(self.active(genes), genes, 0)

    def structure(self, genes: Genes) -> NDArray[np.float64]:
        """What genes alone do not show of how networks are wired, as columns for predictors. Shape (n, columns).

        No columns, unless a space knows some. Equal networks have equal rows.
        """
        return np.zeros((len(genes), 0))

    @cached_property
    def identity(self) -> str:
        """Text that is equal exactly when two spaces mean the same networks by the same genes."""
        return self.name

    # What follows is derived and the same for every space.

    @property
    def size(self) -> int:
        """Number of gene tuples, before genes without effect are reset; exact, however large."""
        return math.prod(len(c.values) for c in self.choices)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of values of every choice, shape (d,)."""
        return np.array([len(c.values) for c in self.choices], dtype=np.int64)

    @cached_property
    def cost_names(self) -> tuple[str, ...]:
        """The metrics that `costs` gives."""
        return tuple(self.costs(np.zeros((1, len(self.choices)), dtype=np.int64)))

    @property
    def asked_costs(self) -> tuple[str, ...]:
        """Metrics that `costs` gives besides, where they are asked for by name."""
        return ()

    def active(self, genes: Genes) -> NDArray[np.bool_]:
        """Which genes have an effect, shape (n, d)."""
        active = np.ones(genes.shape, dtype=bool)
        parents, allowed, starts, targets = self._conditions
        if len(targets):
            holds = allowed[np.arange(len(parents)), genes[:, parents]]
            active[:, targets] = np.logical_and.reduceat(holds, starts, axis=1)
        return active

    def canonical(self, arch: Architecture) -> Architecture:
        """The architecture with every gene without effect reset."""
        return self.canonical_architectures(self.canonical_genes(self.genes([arch])))[0]

    def genes(self, archs: Sequence[Architecture]) -> Genes:
        """Architectures as a population, shape (n, d)."""
        return np.array([a.genes for a in archs], dtype=np.int64).reshape(len(archs), len(self.choices))

    def architectures(self, genes: Genes) -> list[Architecture]:
        """A population as architectures, with the keys of their canonical forms."""
        keys = map(self.key, self.canonical_genes(genes))
        return [Architecture(tuple(g), k, self.choices) for g, k in zip(genes.tolist(), keys, strict=True)]

    def canonical_architectures(self, genes: Genes) -> list[Architecture]:
        """A population that is canonical already (operators give such) as architectures; saves the work."""
        return [Architecture(tuple(g.tolist()), self.key(g), self.choices) for g in genes]

    def key(self, canonical_genes: NDArray[np.int64]) -> str:
        """The key of one canonical architecture, genes of shape (d,)."""
        return key_of(self._fingerprint, canonical_genes)

    def architecture(self, values: Mapping[str, Value]) -> Architecture:
        """The architecture with these values by choice name; choices without effect may be left out.

        Raises:
            SpecError: for a name or value that the space does not have, or a missing one that has an effect.
        """
        genes, faults = self._read(values)
        if not faults:
            active = self.active(genes[None])[0]
            faults = [
                Fault(c.name, f"is required; allowed: {_listed(c)}")
                for c, used in zip(self.choices, active, strict=True)
                if used and c.name not in values
            ]
        if faults:
            raise SpecError(faults)
        return self.architectures(genes[None])[0]

    def sample(self, n: int, seed: int) -> list[Architecture]:
        """`n` canonical architectures, drawn uniformly over genes; the same for the same seed."""
        genes = np.random.default_rng(seed).integers(0, self.sizes, size=(n, len(self.choices)))
        return self.canonical_architectures(self.canonical_genes(genes))

    def cost(self, arch: Architecture) -> dict[str, float]:
        """Metrics of one architecture known from formulas: counts, and bytes."""
        return {name: float(values[0]) for name, values in self.costs(self.genes([arch])).items()}

    def _read(self, values: Mapping[str, Value]) -> tuple[NDArray[np.int64], list[Fault]]:
        """Genes of named values (0 where none is named), and everything wrong with the names and values."""
        position = {c.name: i for i, c in enumerate(self.choices)}
        genes, faults = np.zeros(len(self.choices), dtype=np.int64), []
        for name, value in values.items():
            if name not in position:
                names = list(position)
                faults.append(Fault(str(name), f"is not a choice of {self.name}{did_you_mean(name, names)}"))
                continue
            choice = self.choices[position[name]]
            found = [i for i, v in enumerate(choice.values) if v == value and _is_truth(v) == _is_truth(value)]
            if found:
                genes[position[name]] = found[0]
            else:
                faults.append(Fault(name, f"{show(value)} is not allowed; allowed: {_listed(choice)}"))
        return genes, faults

    @cached_property
    def _fingerprint(self) -> bytes:
        return fingerprint(self.identity, self.choices)

    @cached_property
    def _conditions(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """All conditions as arrays: parent of each, its allowed values, where each target's begin, targets.

        A choice inherits the conditions of the choices that its own conditions name, so one pass suffices.
        """
        position = {c.name: i for i, c in enumerate(self.choices)}
        width = int(self.sizes.max(initial=1))
        parents: list[int] = []
        allowed: list[list[bool]] = []
        starts: list[int] = []
        targets: list[int] = []
        closures: dict[str, tuple[Condition, ...]] = {}
        for target, choice in enumerate(self.choices):
            inherited = [w for own in choice.when for w in closures[own.name]]
            closures[choice.name] = tuple(dict.fromkeys([*choice.when, *inherited]))
            if choice.when:
                starts.append(len(parents))
                targets.append(target)
            for w in closures[choice.name]:
                parents.append(position[w.name])
                mask = [v in w.values for v in self.choices[position[w.name]].values]
                allowed.append(mask + [False] * (width - len(mask)))
        return (
            np.array(parents, dtype=np.int64),
            np.array(allowed, dtype=bool).reshape(len(parents), width),
            np.array(starts, dtype=np.int64),
            np.array(targets, dtype=np.int64),
        )

    def __getstate__(self) -> dict[str, object]:
        """Without what can be derived: workers rebuild it when they need it."""
        derived = {k for t in type(self).__mro__ for k, v in vars(t).items() if isinstance(v, cached_property)}
        return {k: v for k, v in self.__dict__.items() if k not in derived}


def _is_truth(value: object) -> bool:
    """Whether it is true or false, which equal 1 and 0 and are something else."""
    return isinstance(value, bool | np.bool_)


def _listed(choice: Choice) -> str:
    names = [str(v) for v in choice.values]
    return ", ".join(names if len(names) <= 12 else [*names[:6], "...", *names[-3:]])
