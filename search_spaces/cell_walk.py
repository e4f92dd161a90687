"""How a cell of blocks is written down: fits of its inputs, operations, blocks, and what it gives.

Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition" (CVPR 2018): every convolution
is ReLU, convolution, batch norm; a separable one stands twice, the stride in the first; operations that keep the
width (pooling, identity) are followed by a 1 x 1 convolution where it has to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from search_spaces.cell_genes import BlockGenes, CellGenes
from search_spaces.feature import Count, Feature, Mask, negated, simplified, where
from search_spaces.network import Network, conv_norm, one_of, optional
from search_spaces.operations import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Depthwise,
    DropPath,
    Pool,
    Subsample,
)
from search_spaces.variables import Values, Variable

POOLS = ("avg3", "max3", "max5", "max7")
SEPARABLE = ("sep3", "sep5", "sep7")
PLAIN = ("conv1", "conv3", "dil3")
FACTORISED = ("conv1x3", "conv1x7")


@dataclass(frozen=True)
class Wiring:
    """The genes of a cell in a population, with the masks that all its places share."""

    of: Values
    genes: CellGenes
    outputs: Sequence[Mask]
    heard: Sequence[Mask]

    @classmethod
    def read(cls, of: Values, genes: CellGenes) -> Self:
        """The wiring of a population's cells."""
        return cls(of, genes, *([simplified(m) for m in masks] for masks in (genes.outputs(of), genes.heard(of))))


@dataclass(frozen=True)
class Place:
    """Where in the network a cell stands."""

    path: str
    """Before the names of its layers, with a dot at the end."""
    width: Count
    stride: int = 1
    drop: float = 0.0
    """Rate of ScheduledDropPath at the end of the training."""


@dataclass(frozen=True)
class Inputs:
    """What a cell reads: the outputs of the two cells before it."""

    newer: Feature
    older: Feature | None = None
    """None in the first cell, which reads the newer input twice, the second time as it comes."""
    halved: bool = False
    """Whether the newer input has half the size of the older one."""


