"""Operations on maps and vectors, without parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import override

from search_spaces.feature import Count, Feature
from search_spaces.operations.base import Operation, slid


@dataclass(frozen=True, eq=False)
class Activation(Operation):
    """An activation function; `kind` may differ over a population, which no cost depends on."""

    kind: str


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """Maximum or average over windows; padding counts in neither."""

    kind: Literal["max", "average"]
    kernel: int
    stride: Any = 1
    padding: int | None = None

    @override
    def output(self, *x: Feature) -> Feature:
        height, width = slid(x[0], self.kernel, self.stride, self.padding, 1)
        return Feature(x[0].channels, height, width)


@dataclass(frozen=True, eq=False)
class Shrink(Operation):
    """Maximum or average over windows of `by` x `by` side by side; the last ones may reach over the border."""

    kind: Literal["max", "average"]
    by: Any = 2

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, -(-x[0].height // self.by), -(-x[0].width // self.by))


@dataclass(frozen=True, eq=False)
class Resize(Operation):
    """Images of any size brought to one (bilinear, with antialiasing); those of that size stay as they are."""

    height: Count
    width: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class GlobalPool(Operation):
    """Average or maximum over all positions; a map of one position, or a vector where `flat`."""

    kind: Literal["average", "max"] = "average"
    flat: bool = True

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels)


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """The sum of two features of one size."""


@dataclass(frozen=True, eq=False)
class Subtract(Operation):
    """The first feature less the second."""


@dataclass(frozen=True, eq=False)
class Multiply(Operation):
    """The product of a feature and its gate (one factor a channel)."""


@dataclass(frozen=True, eq=False)
class Concat(Operation):
    """Channels side by side."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(sum(f.channels for f in x), x[0].height, x[0].width)


@dataclass(frozen=True, eq=False)
class Zeros(Operation):
    """Zeros, of the size of the input at a stride."""

    stride: Any = 1

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, -(-x[0].height // self.stride), -(-x[0].width // self.stride))


@dataclass(frozen=True, eq=False)
class Subsample(Operation):
    """Every second row and column, from the first or (`shifted`) from the second; the far border is zero."""

    shifted: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, (x[0].height + 1) // 2, (x[0].width + 1) // 2)


@dataclass(frozen=True, eq=False)
class Flatten(Operation):
    """All entries of an example as one vector."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].numel)
