"""From a walk to a torch module: every named operation a submodule, the order of the walk the forward pass.

The network is a `torch.fx.GraphModule`: its layers sit under the names of the walk (``model.stages[0]``), and
``print(model.code)`` shows its forward pass as Python.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn
from typing_extensions import override

from search_spaces.feature import Feature, Mask
from search_spaces.modules.functions import call
from search_spaces.modules.layers import DropPath, module
from search_spaces.network import Network, Training, renamed
from search_spaces.operations import Operation


class Builder(Network):
    """Records the walk through one network as an fx graph over fresh modules."""

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.root = nn.Module()
        self.graph = fx.Graph()

    @override
    def start(self, x: Feature) -> Feature:
        return renamed(x, self.graph.placeholder("x"))

    @override
    def layer(self, name: str, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if self.there is False:
            return y
        _place(self.root, name, module(operation, *inputs))
        return renamed(y, self.graph.call_module(name, tuple(x.node for x in inputs)))

    @override
    def apply(self, operation: Operation, *inputs: Feature) -> Feature:
        y = operation.output(*inputs)
        if self.there is False:
            return y
        return renamed(y, call(operation, self.graph, *inputs))

    @override
    def select(self, mask: Mask, yes: Feature, no: Feature) -> Feature:
        return yes if mask else no


def build(walk: Callable[[Network], Feature], training: Training, name: str) -> fx.GraphModule:
    """The network that `walk` writes down, with fresh weights."""
    builder = Builder(training)
    builder.graph.output(walk(builder).node)
    return fx.GraphModule(builder.root, builder.graph, class_name=name)


def set_progress(model: nn.Module, done: float) -> None:
    """Tell scheduled parts how much of the training, 0 to 1, is done."""
    for part in model.modules():
        if isinstance(part, DropPath):
            part.progress = done


def _place(root: nn.Module, path: str, part: nn.Module) -> None:
    *parents, name = path.split(".")
    here = root
    for parent in parents:
        inner = getattr(here, parent, None)
        if inner is None:
            inner = nn.Module()
            here.add_module(parent, inner)
        here = inner
    assert not hasattr(here, name), f"two layers are called {path}"
    here.add_module(name, part)
