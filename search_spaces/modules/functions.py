"""The torch function of each operation without parameters, as a node of an fx graph.

Functions have no control flow over their inputs: pickled networks are traced anew.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, fx

from search_spaces import operations as ops
from search_spaces.feature import Feature
from search_spaces.modules.layers import two

Settings: TypeAlias = dict[str, Any]


@singledispatch
def call(operation: ops.Operation, graph: fx.Graph, *x: Feature) -> fx.Node:
    """The graph node of an operation without parameters."""
    raise TypeError(f"no function for {type(operation).__name__}")


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
        "stride": two(operation.stride),
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
