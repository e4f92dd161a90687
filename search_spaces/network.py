"""How a family writes a network down, once, for costs, for drawings and for torch alike.

A family's `write` walks through a network from input to output and names every operation. What listens decides
what comes of it: `Tally` adds up costs of a whole population, `Outline` lists one network's layers, and
`search_spaces.modules` builds it. Where the networks of a population differ in structure, the walk goes through
all alternatives, each inside `only(mask)`, and `select` says which result goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from search_spaces.feature import Count, Feature, Mask, both, simplified, where
from search_spaces.operations import (
    Activation,
    Add,
    BatchNorm,
    Conv,
    Depthwise,
    DropPath,
    GlobalPool,
    Multiply,
    Operation,
)


@dataclass(frozen=True)
class Training:
    """What a recipe changes in the network itself; no cost depends on it."""

    dropout: float = 0.0
    """Rate before the classifier."""
    stochastic_depth: float = 0.0
    """Drop rate of the last residual branch; that of the others rises linearly to it."""


class Network:
    """Listens to a walk. Subclasses override `layer`, `apply`, `select` and `start` to make something of it."""

    def __init__(self, training: Training | None = None) -> None:
        self.training = training or Training()
        self.there: Mask = True
        """In which networks of the population the walk goes through what really is."""
        self.count: Count = 1
        """How many equal parts in a row, in each network, stand for what the walk goes through."""
        self.folds = False
        """Whether equal parts in a row may be walked through once, as `times` so many."""

    def start(self, x: Feature) -> Feature:
        """The input."""
        return x

    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        """An operation with a name of its own: it has parameters, or acts while training only."""
        return operation.output(*inputs)

    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        """An operation without parameters."""
        return operation.output(*inputs)

    def select(self, mask: Mask, yes: Feature, no: Feature) -> Feature:
        """`yes` in the networks where the mask holds, `no` in the others."""
        if isinstance(mask, bool):
            return yes if mask else no
        sizes = [where(mask, getattr(yes, a), getattr(no, a)) for a in ("channels", "height", "width")]
        return Feature(*sizes)

    def only(self, mask: Mask) -> Within:
        """What is walked inside exists only where the mask holds; gives False where it does nowhere."""
        return Within(self, "there", simplified(both(self.there, mask)))

    def times(self, count: Count) -> Within:
        """What is walked inside stands for `count` equal parts in a row."""
        return Within(self, "count", self.count * count)


class Within:
    """An attribute of a network that has another value for a while; a generator would be slow here."""

    __slots__ = ("_before", "_name", "_net", "_value")

    def __init__(self, net: Network, name: str, value: Mask | Count) -> None:
        self._net, self._name, self._value = net, name, value

    def __enter__(self) -> Any:
        self._before = getattr(self._net, self._name)
        setattr(self._net, self._name, self._value)
        return self._value

    def __exit__(self, *_: object) -> None:
        setattr(self._net, self._name, self._before)


def runs(net: Network, most: int, count: Count, alike: int) -> Iterator[tuple[int, Count]]:
    """The positions of a row of `count` parts (`most` at the most) to walk through, and how many each stands for.

    From position `alike` on all parts are equal; a listener that folds hears of them once.
    """
    for position in range(most):
        if net.folds and position == alike:
            yield position, count - position
            return
        yield position, 1


def optional(net: Network, mask: Mask, x: Feature, walk: Callable[[Feature], Feature]) -> Feature:
    """``walk(x)`` in the networks where the mask holds, `x` itself in the others."""
    with net.only(mask) as there:
        if there is False:
            return x
        y = walk(x)
    return net.select(mask, y, x)


def one_of(net: Network, cases: Iterable[tuple[Mask, Callable[[], Feature]]]) -> Feature:
    """The result of the case whose mask holds; in every network exactly one does."""
    found: Feature | None = None
    for mask, walk in cases:
        with net.only(mask) as there:
            if there is False:
                continue
            y = walk()
        found = y if found is None else net.select(mask, y, found)
    assert found is not None, "no case holds anywhere"
    return found


def conv_norm(
    net: Network, name: str, conv: Conv | Depthwise, x: Feature, activation: str | None = None
) -> Feature:
    """A convolution, its batch norm, and the activation where one is named."""
    y = net.layer(name, conv, x)
    y = net.layer(f"{name}_norm", BatchNorm(stored=0 if conv.bias else 1), y)
    return net.apply(Activation(activation), y) if activation else y


@dataclass(frozen=True)
class Excitation:
    """The form of a squeeze-and-excitation (Hu et al. 2018)."""

    activation: str = "relu"
    gate: str = "hard_sigmoid"


def squeeze_excite(net: Network, name: str, x: Feature, squeezed: Count, form: Excitation) -> Feature:
    """Channels weighed by what the whole map holds.

    Two 1 x 1 convolutions with biases, ``<name>squeeze`` to `squeezed` channels and ``<name>excite`` back.
    """
    y = net.apply(GlobalPool(flat=False), x)
    y = net.apply(Activation(form.activation), net.layer(f"{name}squeeze", Conv(squeezed, bias=True), y))
    y = net.apply(Activation(form.gate), net.layer(f"{name}excite", Conv(x.channels, bias=True), y))
    return net.apply(Multiply(), x, y)


def residual(net: Network, name: str, x: Feature, branch: Feature, mask: Mask, depth: float) -> Feature:
    """``x + branch`` where the mask holds, else the branch alone.

    While training a branch is dropped at `depth` (0 at the input, 1 at the output) of the recipe's rate.
    """

    def added(y: Feature) -> Feature:
        rate = net.training.stochastic_depth * depth
        return net.apply(Add(), x, net.layer(f"{name}drop_path", DropPath(rate), y) if rate else y)

    return optional(net, mask, branch, added)


def renamed(x: Feature, node: object) -> Feature:
    """The same sizes under another node."""
    return Feature(x.channels, x.height, x.width, node)
