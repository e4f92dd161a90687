"""What torch makes of each operation. A new operation needs one function here.

Functions that the graph calls have no control flow over their inputs: pickled networks are traced anew.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, fx, nn
from typing_extensions import override

from search_spaces import operations as ops
from search_spaces.feature import Feature

TABLE_STD = 0.02
"""Of fresh look-up tables and tokens (Devlin et al. 2019)."""


Settings: TypeAlias = dict[str, Any]


@singledispatch
def module(operation: ops.Operation, *x: Feature) -> nn.Module:
    """The module of a layer, for inputs of these sizes."""
    raise TypeError(f"no module for {type(operation).__name__}")


@singledispatch
def call(operation: ops.Operation, graph: fx.Graph, *x: Feature) -> fx.Node:
    """The graph node of an operation without parameters."""
    raise TypeError(f"no function for {type(operation).__name__}")


# Layers


@module.register
def _(operation: ops.Conv, x: Feature) -> nn.Module:
    return _conv(x.channels, operation.out, operation)


@module.register
def _(operation: ops.Depthwise, x: Feature) -> nn.Module:
    return _conv(x.channels, x.channels, operation, groups=int(x.channels) // int(operation.group_width))


def _conv(into: int, out: int, c: ops.Conv | ops.Depthwise, groups: int = 1) -> nn.Conv2d:
    kernel, dilation = _two(c.kernel), int(c.dilation)
    half = ((kernel[0] - 1) // 2 * dilation, (kernel[1] - 1) // 2 * dilation)
    padding = half if c.padding is None else _two(c.padding)
    return Convolution(int(into), int(out), kernel, _two(c.stride), padding, dilation, groups, c.bias)


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
        *(nn.Conv2d(narrow, wide, _two(operation.left(x)), bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
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


# Operations without parameters


@call.register
def _(operation: ops.Activation, graph: fx.Graph, x: Feature) -> fx.Node:
    function, settings = ACTIVATIONS[operation.kind]
    return graph.call_function(function, (x.node,), settings)


ACTIVATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "relu": (F.relu, {}),
    "relu6": (F.relu6, {}),
    "hard_swish": (F.hardswish, {}),
    "silu": (F.silu, {}),
    "gelu": (F.gelu, {}),
    "tanh": (torch.tanh, {}),
    "sigmoid": (torch.sigmoid, {}),
    "hard_sigmoid": (F.hardsigmoid, {}),
}


@call.register
def _(operation: ops.Pool, graph: fx.Graph, x: Feature) -> fx.Node:
    padding = (operation.kernel - 1) // 2 if operation.padding is None else operation.padding
    settings: Settings = {
        "kernel_size": operation.kernel,
        "stride": _two(operation.stride),
        "padding": padding,
    }
    if operation.kind == "max":
        return graph.call_function(F.max_pool2d, (x.node,), settings)
    return graph.call_function(F.avg_pool2d, (x.node,), {**settings, "count_include_pad": False})


@call.register
def _(operation: ops.Shrink, graph: fx.Graph, x: Feature) -> fx.Node:
    settings: Settings = {"kernel_size": int(operation.by), "stride": int(operation.by), "ceil_mode": True}
    if operation.kind == "max":
        return graph.call_function(F.max_pool2d, (x.node,), settings)
    return graph.call_function(F.avg_pool2d, (x.node,), {**settings, "count_include_pad": False})


@call.register
def _(operation: ops.Resize, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(resize, (x.node, int(operation.height), int(operation.width)))


@call.register
def _(operation: ops.GlobalPool, graph: fx.Graph, x: Feature) -> fx.Node:
    pool = "mean" if operation.kind == "average" else "amax"
    return graph.call_method(pool, (x.node,), {"dim": (2, 3), "keepdim": not operation.flat})


@call.register
def _(operation: ops.Add, graph: fx.Graph, x: Feature, y: Feature) -> fx.Node:
    return graph.call_function(torch.add, (x.node, y.node))


@call.register
def _(operation: ops.Subtract, graph: fx.Graph, x: Feature, y: Feature) -> fx.Node:
    return graph.call_function(torch.sub, (x.node, y.node))


@call.register
def _(operation: ops.Multiply, graph: fx.Graph, x: Feature, y: Feature) -> fx.Node:
    return graph.call_function(torch.mul, (x.node, y.node))


@call.register
def _(operation: ops.Concat, graph: fx.Graph, *x: Feature) -> fx.Node:
    return graph.call_function(torch.cat, ([f.node for f in x],), {"dim": 1})


@call.register
def _(operation: ops.PadChannels, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(pad_channels, (x.node, int(operation.out)))


@call.register
def _(operation: ops.Zeros, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(zeros, (x.node, int(operation.stride)))


@call.register
def _(operation: ops.Subsample, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(subsample, (x.node, operation.shifted))


@call.register
def _(operation: ops.ToTokens, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(to_tokens, (x.node,))


@call.register
def _(operation: ops.ToMap, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(to_map, (x.node, int(operation.height), int(operation.width)))


@call.register
def _(operation: ops.Tokens, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_function(tokens, (x.node, operation.start, operation.stop, operation.alone))


@call.register
def _(operation: ops.AverageTokens, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_method("mean", (x.node,), {"dim": 1})


@call.register
def _(operation: ops.Joined, graph: fx.Graph, x: Feature, y: Feature) -> fx.Node:
    return graph.call_function(torch.cat, ([x.node, y.node],), {"dim": 1})


@call.register
def _(operation: ops.Flatten, graph: fx.Graph, x: Feature) -> fx.Node:
    return graph.call_method("flatten", (x.node, 1))


@call.register
def _(operation: ops.Attention, graph: fx.Graph, q: Feature, k: Feature, v: Feature) -> fx.Node:
    return graph.call_function(attention, (q.node, k.node, v.node, int(operation.heads)))


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Images (batch, channels, any, any) at one size; exactly themselves where they have it."""
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True)


def pad_channels(x: Tensor, out: int) -> Tensor:
    """Zeros as further channels of tokens or vectors (..., channels)."""
    return F.pad(x, (0, out - x.shape[-1]))


def zeros(x: Tensor, stride: int) -> Tensor:
    """Zeros of the shape of every `stride`-th row and column."""
    return x[:, :, ::stride, ::stride] * 0.0


def subsample(x: Tensor, shifted: bool) -> Tensor:
    """Every second row and column; the shifted ones of an odd map end in zeros."""
    if not shifted:
        return x[:, :, ::2, ::2]
    return F.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2]


def to_tokens(x: Tensor) -> Tensor:
    """From (batch, channels, height, width) to (batch, height * width, channels)."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """From (batch, height * width, channels) to (batch, channels, height, width)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], height, width)


def tokens(x: Tensor, start: int, stop: int | None, alone: bool) -> Tensor:
    """Some tokens of (batch, tokens, channels)."""
    return x[:, start] if alone else x[:, start:stop]


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention; (batch, tokens, heads * width) each."""

    def apart(x: Tensor) -> Tensor:  # (batch, heads, tokens, width)
        return x.unflatten(2, (heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]

    return F.scaled_dot_product_attention(apart(q), apart(k), apart(v)).transpose(1, 2).flatten(2)


def _two(value: Any) -> tuple[int, int]:
    height, width = ops.pair(value)
    return int(height), int(width)
