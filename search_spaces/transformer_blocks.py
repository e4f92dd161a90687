"""The blocks and reductions of the `transformer` family, written down layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.feature import Count, Feature, Mask
from search_spaces.network import Network, optional, residual
from search_spaces.operations import (
    Activation,
    Add,
    Attention,
    Conv,
    Joined,
    LayerNorm,
    Linear,
    PadChannels,
    Positions,
    Shrink,
    Tokens,
    ToMap,
    ToTokens,
)

EPSILON = {"pre": 1e-6, "post": 1e-12}
"""Of layer norms, as the codes of ViT and of BERT have it."""


@dataclass(frozen=True)
class Block:
    """What a block is made to."""

    path: str
    heads: Count
    head_dim: Count
    hidden: Count
    activation: str
    norm: str
    """``pre`` or ``post``."""
    depth: float
    """How far down the network it stands, 0 to 1."""


def block(net: Network, b: Block, x: Feature) -> Feature:
    """Attention, then an MLP, each around a shortcut, with layer norms before them or after the sums."""
    x = _around(net, b, "attention", lambda f: _attention(net, b, f), x)
    return _around(net, b, "mlp", lambda f: _mlp(net, b, f), x)


def _around(net: Network, b: Block, name: str, walk: Callable[[Feature], Feature], x: Feature) -> Feature:
    norm, path = LayerNorm(EPSILON[b.norm]), f"{b.path}.{name}_"
    if b.norm == "pre":
        return residual(net, path, x, walk(net.layer(f"{path}norm", norm, x)), True, b.depth)
    return net.layer(f"{path}norm", norm, residual(net, path, x, walk(x), True, b.depth))


def _attention(net: Network, b: Block, x: Feature) -> Feature:
    inner = Linear(b.heads * b.head_dim)
    query, key, value = (net.layer(f"{b.path}.{name}", inner, x) for name in ("query", "key", "value"))
    y = net.apply(Attention(b.heads), query, key, value)
    return net.layer(f"{b.path}.output", Linear(x.channels), y)


def _mlp(net: Network, b: Block, x: Feature) -> Feature:
    y = net.apply(Activation(b.activation), net.layer(f"{b.path}.mlp.up", Linear(b.hidden), x))
    return net.layer(f"{b.path}.mlp.down", Linear(x.channels), y)


def reduce(
    net: Network, path: str, width: Count, classed: Mask, norm: str, x: Feature, grid: Feature
) -> tuple[Feature, Feature]:
    """A quarter of the tokens, `width` channels each (residual spatial reduction, ViT-ResNAS).

    Normalised tokens go through a 3 x 3 convolution of stride 2, the class token (where it is `classed`) through
    a linear layer; the tokens as they come, averaged 2 x 2 and padded with zeros, are added to them.

    Args:
        net: What listens.
        path: Before the names of the layers.
        width: Channels, as many as before or more.
        classed: Where a class token stands first.
        norm: ``pre`` or ``post``, for the layer norm's epsilon.
        x: The tokens.
        grid: A map of the size that they make without the class token.

    Returns:
        The tokens, and their grid.
    """
    y = net.layer(f"{path}.norm", LayerNorm(EPSILON[norm]), x)

    def as_map(f: Feature) -> Feature:
        patches = optional(net, classed, f, lambda g: net.apply(Tokens(1), g))
        return net.apply(ToMap(grid.height, grid.width), patches)

    def padded(f: Feature) -> Feature:
        return net.apply(PadChannels(width), f)

    grid_after = net.layer(f"{path}.patches", Conv(width, 3, 2, bias=True), as_map(y))
    patches = net.layer(f"{path}.positions", Positions(), net.apply(ToTokens(), grid_after))
    shortcut = padded(net.apply(ToTokens(), net.apply(Shrink("average", 2), as_map(x))))
    patches = net.apply(Add(), shortcut, patches)

    def joined(f: Feature) -> Feature:
        token = net.layer(f"{path}.class_token", Linear(width), net.apply(Tokens(0, 1), y))
        return net.apply(Joined(), net.apply(Add(), padded(net.apply(Tokens(0, 1), x)), token), f)

    return optional(net, classed, patches, joined), grid_after
