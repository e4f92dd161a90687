"""What runs from the input of a cell of edges to its output: the path encoding, of whole populations.

White, Neiswanger, Savani, "BANANAS: Bayesian optimization with neural architectures for neural architecture
search" (AAAI 2021): a cell is the set of its paths, each the sequence of its operations. Here they are counted.
``skip_connect`` does nothing and is left out of the sequence; a path with a ``none`` on it is no path. So cells
that compute the same function by the rule of `cell_classes` have the same paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import Genes

Floats = NDArray[np.float64]

MAX_SEQUENCES = 256
"""Sequences with a column of their own: those of the lengths, from 0, for which there is room."""


def path_features(nodes: int, operations: Sequence[str], cells: Genes) -> Floats:
    """Paths of cells (n, edges), indices into `operations`; edges by target, then by source. Shape (n, columns).

    First the logarithm of the number of paths, the number of operations on the longest and on the shortest, and
    how many of each operation one path has at most; then how often each sequence of operations occurs.
    """
    words = [o for o in operations if o not in ("none", "skip_connect")]
    steps = np.array([-1 if o == "none" else words.index(o) + 1 if o in words else 0 for o in operations])[cells]
    ones = np.append(0.0, np.ones(len(words)))
    weights = [ones, -ones, *np.eye(len(words) + 1)[1:]]
    extremes = np.stack([_greatest(nodes, steps, weight) for weight in weights], axis=1)
    extremes = np.where(np.isfinite(extremes), extremes, 0.0) * np.append([1.0, -1.0], np.ones(len(words)))
    number = np.log1p(_counts(nodes, steps, 0, 0))
    return np.concatenate([number, extremes, _counts(nodes, steps, len(words), nodes - 1)], axis=1)


def _greatest(nodes: int, steps: Genes, weights: Floats) -> Floats:
    """The greatest sum of weights along a path, shape (n,); minus infinity where there is no path."""
    found = [np.zeros(len(steps))]
    weights = np.append(weights, -np.inf)  # the last one is that of step -1
    edges = iter(steps.T)
    for target in range(1, nodes):
        found.append(np.max([found[source] + weights[next(edges)] for source in range(target)], axis=0))
    return found[-1]


def _counts(nodes: int, steps: Genes, words: int, length: int) -> Floats:
    """How often each sequence of at most `length` words occurs, shape (n, sequences). Without words: all paths.

    Sequence w after the one in column s stands in column s * words + 1 + w, the empty one in column 0.
    """
    widths = np.cumsum(float(words) ** np.arange(length + 1))
    width = int(widths[widths <= MAX_SEQUENCES][-1])
    inner = (width - 1) // words if words else 0
    begun = np.zeros((len(steps), width))
    begun[:, 0] = 1.0
    found = [begun]
    edges = iter(steps.T)
    for target in range(1, nodes):
        total = np.zeros((len(steps), width))
        for source in range(target):
            step, paths = next(edges), found[source]
            passed = step >= 0 if not words else step == 0
            total[passed] += paths[passed]
            for word in range(words):
                rows = np.flatnonzero(step == word + 1)
                total[rows, 1 + word :: words] += paths[rows, :inner]
        found.append(total)
    return found[-1]
