"""The torch module of each operation that has parameters or acts while training."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from search_spaces import operations as ops
from search_spaces.feature import Feature

TABLE_STD = 0.02
"""Of fresh look-up tables and tokens (Devlin et al. 2019)."""


@singledispatch
def module(operation: ops.Operation, *x: Feature) -> nn.Module:
    """The module of a layer, for inputs of these sizes."""
    raise TypeError(f"no module for {type(operation).__name__}")


@module.register
def _(operation: ops.Conv, x: Feature) -> nn.Module:
    return _conv(x.channels, operation.out, operation)


@module.register
def _(operation: ops.Depthwise, x: Feature) -> nn.Module:
    return _conv(x.channels, x.channels, operation, groups=int(x.channels) // int(operation.group_width))


def _conv(into: int, out: int, c: ops.Conv | ops.Depthwise, groups: int = 1) -> nn.Conv2d:
    kernel, dilation = two(c.kernel), int(c.dilation)
    half = ((kernel[0] - 1) // 2 * dilation, (kernel[1] - 1) // 2 * dilation)
    padding = half if c.padding is None else two(c.padding)
    return Convolution(int(into), int(out), kernel, two(c.stride), padding, dilation, groups, c.bias)


class Convolution(nn.Conv2d):
    """A convolution whose weights are drawn with variance 2 / fan-out (He et al. 2015), and biases are 0."""

    @override
    def reset_parameters(self) -> None:
        fan_out = self.weight[0, 0].numel() * self.out_channels / self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


@module.register
def _(operation: ops.Linear, x: Feature) -> nn.Module:
    linear = nn.Linear(int(x.channels), int(operation.out), operation.bias)
    if not operation.learned:
        linear.requires_grad_(False)
        nn.init.normal_(linear.weight, std=int(x.channels) ** -0.5)
    return linear


@module.register
def _(operation: ops.BatchNorm, x: Feature) -> nn.Module:
    return nn.BatchNorm2d(int(x.channels), operation.epsilon, operation.momentum)


@module.register
def _(operation: ops.LayerNorm, x: Feature) -> nn.Module:
    return nn.LayerNorm(int(x.channels), operation.epsilon)


@module.register
def _(operation: ops.Embedding, x: Feature) -> nn.Module:
    table = nn.Embedding(operation.entries, int(operation.out))
    nn.init.normal_(table.weight, std=TABLE_STD)
    return table


@module.register
def _(operation: ops.Positions, x: Feature) -> nn.Module:
    return Positions(int(operation.entries or x.positions), int(x.channels))


@module.register
def _(operation: ops.Segments, x: Feature) -> nn.Module:
    return Segments(operation.entries, int(x.channels))


@module.register
def _(operation: ops.ClassToken, x: Feature) -> nn.Module:
    return ClassToken(int(x.channels))


@module.register
def _(operation: ops.Dropout, x: Feature) -> nn.Module:
    return nn.Dropout(operation.rate)


@module.register
def _(operation: ops.DropPath, x: Feature) -> nn.Module:
    return DropPath(operation.rate, operation.scheduled)


@module.register
def _(operation: ops.AuxiliaryHead, x: Feature) -> nn.Module:
    narrow, wide = operation.widths
    head = nn.Sequential(
        *(nn.ReLU(), nn.AvgPool2d(operation.window, 3)),
        *(nn.Conv2d(int(x.channels), narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
        *(nn.Conv2d(narrow, wide, two(operation.left(x)), bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(wide, operation.classes)),
    )
    return Auxiliary(head)


@module.register
def _(operation: ops.TokenHead, x: Feature) -> nn.Module:
    return Auxiliary(TokenClassifier(int(x.channels), operation.classes, int(operation.start)))


class Positions(nn.Module):
    """Adds a learned vector to each token (batch, tokens, channels); the table may have more than there are."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, tokens, channels) * TABLE_STD)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.weight[:, : x.shape[1]]


class Segments(nn.Module):
    """Adds the first segment's vector to each token (batch, tokens, channels)."""

    def __init__(self, segments: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(segments, channels) * TABLE_STD)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.weight[0]


class ClassToken(nn.Module):
    """Puts a learned token before the tokens (batch, tokens, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 1, channels) * TABLE_STD)

    def forward(self, x: Tensor) -> Tensor:
        """One token more."""
        return torch.cat([self.weight.expand(x.shape[0], -1, -1), x], dim=1)


class DropPath(nn.Module):
    """While training, zeroes examples with probability `rate` (at `progress` 1, where scheduled)."""

    def __init__(self, rate: float, scheduled: bool) -> None:
        super().__init__()
        self.rate = rate
        self.scheduled = scheduled
        self.progress = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        rate = self.rate * self.progress if self.scheduled else self.rate
        if not self.training or rate == 0:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= rate
        return x * (kept / (1 - rate)).to(x.dtype)


class Auxiliary(nn.Module):
    """While training, classifies what passes through; `logits` (batch, classes) are those of the last batch."""

    logits: Tensor | None

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.logits = None
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """The input itself."""
        self.logits = self.head(x) if self.training else None
        return x

    def __getstate__(self) -> dict[str, Any]:
        """Without logits: copies and files are for the weights."""
        return {**self.__dict__, "logits": None}


class TokenClassifier(nn.Module):
    """The mean of what a linear layer says to each token from `start` on."""

    def __init__(self, channels: int, classes: int, start: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, tokens, channels) to (batch, classes)."""
        return self.linear(x[:, self.start :]).mean(dim=1)  # type: ignore[no-any-return]


def two(value: Any) -> tuple[int, int]:
    """Height and width of a kernel or a stride, as plain integers."""
    height, width = ops.pair(value)
    return int(height), int(width)