def write_cell(net: Network, cell: Wiring, place: Place, inputs: Inputs) -> Feature:
    """The output of a cell."""
    path, width, older = place.path, place.width, inputs.older
    states = [optional(net, cell.heard[0], inputs.newer, lambda f: _projected(net, f"{path}newer", f, width))]
    if older is None:
        states.append(inputs.newer)
    else:
        fitted = optional(net, cell.heard[1], older, lambda f: fit(net, f"{path}older", f, width, inputs.halved))
        states.append(fitted)
    sides = [-(-side // place.stride) for side in (inputs.newer.height, inputs.newer.width)]
    for k, block in enumerate(cell.genes.blocks):
        state = Feature(width, sides[0], sides[1])
        with net.only(cell.heard[k + 2]) as there:
            if there is not False:
                y = _write_block(net, cell.of, place, f"{path}{k}.", block, states)
                state = Feature(y.channels, sides[0], sides[1], y.node)  # of this size whatever the block reads
        states.append(state)
    return _write_output(net, cell, place, states)


def fit(net: Network, name: str, x: Feature, width: Count, halved: bool) -> Feature:
    """A feature at another width and, where `halved`, at half its size.

    Two 1 x 1 convolutions halve the map, one on every second position and one on those between; each gives half
    the channels (the factorised reduction).
    """
    if not halved:
        return optional(net, x.channels != width, x, lambda f: _projected(net, name, f, width))
    x = net.apply(Activation("relu"), x)
    even = net.layer(f"{name}_even", Conv(width // 2), net.apply(Subsample(), x))
    odd = net.layer(f"{name}_odd", Conv(width - width // 2), net.apply(Subsample(shifted=True), x))
    return net.layer(f"{name}_norm", BatchNorm(stored=1), net.apply(Concat(), even, odd))


def _write_output(net: Network, cell: Wiring, place: Place, states: list[Feature]) -> Feature:
    """The cell's output states side by side, its own inputs fitted to it."""
    for k in (0, 1):
        states[k] = optional(
            net,
            cell.outputs[k],
            states[k],
            lambda f, k=k: fit(net, f"{place.path}output_{k}", f, place.width, place.stride > 1),  # type: ignore[misc]
        )
    last = states[-1]
    nothing = Feature(0, last.height, last.width, ())
    chosen = zip(cell.outputs, states, strict=True)
    return net.apply(Concat(), *[net.select(mask, state, nothing) for mask, state in chosen if mask is not False])


def _write_block(
    net: Network, of: Values, place: Place, path: str, block: BlockGenes, states: Sequence[Feature]
) -> Feature:
    first, second = (
        _write_operation(net, of, place, f"{path}{side}.", chosen, operation, states)
        for side, chosen, operation in zip(("first", "second"), block.inputs, block.operations, strict=True)
    )
    return one_of(
        net,
        [
            (of.among(block.combine, "add"), lambda: net.apply(Add(), first, second)),
            (of.among(block.combine, "concat"), lambda: net.apply(Concat(), first, second)),
        ],
    )


def _write_operation(
    net: Network,
    of: Values,
    place: Place,
    path: str,
    chosen: Variable,
    operation: Variable,
    states: Sequence[Feature],
) -> Feature:
    """One operation of a block on the state that it reads; only a cell's own inputs are strided over."""
    numbers = [int(v) for v in chosen.values]
    x = states[numbers[0]]
    for number in numbers[1:]:
        x = net.select(of.among(chosen, number), states[number], x)
    stride = where(of.among(chosen, 0, 1), place.stride, 1)
    width, kernel = place.width, _kernel(of, operation)
    changes = x.channels != width
    y = one_of(
        net,
        [
            (of.among(operation, *SEPARABLE), lambda: _separable(net, path, x, width, kernel, stride)),
            (
                of.among(operation, *PLAIN),
                lambda: _projected(
                    net, f"{path}conv", x, width, kernel, stride, where(of.among(operation, "dil3"), 2, 1)
                ),
            ),
            (of.among(operation, *FACTORISED), lambda: _factorised(net, path, x, width, kernel, stride)),
            (
                of.among(operation, *POOLS),
                lambda: _pooled(net, path, x, width, of.word(operation), stride, changes),
            ),
            (
                of.among(operation, "identity"),
                lambda: optional(
                    net, changes | (stride > 1), x, lambda f: _projected(net, f"{path}conv", f, width, 1, stride)
                ),
            ),
        ],
    )
    if not place.drop:
        return y
    return optional(
        net,
        negated(of.among(operation, "identity")),
        y,
        lambda f: net.layer(f"{path}drop_path", DropPath(place.drop, scheduled=True), f),
    )


def _projected(
    net: Network, name: str, x: Feature, width: Count, kernel: Count = 1, stride: Count = 1, dilation: Count = 1
) -> Feature:
    """ReLU, convolution, batch norm."""
    return conv_norm(net, name, Conv(width, kernel, stride, dilation=dilation), net.apply(Activation("relu"), x))


def _separable(net: Network, path: str, x: Feature, width: Count, kernel: Count, stride: Count) -> Feature:
    """Twice a depthwise and a 1 x 1 convolution without a norm between them."""
    for turn, step in ((1, stride), (2, 1)):
        x = net.apply(Activation("relu"), x)
        x = net.layer(f"{path}depthwise_{turn}", Depthwise(kernel, step), x)
        x = conv_norm(net, f"{path}pointwise_{turn}", Conv(width), x)
    return x


def _factorised(net: Network, path: str, x: Feature, width: Count, kernel: Count, stride: Count) -> Feature:
    """A 1 x k convolution, then a k x 1 one."""
    for name, window, step in (("row", (1, kernel), (1, stride)), ("column", (kernel, 1), (stride, 1))):
        conv = Conv(width, window, step)
        x = conv_norm(net, f"{path}{name}", conv, net.apply(Activation("relu"), x))
    return x


def _pooled(net: Network, path: str, x: Feature, width: Count, kind: str, stride: Count, changes: Mask) -> Feature:
    size = int(kind[3:]) if kind in POOLS else 3  # a population's first network may have no pooling here
    y = net.apply(Pool("average" if kind == "avg3" else "max", size, stride), x)
    return optional(net, changes, y, lambda f: conv_norm(net, f"{path}conv", Conv(width), f))


def _kernel(of: Values, operation: Variable) -> Count:
    """The side of the operation's window; of identities 1."""
    sides = {side: [str(v) for v in operation.values if str(v).endswith(str(side))] for side in (3, 5, 7)}
    kernel: Count = 1
    for side, names in sides.items():
        if names:
            kernel = where(of.among(operation, *names), side, kernel)
    return kernel
