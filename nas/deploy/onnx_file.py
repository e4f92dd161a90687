"""The ONNX file of a network, its weights packed as its policy says."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from nas.deploy.onnx_graph import onnx_graph
from nas.deploy.packed_weights import PackedWeights
from nas.evaluators.quantize import Quantized, folded, quantized
from predictors.threads import seeded_torch
from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace, ImageSection
from search_spaces.transformer_document import TextTransformerDocument


def onnx_file(network: Quantized, example: Tensor) -> bytes:
    """The file of a network.

    Args:
        network: its model from `DeclaredSpace.build`.
        example: what the network reads, shape (n, channels, height, width), or word numbers (n, length).
    """
    assert isinstance(network.model, fx.GraphModule)
    model = folded(network.model)
    data: bytes = onnx_graph(
        model, example, PackedWeights(model, network.policy, network.grids)
    ).SerializeToString()
    return data


def untrained_file(space: DeclaredSpace, arch: Architecture, seed: int = 0) -> bytes:
    """The file of a network with random weights, which is as fast and as large as a trained one."""
    with seeded_torch(seed):
        model = space.build(arch)
    example = random_examples(space, 1)
    return onnx_file(quantized(model, space.policy(arch), [example]), example)


def random_examples(space: DeclaredSpace, count: int, seed: int = 0) -> Tensor:
    """What networks of the space read: images, or word numbers. Touches no global generator."""
    document, generator = space.document, torch.Generator().manual_seed(seed)
    if isinstance(document, ImageSection):
        return torch.randn(count, *document.input, generator=generator)
    assert isinstance(document, TextTransformerDocument)
    text = document.input
    return torch.randint(text.vocabulary, (count, text.length), generator=generator)
