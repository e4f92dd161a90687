"""How calibration finds the range that activations become integers in.

Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference" (extremes, and their moving
average over batches); Wu et al. 2020, "Integer quantization for deep learning inference" (percentiles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

DECAY = 0.9
"""Of the moving average, at each batch."""
TOLD = 0.9999
"""Share of activations that is inside the range of percentiles."""
KEPT = 16384
"""Activations of a batch that percentiles and errors are calculated from, at most: evenly spaced ones."""
SHRINKINGS = 50
"""Ranges that are tried for the least error."""

Range = tuple[float, float]
Error = Callable[[Tensor, Range], float]
"""What of some activations is lost in a range: a sum of squares."""


class Observer(Protocol):
    """Sees one input of a network, batch by batch."""

    def observe(self, x: Tensor, low: float, high: float) -> None:
        """A batch of activations, and their extremes."""

    def range(self, error: Error) -> Range:
        """The range to use; 0 is in it."""


@dataclass
class Extremes:
    """The smallest and the largest of all, and 0."""

    low: float = 0.0
    high: float = 0.0

    def observe(self, x: Tensor, low: float, high: float) -> None:
        """Widen the range."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self, error: Error) -> Range:
        """All that was seen."""
        return self.low, self.high


class Averages:
    """The moving average of each batch's extremes, the first batch's at the start."""

    def __init__(self) -> None:
        self._seen: Range | None = None

    def observe(self, x: Tensor, low: float, high: float) -> None:
        """Move a little."""
        before = self._seen or (low, high)
        self._seen = DECAY * before[0] + (1 - DECAY) * low, DECAY * before[1] + (1 - DECAY) * high

    def range(self, error: Error) -> Range:
        """Where it is now."""
        low, high = self._seen or (0.0, 0.0)
        return min(low, 0.0), max(high, 0.0)


class _Sampled:
    """Keeps some of each batch."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def observe(self, x: Tensor, low: float, high: float) -> None:
        """Keep evenly spaced entries."""
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        entries = (x.permute(0, 2, 3, 1) if last else x).flatten()  # as they lie in memory: nothing is copied
        self._kept.append(entries.detach()[:: -(-x.numel() // KEPT)].cpu())

    @property
    def sample(self) -> Tensor:
        """What was kept of all batches."""
        return torch.cat(self._kept)


class Percentiles(_Sampled):
    """As little as can be left out at both ends where `TOLD` of all are to be inside."""

    def range(self, error: Error) -> Range:
        """Between two activations that were seen."""
        ordered = self.sample.sort().values
        outside = int((1 - TOLD) / 2 * len(ordered) + 1e-9)
        return min(ordered[outside].item(), 0.0), max(ordered[-1 - outside].item(), 0.0)


class LeastError(_Sampled):
    """Of the extremes, and shrinkings of both by the same factor, the range of least squared error."""

    def range(self, error: Error) -> Range:
        """The widest of equally good ones."""
        sample = self.sample
        low, high = min(sample.min().item(), 0.0), max(sample.max().item(), 0.0)
        tried = [(low * i / SHRINKINGS, high * i / SHRINKINGS) for i in range(SHRINKINGS, 0, -1)]
        return min(tried, key=lambda r: error(sample, r))


def observer(word: str) -> Observer:
    """The observer that a quantization policy names."""
    if word == "ema":
        return Averages()
    if word == "percentile":
        return Percentiles()
    return LeastError() if word == "mse" else Extremes()
