"""Zero-cost scores of populations: every distinct network is built and scored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.zero_cost.kinds import COUNTS, LABELLED, Proxy
from predictors.zero_cost.store import FileStore
from search_spaces.architecture import Architecture, Genes
from search_spaces.faults import did_you_mean
from search_spaces.space import Space

Floats: TypeAlias = NDArray[np.float64]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the networks that are scored and with those to score."""

VERSION = 1
"""Of the scores: another one wherever one of them changes, so that files do not mix them."""
WITHOUT_EFFECT = ("recipe.", "quantization.")
"""Beginnings of the names of choices that say how a network is trained and stored, not what it is."""


class ZeroCost:
    """Scores of canonical genes (n, d), shape (n, k), columns in the order of `names`: a `features.Scores`.

    Minus infinity for a network whose output does not depend on its input, not-a-number where a score could not be
    calculated (`failures` tells why); no network raises. Weights and noise are drawn by `seed` alone, so a network
    has the same scores whoever asks. Scores are kept for good: their memory is nothing beside the time they took.
    Not for several threads at once.
    """

    def __init__(
        self,
        space: Space,
        inputs: NDArray[Any],
        labels: NDArray[Any] | None = None,
        names: Sequence[str] | None = None,
        seed: int = 0,
        cache: str | Path | None = None,
        progress: Progress | None = None,
        device: str = "cpu",
    ) -> None:
        """One batch to score networks with.

        Args:
            space: whose networks are built.
            inputs: examples, n >= 2: images or vectors (n, ...) as floats, or word numbers (n, length).
            labels: their classes (n,); `snip` and `grad_norm` need them.
            names: which scores (`Proxy`); None: all that can be calculated.
            seed: draws weights and noise.
            cache: a file to keep scores in, which processes may share; None: memory only.
            progress: told of every network scored.
            device: where torch calculates.

        Raises:
            ValueError: for inputs, labels or names that do not fit, with what is allowed.
        """
        self._space, self._seed, self._device, self._progress = space, seed, device, progress
        self._inputs = _checked_inputs(space, np.asarray(inputs))
        self._labels = None if labels is None else _checked_labels(space, np.asarray(labels), len(self._inputs))
        self.names = _checked_names(names, labels is not None)
        """The score of each column."""
        self.failures: dict[str, str] = {}
        """Why scores are not-a-number, by the key of the network."""
        self._file = None if cache is None else FileStore(cache)
        self._known: dict[bytes, Floats] = {}
        self._matters = _matters(space)

    def __call__(self, genes: Genes) -> Floats:
        """Scores of canonical genes (n, d), shape (n, k)."""
        networks = np.where(self._matters, genes, 0)
        keys = [row.tobytes() for row in np.ascontiguousarray(networks, dtype=np.int64)]
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}
        new = networks[sorted(first.values())]
        archs, scores = self._space.canonical_architectures(new), self._formulas(new)
        for i, arch in enumerate(archs):
            self._complete(arch, scores[i])
            self._known[new[i].tobytes()] = scores[i]
            if self._progress:
                self._progress(i + 1, len(archs))
        return np.array([self._known[key] for key in keys]).reshape(len(genes), len(self.names))

    def _formulas(self, genes: Genes) -> Floats:
        """Scores that formulas tell, not-a-number for all others. Shape (n, k)."""
        costs = self._space.costs(genes, COUNTS & set(self.names)) if len(genes) else {}
        unknown = np.full(len(genes), np.nan)
        return np.stack([costs.get(name, unknown) for name in self.names], axis=1)

    def _complete(self, arch: Architecture, scores: Floats) -> None:
        """Put into one network's scores (k,) what is missing: from the file, or else from the network."""
        missing = np.flatnonzero(np.isnan(scores)).tolist()
        if not missing:
            return
        if self._file is None:
            scores[missing] = self._measured(arch, missing)
            return
        keys = {column: self._file_key(arch, self.names[column]) for column in missing}
        known = self._file.read(list(keys.values()))
        new = [column for column in missing if keys[column] not in known]
        found = dict(zip(new, self._measured(arch, new), strict=True)) if new else {}
        scores[missing] = [found[c] if c in found else known[keys[c]] for c in missing]
        self._file.write({keys[column]: score for column, score in found.items() if not np.isnan(score)})

    def _measured(self, arch: Architecture, columns: Sequence[int]) -> list[float]:
        """These scores of one network, built and run."""
        import torch

        from predictors.zero_cost.proxies import Probe, measure

        x = torch.from_numpy(self._inputs).to(self._device)
        y = None if self._labels is None else torch.from_numpy(self._labels).to(self._device)
        probe = Probe(lambda: self._space.build(arch), x, y, self._seed)
        scores, reason = measure(probe, [self.names[column] for column in columns])
        if reason is not None:
            self.failures[arch.key] = reason
        return scores

    def _file_key(self, arch: Architecture, name: Proxy) -> bytes:
        """Where the file keeps a score of a network."""
        return hashlib.blake2b(self._context + f"{arch.key} {name}".encode(), digest_size=16).digest()

    @cached_property
    def _context(self) -> bytes:
        """Digest of all that scores depend on beside the network's key."""
        arrays = [self._inputs] if self._labels is None else [self._inputs, self._labels]
        about = [VERSION, self._seed, self._space.identity, *((a.shape, a.dtype.str) for a in arrays)]
        digest = hashlib.blake2b(repr(about).encode(), digest_size=32)
        for array in arrays:
            digest.update(array.tobytes())
        return digest.digest()


