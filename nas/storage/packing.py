"""Metrics of trials as packed doubles, so that those of 100,000 trials are read as one array."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DOUBLE = np.dtype("<f8")


@dataclass(frozen=True)
class MetricNames:
    """What the doubles of a job's trials are, in their order. It grows at its end only."""

    names: tuple[str, ...] = ()
    whole: frozenset[str] = frozenset()
    """Of counts, as ``params``: whole numbers of these are read as ints."""

    @classmethod
    def read(cls, text: str) -> MetricNames:
        """From what `write` gave."""
        pairs = json.loads(text)
        return cls(tuple(name for name, _ in pairs), frozenset(name for name, whole in pairs if whole))

    def write(self) -> str:
        """As JSON."""
        return json.dumps([[name, name in self.whole] for name in self.names], separators=(",", ":"))

    def grown(self, measured: Iterable[Mapping[str, float]]) -> MetricNames:
        """With the names that are new in these metrics; itself where none is."""
        known = set(self.names)
        new: dict[str, bool] = {}
        for metrics in measured:
            if metrics.keys() <= known:
                continue
            new |= {n: isinstance(v, int) for n, v in metrics.items() if n not in known and n not in new}
        if not new:
            return self
        return MetricNames((*self.names, *new), self.whole | {n for n, whole in new.items() if whole})

    def pack(self, metrics: Mapping[str, float]) -> bytes | None:
        """The doubles of one trial, None where it has no metrics. All names must be known."""
        if not metrics:
            return None
        return np.array([metrics.get(name, math.nan) for name in self.names], dtype=_DOUBLE).tobytes()

    def unpack(self, packed: bytes | None) -> dict[str, float]:
        """The metrics of one trial."""
        if packed is None:
            return {}
        values = np.frombuffer(packed, dtype=_DOUBLE).tolist()
        return {
            name: int(v) if name in self.whole and v.is_integer() else v
            for name, v in zip(self.names, values, strict=False)  # names that came later are left out
            if v == v  # a number
        }

    def array(self, packed: Sequence[bytes]) -> NDArray[np.float64]:
        """(n, number of names) doubles of n measured trials; NaN where one lacks a metric."""
        n, width = len(packed), len(self.names)
        joined = b"".join(packed)
        if len(joined) == n * width * _DOUBLE.itemsize:  # all were written when all names were known
            return np.frombuffer(joined, dtype=_DOUBLE).reshape(n, width).astype(np.float64)
        values = np.full((n, width), math.nan)
        lengths = np.array([len(p) for p in packed]) // _DOUBLE.itemsize
        for length in set(lengths.tolist()):
            rows = np.flatnonzero(lengths == length).tolist()
            part = b"".join(packed[r] for r in rows)
            values[rows, :length] = np.frombuffer(part, dtype=_DOUBLE).reshape(len(rows), length)
        return values
