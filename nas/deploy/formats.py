"""A network for torch itself: a program of `torch.export`, and the plain weights."""

from __future__ import annotations

import io
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from nas.evaluators.quantize import Quantized, folded
from predictors.threads import seeded_torch
from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace


def program(network: Quantized, example: Tensor) -> bytes:
    """A ``.pt2`` file: the simulated network (floats that compute what its integers would), for any batch.

    ``torch.export.load(path).module()`` is the network; torch alone is needed for that.

    Args:
        network: its model from `DeclaredSpace.build`.
        example: what the network reads, shape (n, channels, height, width), or word numbers (n, length).
    """
    model = replace(network, grids={}).simulated()
    assert isinstance(model, fx.GraphModule)
    _round_inputs(model, network)
    two = torch.cat([example[:1], example[:1]])  # of one example torch takes it that there will never be more
    with torch.no_grad():
        exported = torch.export.export(model.eval(), (two,), dynamic_shapes=({0: Dim("batch")},))
    content = io.BytesIO()
    torch.export.save(exported, content)
    return content.getvalue()


def read_program(content: bytes) -> nn.Module:
    """The network in what `program` gave."""
    loaded: nn.Module = torch.export.load(io.BytesIO(content)).module()
    return loaded


def state(network: Quantized) -> bytes:
    """A ``.pt`` file: the weights in floating point by their names, batch norms folded.

    ``torch.load(path, weights_only=True)`` gives the tensors; they fit into ``folded(space.build(architecture))``.
    How they are rounded, and on which grids activations lie, the policy in the model card says.
    """
    assert isinstance(network.model, fx.GraphModule)
    weights = {name: value.detach().cpu() for name, value in folded(network.model).state_dict().items()}
    content = io.BytesIO()
    torch.save(weights, content)
    return content.getvalue()


def read_state(content: bytes, space: DeclaredSpace, arch: Architecture) -> nn.Module:
    """The network in floating point that `state` gave the weights of."""
    with seeded_torch(0):  # fresh weights are thrown away; whoever draws beside us goes on as before
        model = space.build(arch)
    assert isinstance(model, fx.GraphModule)
    folding = folded(model)
    folding.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return folding


def rounded(x: Tensor, scale: float, low: int, high: int) -> Tensor:
    """Activations on a grid whose steps lie from `low` to `high` around 0."""
    return (x / scale).round().clamp(low, high) * scale


def _round_inputs(model: fx.GraphModule, network: Quantized) -> None:
    """Write the grids of activations into the graph itself: hooks are lost in some ways of copying."""
    for node in model.graph.nodes:
        grid = network.grids.get(str(node.target)) if node.op == "call_module" else None
        if grid is not None:
            with model.graph.inserting_before(node):
                found = model.graph.call_function(rounded, (node.args[0], grid.scale, grid.low, grid.high))
            node.args = (found, *node.args[1:])
    model.recompile()
