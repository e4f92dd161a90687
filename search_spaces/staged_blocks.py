"""The blocks of the `staged` family, written down layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from search_spaces.feature import Count, Feature, Mask, at_least, common_divisor, divisible, negated, where
from search_spaces.network import Excitation, Network, conv_norm, one_of, optional, squeeze_excite
from search_spaces.operations import Conv, Depthwise, Shrink, same_size
from search_spaces.staged_document import StagedArchitectureSection


@dataclass(frozen=True)
class Block:
    """What a block is made to: sizes as counts, the rest as the document has it."""

    path: str
    """Before the names of its layers, with a dot at the end."""
    width: Count
    kernel: Count
    stride: Any
    group_width: Count
    padding: int | None
    expansion: Any
    bottleneck: Any
    excited: Mask
    activation: str
    bias: bool
    """Whether the convolutions have biases beside their batch norms."""
    options: StagedArchitectureSection


def conv(net: Network, block: Block, x: Feature) -> Feature:
    """One k x k convolution."""
    return _conv(net, block, "conv", x, block.width, block.kernel, block.stride, block.activation)


def depthwise_separable(net: Network, block: Block, x: Feature) -> Feature:
    """A depthwise and a 1 x 1 convolution, each with its activation (Howard et al. 2017)."""
    y = _depthwise(net, block, x, x)
    return _conv(net, block, "project", y, block.width, activation=block.activation)


def inverted_residual(net: Network, block: Block, x: Feature) -> Feature:
    """A depthwise convolution between an expansion and a linear projection (Sandler et al. 2018).

    There is no expansion at factors of 1 and less, unless the document always wants one.
    """
    grows = (block.expansion > 1) | block.options.always_expand
    hidden = where(grows, divisible(x.channels * block.expansion, block.options.round_to), x.channels)
    y = optional(net, grows, x, lambda f: _conv(net, block, "expand", f, hidden, activation=block.activation))
    return _conv(net, block, "project", _depthwise(net, block, y, x), block.width)


def basic(net: Network, block: Block, x: Feature) -> Feature:
    """Two k x k convolutions (He et al. 2016), without the shortcut and the activation after it."""
    y = _conv(net, block, "conv1", x, block.width, block.kernel, block.stride, block.activation)
    y = _conv(net, block, "conv2", y, block.width, block.kernel)
    return _excited(net, block, y, x)


def bottleneck(net: Network, block: Block, x: Feature) -> Feature:
    """1 x 1, k x k and 1 x 1 convolutions (He et al. 2016; the stride at the second), without the shortcut."""
    hidden = divisible(block.width * block.bottleneck, block.options.round_to)
    y = _conv(net, block, "conv1", x, hidden, activation=block.activation)
    after = (block.stride, block.activation)
    y = one_of(
        net,
        [
            (block.group_width == 0, partial(_conv, net, block, "conv2", y, hidden, block.kernel, *after)),
            (block.group_width != 0, partial(_grouped, net, block, "conv2", y)),
        ],
    )
    y = _conv(net, block, "conv3", y, block.width)
    return _excited(net, block, y, x)


def shortcut(net: Network, block: Block, x: Feature, branch: Feature) -> Feature:
    """What a ResNet block's branch is added to: its input, or where the shape changes a projection of it."""

    def project(f: Feature) -> Feature:
        stride = block.stride
        if block.options.shortcut == "pooled":
            f = optional(net, block.stride > 1, f, lambda g: net.apply(Shrink("average", block.stride), g))
            stride = 1
        return _conv(net, block, "shortcut", f, block.width, stride=stride)

    return optional(net, negated(same_size(x, branch)), x, project)


def _conv(
    net: Network,
    block: Block,
    name: str,
    x: Feature,
    out: Count,
    kernel: Count = 1,
    stride: Count = 1,
    activation: str | None = None,
) -> Feature:
    convolution = Conv(out, kernel, stride, bias=block.bias)
    return conv_norm(net, f"{block.path}{name}", convolution, x, activation)


def _depthwise(net: Network, block: Block, x: Feature, source: Feature) -> Feature:
    return _excited(net, block, _grouped(net, block, "depthwise", x), source)


def _grouped(net: Network, block: Block, name: str, x: Feature) -> Feature:
    width = common_divisor(x.channels, at_least(block.group_width, 1))
    convolution = Depthwise(block.kernel, block.stride, block.padding, bias=block.bias, group_width=width)
    return conv_norm(net, f"{block.path}{name}", convolution, x, block.activation)


def _excited(net: Network, block: Block, x: Feature, source: Feature) -> Feature:
    """Squeeze-and-excitation of `x` where the block has it, `source` being the block's input."""
    options = block.options.excite
    measure = source.channels if options.of == "input" else x.channels
    form = Excitation(str(options.activation.values[0]), options.gate)
    squeezed = divisible(measure * options.ratio, options.round_to, options.round_floor)
    return optional(net, block.excited, x, lambda f: squeeze_excite(net, block.path, f, squeezed, form))


BRANCHES: dict[str, Callable[[Network, Block, Feature], Feature]] = {
    "conv": conv,
    "depthwise_separable": depthwise_separable,
    "inverted_residual": inverted_residual,
    "basic": basic,
    "bottleneck": bottleneck,
}
