"""Layers with weights, and normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from typing_extensions import override

from search_spaces.feature import Count, Feature
from search_spaces.operations.base import Operation, pair, slid


class Weighted(Operation):
    """A layer whose whole weight is used once for every position of its output."""

    quantized: ClassVar[bool] = True

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        return self.weights(*x) * y.positions


@dataclass(frozen=True, eq=False)
class Conv(Weighted):
    """A dense 2-D convolution. `padding` None keeps the size at stride 1."""

    out: Count
    kernel: Any = 1
    """Height and width, or one count for both."""
    stride: Any = 1
    padding: Any = None
    dilation: Count = 1
    bias: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, self.dilation)
        return Feature(self.out, height, width)

    @override
    def weights(self, *x: Feature) -> Count:
        kernel = pair(self.kernel)
        return x[0].channels * self.out * (kernel[0] * kernel[1])

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.out if self.bias else 0


@dataclass(frozen=True, eq=False)
class Depthwise(Weighted):
    """A convolution of every channel by itself, or of groups of `group_width` channels each by itself."""

    kernel: Any = 3
    stride: Any = 1
    padding: Any = None
    dilation: Count = 1
    bias: bool = False
    group_width: Count = 1
    """A divisor of the channels."""

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, self.dilation)
        return Feature(x[0].channels, height, width)

    @override
    def weights(self, *x: Feature) -> Count:
        kernel = pair(self.kernel)
        return x[0].channels * (kernel[0] * kernel[1] * self.group_width)

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].channels if self.bias else 0


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """A linear layer over the channels of a vector, or of every token."""

    out: Count
    bias: bool = True
    learned: bool = True
    """False: a fixed random matrix; it is stored and multiplied, but nothing is learnt."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)

    @override
    def weights(self, *x: Feature) -> Count:
        return x[0].channels * self.out

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.out if self.bias else 0


@dataclass(frozen=True, eq=False)
class BatchNorm(Operation):
    """Batch normalisation of a map, with scale and shift."""

    stored: Literal[0, 1, 2] = 2
    """Vectors that are left when a packed model folds it into the layer before: 2 where there is none to fold
    it into, 1 (a bias) after a layer without bias, 0 after one with a bias."""
    epsilon: float = 1e-5
    momentum: float = 0.1

    @override
    def vectors(self, *x: Feature) -> Count:
        return 2 * x[0].channels


@dataclass(frozen=True, eq=False)
class LayerNorm(Operation):
    """Layer normalisation over the channels of a vector or of every token, with scale and shift."""

    epsilon: float = 1e-6

    @override
    def vectors(self, *x: Feature) -> Count:
        return 2 * x[0].channels


@dataclass(frozen=True, eq=False)
class Embedding(Operation):
    """A table of one vector a word. Its input are word numbers: one channel, `height` tokens."""

    quantized: ClassVar[bool] = True
    entries: int
    out: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)

    @override
    def weights(self, *x: Feature) -> Count:
        return self.entries * self.out
