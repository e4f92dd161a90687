"""A network as an ONNX graph, written down node by node from its fx graph.

Every layer and function of `search_spaces.modules` has its few operators here, so the graph is as small as it can
be and writing takes milliseconds: a network of digits has less than 4 KB of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol, cast

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from typing_extensions import override

from nas.deploy.onnx_functions import FUNCTIONS, Value
from nas.deploy.sheet import INPUT, Page
from search_spaces.modules.layers import Auxiliary, ClassToken, DropPath, Positions, Segments


class Weights(Protocol):
    """How weights are stored and what becomes of the inputs of their layers."""

    def weight(self, page: Page, name: str, turned: bool) -> str:
        """A layer's weight, its output channels on the first axis; `turned`: on the second of two."""

    def read(self, page: Page, name: str, x: str) -> str:
        """What the layer reads in place of `x`."""


def onnx_graph(model: fx.GraphModule, example: Tensor, weights: Weights) -> onnx.ModelProto:
    """The model in eval mode from `input`, any number of examples, to `logits`.

    Args:
        model: from `DeclaredSpace.build`; it is not changed.
        example: shape (n, channels, height, width), or word numbers (n, length).
        weights: for convolutions, linear layers and embeddings.

    Raises:
        TypeError: for a module or a function that has no form in ONNX here.
    """
    shapes = _shapes(model, example)
    page, values = Page(), dict[fx.Node, Value]()
    for node in model.graph.nodes:
        args, kwargs = cast(Any, map_arg((node.args, node.kwargs), lambda n: cast(Any, values[n])))
        if node.op == "placeholder":
            name = INPUT
        elif node.op == "output":
            name = args[0].name
        elif node.op == "call_module":
            name = layer(model.get_submodule(node.target), Place(page, weights, node.target), *args)
        else:
            name = _function(node)(page, *args, **kwargs)
        values[node] = Value(name, shapes[node])
    kind = TensorProto.FLOAT if example.is_floating_point() else TensorProto.INT64
    return page.model(kind, example.shape[1:], values[node].name, shapes[node][1])


def _shapes(model: fx.GraphModule, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """Of what every node gives for the example."""
    seen: dict[fx.Node, tuple[int, ...]] = {}

    class Shapes(fx.Interpreter):
        @override
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            seen[n] = tuple(result.shape)
            return result

    with torch.no_grad():
        Shapes(model).run(example)
    return seen


@dataclass(frozen=True)
class Place:
    """Where a layer is written."""

    page: Page
    weights: Weights
    name: str
    """The layer's."""

    def weight(self, turned: bool = False) -> str:
        """The layer's weight."""
        return self.weights.weight(self.page, self.name, turned)

    def read(self, x: Value) -> str:
        """What the layer reads in place of `x`."""
        return self.weights.read(self.page, self.name, x.name)

    def array(self, values: Tensor) -> str:
        """A constant."""
        return self.page.tensor(values.detach().cpu().numpy())


@singledispatch
def layer(module: nn.Module, at: Place, x: Value) -> str:
    """Write a layer down; the name of what it gives."""
    raise TypeError(f"{at.name}: {type(module).__name__} has no form in ONNX here")


@layer.register
def _(module: nn.Conv2d, at: Place, x: Value) -> str:
    assert isinstance(module.padding, tuple)
    bias = [] if module.bias is None else [at.array(module.bias)]
    return at.page.node(
        "Conv",
        *(at.read(x), at.weight(), *bias),
        strides=_unless(module.stride, 1),
        pads=_unless((*module.padding, *module.padding), 0),
        dilations=_unless(module.dilation, 1),
        group=None if module.groups == 1 else module.groups,
    )


@layer.register
def _(module: nn.Linear, at: Place, x: Value) -> str:
    read, bias = at.read(x), [] if module.bias is None else [at.array(module.bias)]
    if len(x.shape) == 2:
        return at.page.node("Gemm", read, at.weight(), *bias, transB=1)
    y = at.page.node("MatMul", read, at.weight(turned=True))
    return at.page.node("Add", y, *bias) if bias else y


@layer.register
def _(module: nn.Embedding, at: Place, x: Value) -> str:
    return at.page.node("Gather", at.weight(turned=True), x.name)


@layer.register
def _(module: nn.BatchNorm2d, at: Place, x: Value) -> str:
    """One that could not be folded: two vectors."""
    assert module.running_var is not None
    assert module.running_mean is not None
    scale = module.weight / (module.running_var + module.eps).sqrt()
    shift = module.bias - module.running_mean * scale
    y = at.page.node("Mul", x.name, at.array(scale[:, None, None]))
    return at.page.node("Add", y, at.array(shift[:, None, None]))


@layer.register
def _(module: nn.LayerNorm, at: Place, x: Value) -> str:
    scale, shift = at.array(module.weight), at.array(module.bias)
    return at.page.node("LayerNormalization", x.name, scale, shift, epsilon=module.eps)


@layer.register
def _(module: Positions, at: Place, x: Value) -> str:
    table = at.array(module.weight)
    if module.weight.shape[1] > x.shape[1]:
        table = at.page.node("Slice", table, at.page.ints(0), at.page.ints(x.shape[1]), at.page.ints(1))
    return at.page.node("Add", x.name, table)


@layer.register
def _(module: Segments, at: Place, x: Value) -> str:
    return at.page.node("Add", x.name, at.page.node("Gather", at.array(module.weight), at.page.ints(0)))


@layer.register
def _(module: ClassToken, at: Place, x: Value) -> str:
    page = at.page
    examples = page.node("Shape", INPUT, end=1)  # that of a turned value ONNX Runtime gets wrong
    shape = page.node("Concat", examples, page.ints(1, x.shape[2]), axis=0)
    return page.node("Concat", page.node("Expand", at.array(module.weight), shape), x.name, axis=1)


@layer.register(nn.Dropout)
@layer.register(DropPath)
@layer.register(Auxiliary)
def _(module: nn.Module, at: Place, x: Value) -> str:
    """They act while training only."""
    return x.name


def _unless(values: tuple[int, ...], default: int) -> tuple[int, ...] | None:
    """None where they are all as they are anyway."""
    return None if set(values) == {default} else values


def _function(node: fx.Node) -> Callable[..., str]:
    """How a function, or a method of tensors, is written down."""
    if node.target not in FUNCTIONS:
        raise TypeError(f"{node.name}: {node.target} has no form in ONNX here")
    return FUNCTIONS[node.target]