def consensus(scores: Floats) -> Floats:
    """How good networks look among each other, from scores (n, k): the mean of their ranks, 0 to 1. Shape (n,).

    To choose what is worth a dear evaluation. Minus infinity has the rank 0, not-a-number stands in the middle.
    """
    ranks = [_share_below(column[np.isfinite(column)], column) for column in scores.T]
    found: Floats = np.where(np.isnan(scores), 0.5, np.stack(ranks, axis=1)).mean(axis=1)
    return found


def _share_below(known: Floats, values: Floats) -> Floats:
    """The share of sorted numbers below each value, ties counted by half."""
    order = np.sort(known)
    return (np.searchsorted(order, values) + np.searchsorted(order, values, "right")) / (2 * max(1, len(order)))


def _checked_inputs(space: Space, inputs: NDArray[Any]) -> NDArray[Any]:
    found = f"inputs are {inputs.dtype} of shape {list(inputs.shape)}"
    if inputs.ndim < 2 or len(inputs) < 2 or inputs.dtype.kind not in "iuf":
        raise ValueError(f"{found}; allowed: numbers of shape [n, ...], n at least 2")
    if not np.isfinite(inputs).all():
        raise ValueError("inputs have values that are not finite")
    if (inputs == inputs[0]).all():
        raise ValueError(f"inputs are {len(inputs)} times the same example; allowed: examples that differ")
    reads = getattr(getattr(space, "document", None), "input", None)
    if isinstance(reads, tuple) and inputs.shape[1:] != reads:
        raise ValueError(f"{found}; {space.name} reads examples of shape {list(reads)}")
    words = getattr(reads, "vocabulary", None)
    if words is not None and (inputs.dtype.kind == "f" or inputs.min() < 0 or inputs.max() >= words):
        raise ValueError(f"{found}, up to {inputs.max()}; {space.name} reads word numbers from 0 to {words - 1}")
    floats = inputs.dtype.kind == "f" or isinstance(reads, tuple)
    return np.ascontiguousarray(inputs, dtype=np.float32 if floats else np.int64)


def _checked_labels(space: Space, labels: NDArray[Any], n: int) -> NDArray[np.int64]:
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; allowed: integers of shape ({n},)")
    classes = getattr(getattr(space, "document", None), "classes", np.inf)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels are {labels.min()} to {labels.max()}; allowed: 0 to {classes - 1}")
    return np.ascontiguousarray(labels, dtype=np.int64)


def _checked_names(names: Sequence[str] | None, labelled: bool) -> tuple[Proxy, ...]:
    allowed = [proxy for proxy in Proxy if labelled or proxy not in LABELLED]
    if names is None:
        return tuple(allowed)
    if not names:
        raise ValueError(f"no names of scores; allowed: {', '.join(allowed)}")
    for name in names:
        if name in LABELLED and not labelled:
            raise ValueError(f"the score {name!r} needs labels; allowed without: {', '.join(allowed)}")
        if name not in allowed:
            raise ValueError(f"{name!r} is no score; allowed: {', '.join(allowed)}{did_you_mean(name, allowed)}")
        if list(names).count(name) > 1:
            raise ValueError(f"the score {name!r} stands twice; allowed: each once")
    return tuple(map(Proxy, names))


def _matters(space: Space) -> NDArray[np.bool_]:
    """Which genes say what a network is, and not how it is trained and stored. Shape (d,)."""
    declared = hasattr(space, "document")  # what names mean in a space of one's own nobody knows
    return np.array([not (declared and c.name.startswith(WITHOUT_EFFECT)) for c in space.choices], dtype=bool)
