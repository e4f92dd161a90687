"""Trials to begin with: what the document fixes of them is kept, the rest is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

import numpy as np

from nas.trial import Proposal
from search_spaces import Fault, Space
from search_spaces.architecture import Genes
from search_spaces.domains import Value
from search_spaces.faults import did_you_mean, show

MAX_DRAWS = 64


def proposal(
    space: Space, fixed: Mapping[str, Value], seed: int, number: int, known: Collection[str] = ()
) -> Proposal:
    """The proposal of trial `number`: `fixed` by name (``*`` matches anything), everything else drawn.

    Drawn again, a bounded number of times, while its key is `known`; what is fixed as a whole stands anyway.
    """
    rng = np.random.default_rng([seed, number])
    drawn = rng.integers(0, space.sizes, size=(MAX_DRAWS, len(space.choices)))
    archs = space.canonical_architectures(space.canonical_genes(_with(space, drawn, fixed)))
    return Proposal(next((a for a in archs if a.key not in known), archs[0]))


def _with(space: Space, genes: Genes, fixed: Mapping[str, Value]) -> Genes:
    for pattern, value in fixed.items():
        for column, choice in enumerate(space.choices):
            if fnmatchcase(choice.name, pattern) and value in choice.values:
                genes[:, column] = choice.values.index(value)
    return genes


def faults(space: Space, fixed: Mapping[str, Value]) -> list[Fault]:
    """Names that match no choice, and values that a matched choice does not have."""
    found: list[Fault] = []
    names = [c.name for c in space.choices]
    for pattern, value in fixed.items():
        matched = [c for c in space.choices if fnmatchcase(c.name, pattern)]
        if not matched:
            found.append(Fault(pattern, f"matches no choice of {space.name}{did_you_mean(pattern, names)}"))
        for choice in matched:
            if value not in choice.values:
                allowed = ", ".join(map(str, choice.values))
                found.append(Fault(pattern, f"{show(value)} is not a value of {choice.name}; allowed: {allowed}"))
    return found
