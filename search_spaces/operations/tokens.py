"""Operations on sequences of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from search_spaces.feature import Count, Feature
from search_spaces.operations.base import Operation


@dataclass(frozen=True, eq=False)
class Attention(Operation):
    """Multi-head scaled dot-product attention of queries, keys and values, side by side in the channels."""

    heads: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[2].channels, x[0].height, 1)

    @override
    def macs(self, y: Feature, *x: Feature) -> Count:
        query, key, value = x
        return query.height * key.height * (query.channels + value.channels)


@dataclass(frozen=True, eq=False)
class Positions(Operation):
    """A learned vector for each token, added to it; from a table of `entries` (None: one for each token)."""

    entries: int | None = None

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].numel if self.entries is None else self.entries * x[0].channels


@dataclass(frozen=True, eq=False)
class Segments(Operation):
    """A learned vector for each segment of a text, added to its tokens; they all belong to the first."""

    entries: int

    @override
    def vectors(self, *x: Feature) -> Count:
        return self.entries * x[0].channels


@dataclass(frozen=True, eq=False)
class ClassToken(Operation):
    """A learned token before all others."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height + 1, 1)

    @override
    def vectors(self, *x: Feature) -> Count:
        return x[0].channels


@dataclass(frozen=True, eq=False)
class PadChannels(Operation):
    """Zeros as further channels of tokens or vectors, up to `out` of them."""

    out: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(self.out, x[0].height, x[0].width)


@dataclass(frozen=True, eq=False)
class ToTokens(Operation):
    """A map as a sequence of its positions, row by row."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height * x[0].width, 1)


@dataclass(frozen=True, eq=False)
class ToMap(Operation):
    """The reverse of `ToTokens`."""

    height: Count
    width: Count

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, self.height, self.width)


@dataclass(frozen=True, eq=False)
class Tokens(Operation):
    """Tokens from `start` to `stop` (None: the last); a single one (`alone`) becomes a vector."""

    start: int
    stop: int | None = None
    alone: bool = False

    @override
    def output(self, *x: Feature) -> Feature:
        count = (x[0].height if self.stop is None else self.stop) - self.start
        return Feature(x[0].channels, 1 if self.alone else count, 1)


@dataclass(frozen=True, eq=False)
class AverageTokens(Operation):
    """The mean of all tokens, a vector."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels)


@dataclass(frozen=True, eq=False)
class Joined(Operation):
    """Two sequences, one after the other."""

    @override
    def output(self, *x: Feature) -> Feature:
        return Feature(x[0].channels, x[0].height + x[1].height, 1)
