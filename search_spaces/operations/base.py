"""What every operation tells, and how windows change sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from search_spaces.feature import Count, Feature


@dataclass(frozen=True, eq=False)
class Operation:
    """Base: keeps its first input's size, and has neither weights nor MACs."""

    training_only: ClassVar[bool] = False
    """Whether a network that is only used, not trained, does without it."""
    quantized: ClassVar[bool] = False
    """Whether a quantization policy reaches its weight and its input."""

    def output(self, *x: Feature) -> Feature:
        """The size of the result."""
        return x[0]

    def weights(self, *x: Feature) -> Count:
        """Entries of the weight that a quantization policy reaches."""
        return 0

    def vectors(self, *x: Feature) -> Count:
        """Other learnable entries: biases, scales and shifts, position embeddings."""
        return 0

    def macs(self, y: Feature, *x: Feature) -> Count:
        """Multiply-accumulates for one example, `y` being the output."""
        return 0


def pair(value: Any) -> tuple[Count, Count]:
    """Height and width of a kernel or a stride."""
    return value if isinstance(value, tuple) else (value, value)


def slid(x: Feature, kernel: Any, stride: Any, padding: Any, dilation: Count) -> tuple[Count, Count]:
    """Height and width after a window has slid over a map.

    Windows of even size that are to keep the size are not needed and not known here.
    """
    sizes = []
    pads = (None, None) if padding is None else pair(padding)
    for size, k, s, p in zip((x.height, x.width), pair(kernel), pair(stride), pads, strict=True):
        if p is None:  # (k - 1) / 2 on both sides, whatever k is
            sizes.append(size if isinstance(s, int) and s == 1 else -(-size // s))
        else:
            full = size + 2 * p - dilation * (k - 1) - 1
            sizes.append((full if isinstance(s, int) and s == 1 else full // s) + 1)
    return sizes[0], sizes[1]


def same_size(a: Feature, b: Feature) -> Any:
    """Where two features have the same channels and size."""
    return (a.channels == b.channels) & (a.height == b.height) & (a.width == b.width)
